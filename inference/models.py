"""Conversations: questions and their answers, kept with everything needed to show them again."""

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.db import models

from indexer.models import Corpus, Recipe


class Conversation(models.Model):
    """A person's questions to one corpus: a tree, of which a page shows one path. Private to that person."""

    TITLE = 200  # characters

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations")
    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=TITLE)
    current = models.ForeignKey(
        "Turn",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Where the path that was shown last ends.",
    )
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-changed"]
        indexes = [models.Index(fields=["user", "-changed"])]

    def __str__(self) -> str:
        return self.title


class Turn(models.Model):
    """One question and its answer. The row exists from the moment of asking, so a reload loses nothing.

    Turns that follow the same turn are alternatives: the question asked again, or worded differently.
    """

    class State(models.TextChoices):
        ASKED = "asked"
        ANSWERED = "answered"
        FAILED = "failed"

    class Rating(models.TextChoices):
        UP = "up", "good"
        DOWN = "down", "bad"

    class Fault(models.TextChoices):
        WRONG = "wrong", "It is wrong"
        UNSOURCED = "unsourced", "It is not in the sources"
        INCOMPLETE = "incomplete", "It is incomplete"
        OUTDATED = "outdated", "It is out of date"
        OTHER = "other", "Something else"

    COMMENT = 1000  # characters

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="turns")
    parent = models.ForeignKey(
        "self",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="children",
        help_text="The turn this one follows; none for a first question.",
    )
    question = models.TextField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.ASKED)
    reason = models.TextField(blank=True, help_text="Why no answer came, for a person.")
    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="+", help_text="The answer recipe used.")
    text = models.TextField(blank=True, help_text="The answer, with markers [n].")
    finish_reason = models.CharField(max_length=20, blank=True)
    sentences = models.JSONField(default=list, help_text="Start, end, support and citation numbers of each sentence.")
    citations = models.JSONField(default=list, help_text="The fields of ragplat.types.Citation, in order.")
    trace = models.JSONField(default=dict)
    rating = models.CharField(max_length=10, choices=Rating.choices, blank=True, help_text="What the person thinks.")
    fault = models.CharField(max_length=20, choices=Fault.choices, blank=True, help_text="What is bad about it.")
    comment = models.TextField(max_length=COMMENT, blank=True, help_text="The person's own words about the answer.")
    pulse = models.DateTimeField(null=True, help_text="When the process that makes the answer last said so.")
    watched = models.DateTimeField(null=True, help_text="When somebody last followed it through another process.")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        # Which answers cite a document that is being deleted.
        indexes = [GinIndex(name="turn_citations", fields=["citations"], opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.question[:80]
