"""Recipes and indexes in the administration."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from indexer.models import Index, Recipe
from indexer.probe import probe
from ragplat.admin import ReadOnlyAdmin


@admin.register(Recipe)
class RecipeAdmin(ReadOnlyAdmin):
    """A recipe never changes: saving makes the next version of its name."""

    list_display = ("__str__", "kind", "digest", "params", "created", "new_version")
    list_filter = ("kind", "name")
    search_fields = ("name", "digest")
    fields = ("kind", "name", "params")

    def has_add_permission(self, request) -> bool:
        return request.user.has_perm("indexer.add_recipe")

    def get_fields(self, request: HttpRequest, obj: Recipe | None = None) -> tuple[str, ...]:
        return self.fields if obj is None else (*self.fields, "version", "digest", "created", "new_version")

    def get_readonly_fields(self, request: HttpRequest, obj: Recipe | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """`?from=ID` begins with the parameters of that recipe."""
        pk = request.GET.get("from", "")
        old = Recipe.objects.filter(pk=int(pk)).first() if pk.isascii() and pk.isdigit() else None
        return {"kind": old.kind, "name": old.name, "params": old.params} if old else {}

    def save_model(self, request: HttpRequest, obj: Recipe, form, change: bool) -> None:
        latest = Recipe.objects.filter(kind=obj.kind, name=obj.name).aggregate(latest=Max("version"))["latest"]
        obj.version = (latest or 0) + 1
        obj.save()

    @admin.display(description="")
    def new_version(self, obj: Recipe) -> str:
        address = reverse("admin:indexer_recipe_add")
        return format_html('<a href="{}?from={}">New version from this</a>', address, obj.pk)


@admin.register(Index)
class IndexAdmin(ReadOnlyAdmin):
    """Indexes are looked at here; `manage.py reindex` builds, swaps and removes them."""

    list_display = ("id", "corpus", "recipe", "state", "since", "documents", "chunks", "unfit", "measure")
    list_filter = ("state", ("corpus", admin.RelatedOnlyFieldListFilter))
    search_fields = ("corpus__title", "corpus__slug", "recipe__name", "fingerprint")
    list_select_related = ("corpus", "recipe")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Index]:
        rows = super().get_queryset(request).select_related("corpus", "recipe")
        return rows.annotate(
            documents_in=Count("indexed", filter=Q(indexed__chunks__gt=0)),
            chunks_in=Sum("indexed__chunks", default=0),
            unfit_for=Count("indexed", filter=Q(indexed__chunks=0)),
        )

    @admin.display(ordering="documents_in")
    def documents(self, obj: Index) -> str:
        return f"{obj.documents_in:,}"

    @admin.display(ordering="chunks_in")
    def chunks(self, obj: Index) -> str:
        return f"{obj.chunks_in:,}"

    @admin.display(ordering="unfit_for", description="cannot be indexed")
    def unfit(self, obj: Index) -> str:
        return f"{obj.unfit_for:,}" if obj.unfit_for else ""

    def get_urls(self) -> list[URLPattern]:
        measure = self.admin_site.admin_view(self.recall)
        return [path("<int:pk>/recall/", measure, name="indexer_index_recall"), *super().get_urls()]

    @admin.display(description="")
    def measure(self, obj: Index) -> str:
        return format_html('<a href="{}">Measure recall</a>', reverse("admin:indexer_index_recall", args=[obj.pk]))

    def recall(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What each store of an index finds, beside the exact scan."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        index = get_object_or_404(self.get_queryset(request), pk=pk)
        shown = {"title": f"Recall of {index}", "probes": probe(index, queries=20)}
        context = self.admin_site.each_context(request) | shown
        return TemplateResponse(request, "admin/indexer/index/recall.html", context)
