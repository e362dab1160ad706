"""Whose conversation it is. Conversations are private, and leave with the right to read their corpus."""

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import QuerySet

from indexer.access import visible_corpora
from inference.models import Conversation, Turn
from ragplat.errors import NotFound


def conversations_of(user: AbstractBaseUser) -> QuerySet[Conversation]:
    """A person's own conversations with the corpora they may still read."""
    return Conversation.objects.filter(user=user, corpus__in=visible_corpora(user))


def conversation_for(user: AbstractBaseUser, pk: int) -> Conversation:
    """A person's own conversation. Raises NotFound."""
    found = conversations_of(user).select_related("corpus").filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such conversation. It may have been deleted.")
    return found


def turn_for(user: AbstractBaseUser, pk: int) -> Turn:
    """A turn of a person's own conversation. Raises NotFound."""
    rows = Turn.objects.select_related("conversation__corpus", "recipe")
    found = rows.filter(pk=pk, conversation__in=conversations_of(user)).first()
    if found is None:
        raise NotFound("There is no such answer. It may have been deleted.")
    return found
