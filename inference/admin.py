"""Conversations and their turns in the administration: read-only, they are what people asked."""

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from inference.models import Conversation, Turn
from ragplat.admin import ReadOnlyAdmin


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyAdmin):
    list_display = ("title", "user", "corpus", "turns", "changed")
    list_filter = (("corpus", admin.RelatedOnlyFieldListFilter), "changed")
    search_fields = ("title", "user__username")
    list_select_related = ("user", "corpus")

    def has_delete_permission(self, request, obj=None) -> bool:
        return request.user.has_perm("inference.delete_conversation")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        return super().get_queryset(request).annotate(turn_count=Count("turns"))

    @admin.display(ordering="turn_count")
    def turns(self, obj: Conversation) -> str:
        address = reverse("admin:inference_turn_changelist")
        return format_html('<a href="{}?conversation__id__exact={}">{}</a>', address, obj.pk, obj.turn_count)


@admin.register(Turn)
class TurnAdmin(ReadOnlyAdmin):
    list_display = ("short_question", "state", "finish_reason", "rating", "asked_by", "corpus", "recipe", "created")
    list_filter = (
        "rating", "fault", "state", "finish_reason",
        ("conversation__corpus", admin.RelatedOnlyFieldListFilter), "created",
    )  # fmt: skip
    search_fields = ("question", "text", "comment", "conversation__user__username")
    list_select_related = ("conversation__user", "conversation__corpus", "recipe")
    ordering = ("-id",)
    fields = (
        "conversation", "parent", "question", "state", "reason", "text", "finish_reason", "rating", "fault", "comment",
        "recipe", "sentences", "citations", "trace", "created",
    )  # fmt: skip

    @admin.display(description="question")
    def short_question(self, obj: Turn) -> str:
        return str(obj)

    @admin.display(ordering="conversation__user", description="asked by")
    def asked_by(self, obj: Turn) -> str:
        return str(obj.conversation.user)

    @admin.display(ordering="conversation__corpus")
    def corpus(self, obj: Turn) -> str:
        return str(obj.conversation.corpus)
