"""Corpora, documents and chunks in the administration."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html

from indexer import documents, store
from indexer.models import Chunk, Corpus, Document, Index, Membership
from indexer.views.corpora import with_counts
from ragplat.admin import ReadOnlyAdmin
from ragplat.errors import BadInput

PREVIEW = 5_000  # characters of a document's text


class MembershipInline(admin.TabularInline):
    model = Membership
    raw_id_fields = ("user", "group")
    extra = 0


@admin.register(Corpus)
class CorpusAdmin(admin.ModelAdmin):
    """A corpus needs an index, so it is made on the corpora page or by `manage.py ingest`; here it is changed."""

    list_display = ("title", "slug", "language", "documents", "ready", "working", "failed", "chunks", "last_change")
    list_filter = ("language",)
    search_fields = ("title", "slug", "description")
    readonly_fields = ("slug", "created")
    raw_id_fields = ("answer_recipe",)
    inlines = (MembershipInline,)
    show_full_result_count = False

    def has_add_permission(self, request) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Corpus]:
        return with_counts(super().get_queryset(request))

    def view_on_site(self, obj: Corpus) -> str:
        return reverse("corpus", args=[obj.slug])

    @admin.display(ordering="total")
    def documents(self, obj: Corpus) -> str:
        address = reverse("admin:indexer_document_changelist")
        return format_html('<a href="{}?corpus__id__exact={}">{}</a>', address, obj.pk, f"{obj.total:,}")

    @admin.display(ordering="ready")
    def ready(self, obj: Corpus) -> int:
        return obj.ready

    @admin.display(ordering="working", description="under way")
    def working(self, obj: Corpus) -> int:
        return obj.working

    @admin.display(ordering="failed")
    def failed(self, obj: Corpus) -> int:
        return obj.failed

    @admin.display(ordering="chunks_total")
    def chunks(self, obj: Corpus) -> str:
        return f"{obj.chunks_total:,}"

    @admin.display(ordering="last_change", description="last change")
    def last_change(self, obj: Corpus):
        return obj.last_change


@admin.register(Document)
class DocumentAdmin(ReadOnlyAdmin):
    """Documents are looked at, retried and deleted; of their fields, the tags are changed here."""

    list_display = ("name", "corpus", "state", "chunks", "bytes", "changed", "short_reason")
    list_filter = ("state", ("corpus", admin.RelatedOnlyFieldListFilter), "permanent", "language")
    search_fields = ("name", "title", "sha256")
    search_help_text = "Name, title or hash"
    list_select_related = ("corpus",)
    actions = ("retry",)
    fieldsets = (
        (None, {"fields": ("name", "title", "corpus", "tags", "state", "reason", "permanent", "attempts")}),
        ("File", {"fields": ("media_type", "bytes", "sha256", "uploaded_by", "created", "changed")}),
        ("Index", {"fields": ("language", "dated", "chunks", "stored_count", "coverage")}),
        ("Text", {"fields": ("preview",), "classes": ("collapse",)}),
    )

    def has_change_permission(self, request, obj=None) -> bool:
        return request.user.has_perm("indexer.change_document")

    def get_readonly_fields(self, request: HttpRequest, obj: Document | None = None) -> tuple[str, ...]:
        fields = (name for _, options in self.fieldsets for name in options["fields"])
        return tuple(name for name in fields if name != "tags")

    def save_model(self, request: HttpRequest, obj: Document, form, change: bool) -> None:
        obj.save(update_fields=["tags", "changed"])  # indexing may be changing the rest right now

    def has_delete_permission(self, request, obj=None) -> bool:
        return request.user.has_perm("indexer.delete_document")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Document]:
        return super().get_queryset(request).defer("text", "pages")

    def view_on_site(self, obj: Document) -> str:
        return reverse("document", args=[obj.pk])

    @admin.display(description="reason")
    def short_reason(self, obj: Document) -> str:
        return obj.reason if len(obj.reason) <= 120 else f"{obj.reason[:119]}…"

    @admin.display(ordering="chunk_count")
    def chunks(self, obj: Document) -> str:
        address = reverse("admin:indexer_chunk_changelist")
        query = f"document__id__exact={obj.pk}&index__state__exact={Index.State.ACTIVE}"
        return format_html('<a href="{}?{}">{}</a>', address, query, f"{obj.chunk_count:,}")

    @admin.display(ordering="size", description="size")
    def bytes(self, obj: Document) -> str:
        return filesizeformat(obj.size)

    @admin.display(description="text")
    def preview(self, obj: Document) -> str:
        rest = f"\n… and {len(obj.text) - PREVIEW:,} characters more" if len(obj.text) > PREVIEW else ""
        return format_html("<pre>{}</pre>", obj.text[:PREVIEW] + rest)

    @admin.action(description="Retry the documents that failed or are empty")
    def retry(self, request: HttpRequest, queryset: QuerySet[Document]) -> None:
        queued = 0
        for one in queryset:
            try:
                documents.retry(one)
                queued += 1
            except BadInput as error:
                self.message_user(request, error.message, messages.WARNING)
        if queued:
            self.message_user(request, f"{queued} in the queue again.", messages.SUCCESS)


@admin.register(Chunk)
class ChunkAdmin(ReadOnlyAdmin):
    """Chunks are browsed, and disabled where they should never be found."""

    list_display = ("id", "document", "ordinal", "page", "beginning", "tokens", "enabled")
    list_display_links = ("id", "beginning")
    list_filter = ("enabled", "index__state", ("index__corpus", admin.RelatedOnlyFieldListFilter))
    search_fields = ("text", "context", "document__name")
    search_help_text = "Words of the chunk, or the document's name"
    ordering = ("-id",)
    actions = ("disable", "enable")
    fields = ("document", "index", "ordinal", "page", "start", "end", "tokens", "enabled", "context", "full_text")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Chunk]:
        rows = super().get_queryset(request).select_related("document", "index__corpus", "index__recipe")
        return rows.defer("document__text", "document__pages", "document__coverage")

    def view_on_site(self, obj: Chunk) -> str:
        return f"{reverse('document', args=[obj.document_id])}?start={obj.start}&end={obj.end}"

    @admin.display(description="text")
    def beginning(self, obj: Chunk) -> str:
        return obj.text[:100]

    @admin.display(description="text")
    def full_text(self, obj: Chunk) -> str:
        return format_html("<pre>{}</pre>", obj.text)

    @admin.action(description="Disable: never find these chunks")
    def disable(self, request: HttpRequest, queryset: QuerySet[Chunk]) -> None:
        self._set(request, queryset, False)

    @admin.action(description="Enable")
    def enable(self, request: HttpRequest, queryset: QuerySet[Chunk]) -> None:
        self._set(request, queryset, True)

    def _set(self, request: HttpRequest, queryset: QuerySet[Chunk], enabled: bool) -> None:
        changed = store.set_enabled(list(queryset.values_list("pk", flat=True)), enabled)
        self.message_user(request, f"{changed} chunks {'enabled' if enabled else 'disabled'}.", messages.SUCCESS)
