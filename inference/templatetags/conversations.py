"""What the sidebar of every page shows."""

from django import template
from django.db.models import QuerySet

from inference.access import conversations_of
from inference.models import Conversation

register = template.Library()

RECENT = 20


@register.simple_tag(takes_context=True)
def recent_conversations(context: dict) -> QuerySet[Conversation] | list:
    """The newest conversations of the person who looks at the page."""
    user = getattr(context.get("request"), "user", None)
    if user is None or not user.is_authenticated:
        return []
    return conversations_of(user).only("id", "title")[:RECENT]
