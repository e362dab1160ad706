"""Conversations: questions and their answers, kept with everything needed to show them again."""

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.db import models

from indexer.models import Corpus, Recipe


class Conversation(models.Model):
    """A person's questions to one corpus, in order. Private to that person."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations")
    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=200)
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-changed"]
        indexes = [models.Index(fields=["user", "-changed"])]

    def __str__(self) -> str:
        return self.title


class Turn(models.Model):
    """One question and its answer. The row exists from the moment of asking, so a reload loses nothing."""

    class State(models.TextChoices):
        ASKED = "asked"
        ANSWERED = "answered"
        FAILED = "failed"

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="turns")
    question = models.TextField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.ASKED)
    reason = models.TextField(blank=True, help_text="Why no answer came, for a person.")
    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="+", help_text="The answer recipe used.")
    text = models.TextField(blank=True, help_text="The answer, with markers [n].")
    finish_reason = models.CharField(max_length=20, blank=True)
    sentences = models.JSONField(default=list, help_text="Start, end, support and citation numbers of each sentence.")
    citations = models.JSONField(default=list, help_text="The fields of ragplat.types.Citation, in order.")
    trace = models.JSONField(default=dict)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        # Which answers cite a document that is being deleted.
        indexes = [GinIndex(name="turn_citations", fields=["citations"], opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.question[:80]
