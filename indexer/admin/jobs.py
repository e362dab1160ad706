"""Background jobs in the administration: what waits, runs and failed, and a way to try again."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from procrastinate.contrib.django import admin as procrastinate_admin  # registers its own page, replaced below
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from indexer import documents
from indexer.models import Document
from ragplat.admin import ReadOnlyAdmin
from ragplat.errors import BadInput

admin.site.unregister(procrastinate_admin.models.ProcrastinateJob)


class EventInline(admin.TabularInline):
    model = ProcrastinateEvent
    fields = readonly_fields = ("type", "at")
    extra = 0
    can_delete = False

    def has_add_permission(self, request, obj=None) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False


@admin.register(ProcrastinateJob)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("id", "task_name", "about", "status", "attempts", "scheduled_at", "worker_id")
    list_filter = ("status", "task_name", "queue_name")
    search_fields = ("task_name", "args")
    ordering = ("-id",)
    actions = ("retry",)
    fields = ("id", "task_name", "args", "about", "status", "attempts", "scheduled_at", "queue_name", "lock", "worker")
    inlines = (EventInline,)

    @admin.display(description="about")
    def about(self, obj: ProcrastinateJob) -> str:
        """The document or index a job is about."""
        for name in ("document", "index"):
            if pk := obj.args.get(f"{name}_id"):
                return format_html(
                    '<a href="{}">{} {}</a>', reverse(f"admin:indexer_{name}_change", args=[pk]), name, pk
                )
        return ""

    @admin.action(description="Retry the jobs that failed or hang")
    def retry(self, request: HttpRequest, queryset: QuerySet[ProcrastinateJob]) -> None:
        jobs = list(queryset.filter(status__in=("failed", "doing")))
        for job in jobs:
            self._retry(request, job)
        self.message_user(request, f"{len(jobs)} of {queryset.count()} jobs queued again.", messages.SUCCESS)

    def _retry(self, request: HttpRequest, job: ProcrastinateJob) -> None:
        """A document that has failed begins anew, as its job would leave it alone; any other job runs once more."""
        settled = (Document.State.FAILED, Document.State.EMPTY)
        document = Document.objects.filter(pk=job.args.get("document_id"), state__in=settled).first()
        if document is None:
            app.job_manager.retry_job_by_id(job.pk, timezone.now(), job.priority, job.queue_name, job.lock)
            return
        try:
            documents.retry(document)
        except BadInput as error:
            self.message_user(request, error.message, messages.WARNING)
