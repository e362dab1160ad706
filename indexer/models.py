"""The corpus and what is made of it. PostgreSQL is the only record of truth; everything else follows it."""

from dataclasses import asdict
from datetime import date
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from indexer import recipes
from ragplat.errors import BadInput
from ragplat.signature import digest
from ragplat.types import AnswerRecipe, IndexRecipe


class Recipe(models.Model):
    """An immutable, versioned set of choices. Changing one makes a new version; what points at the old keeps it."""

    class Kind(models.TextChoices):
        INDEX = "index", "how documents become an index"
        ANSWER = "answer", "how a question becomes an answer"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.SlugField(max_length=60)
    version = models.PositiveIntegerField(default=1)
    params = models.JSONField(help_text="The fields of IndexRecipe or AnswerRecipe in ragplat/types.py.")
    digest = models.CharField(max_length=12, editable=False, help_text="Hash of the parameters.")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["kind", "name", "-version"]
        constraints = [models.UniqueConstraint(fields=["kind", "name", "version"], name="recipe_once")]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk:
            raise ValidationError(f"The recipe {self} never changes. Save your changes as a new version.")
        self.params = asdict(self.value())
        self.digest = digest(self.params)
        super().save(*args, **kwargs)

    def clean(self) -> None:
        self.value()

    def value(self) -> IndexRecipe | AnswerRecipe:
        """The recipe as a typed value. Raises ValidationError naming a field that makes no sense."""
        try:
            return recipes.read(IndexRecipe if self.kind == self.Kind.INDEX else AnswerRecipe, self.params)
        except BadInput as error:
            raise ValidationError(error.message) from None


@lru_cache(maxsize=256)
def recipe_value(recipe_id: int) -> IndexRecipe | AnswerRecipe:
    """The typed value of a recipe; remembered, since a recipe never changes."""
    return Recipe.objects.get(pk=recipe_id).value()


class Corpus(models.Model):
    """A set of documents that are asked together, with its own settings."""

    slug = models.SlugField(max_length=60, unique=True)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    language = models.CharField(max_length=8, default="en", help_text="Main language, such as en or zh.")
    answer_recipe = models.ForeignKey(
        Recipe, on_delete=models.PROTECT, related_name="+", limit_choices_to={"kind": Recipe.Kind.ANSWER}
    )
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["title"]
        verbose_name_plural = "corpora"

    def __str__(self) -> str:
        return self.title

    def active_index(self) -> "Index":
        # Not `self.indexes`: making that manager takes as long as the query, and every search begins here.
        index = Index.objects.get(corpus=self, state=Index.State.ACTIVE)
        index.corpus = self
        return index


class Membership(models.Model):
    """What a person, or everyone in a group, may do with a corpus. Superusers may do everything."""

    class Role(models.TextChoices):
        READER = "reader", "reads and asks"
        EDITOR = "editor", "also adds and removes documents"
        MANAGER = "manager", "also changes the corpus and its members"

    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True)
    group = models.ForeignKey("auth.Group", on_delete=models.CASCADE, null=True, blank=True)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.READER)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="membership_user_or_group",
                condition=Q(user__isnull=False, group__isnull=True) | Q(user__isnull=True, group__isnull=False),
                violation_error_message="Choose a user or a group, not both.",
            ),
            models.UniqueConstraint(fields=["corpus", "user"], name="membership_user_once"),
            models.UniqueConstraint(fields=["corpus", "group"], name="membership_group_once"),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.role} of {self.corpus}"


class Index(models.Model):
    """A corpus cut and embedded by one recipe. Its chunks and vectors lie in partitions of their own."""

    class State(models.TextChoices):
        BUILDING = "building"
        READY = "ready"
        ACTIVE = "active"
        RETIRED = "retired"

    SHADOW = (State.BUILDING, State.READY)  # beside the active one, to take its place; at most one of a corpus

    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="indexes")
    recipe = models.ForeignKey(
        Recipe, on_delete=models.PROTECT, related_name="indexes", limit_choices_to={"kind": Recipe.Kind.INDEX}
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.BUILDING)
    fingerprint = models.CharField(max_length=300, help_text="Of the embedder: vectors of another are refused.")
    dimensions = models.PositiveIntegerField()
    created = models.DateTimeField(auto_now_add=True)
    since = models.DateTimeField(default=timezone.now, help_text="When it got the state it has.")

    class Meta:
        verbose_name_plural = "indexes"
        constraints = [
            models.UniqueConstraint(fields=["corpus"], condition=Q(state="active"), name="one_active_index_per_corpus"),
            models.UniqueConstraint(
                fields=["corpus"], condition=Q(state__in=("building", "ready")), name="one_shadow_index_per_corpus"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.corpus} ({self.recipe}, {self.state})"


class Document(models.Model):
    """A file in a corpus, on its way from bytes to answers."""

    class State(models.TextChoices):
        QUEUED = "queued"
        PARSING = "parsing"
        CHUNKING = "chunking"
        EMBEDDING = "embedding"
        READY = "ready"
        FAILED = "failed"
        EMPTY = "empty"

    UNDER_WAY = (State.QUEUED, State.PARSING, State.CHUNKING, State.EMBEDDING)
    superseded = False  # set on a row that is deleted because a newer version of its file has come

    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="documents")
    name = models.CharField(max_length=500, help_text="As people know it: a file name or a path in the folder.")
    sha256 = models.CharField(max_length=64, help_text="Of the bytes, which are kept once under this name.")
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    media_type = models.CharField(max_length=150, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    reason = models.TextField(blank=True, help_text="Why it failed or is empty, for a person.")
    permanent = models.BooleanField(default=False, help_text="Trying again would fail the same way.")
    attempts = models.PositiveIntegerField(default=0)
    title = models.CharField(max_length=500, blank=True)
    language = models.CharField(max_length=8, blank=True)
    text = models.TextField(blank=True, help_text="Canonical: pages, chunks and citations point into it.")
    dated = models.DateField(default=date.today, help_text="The date in the file itself, else the day it was added.")
    tags = ArrayField(models.CharField(max_length=60), default=list, blank=True, help_text="For filters; any words.")
    labels = ArrayField(
        models.CharField(max_length=60),
        default=list,
        blank=True,
        help_text="Access labels: a search with labels finds only what has one of them, or none at all.",
    )
    markup = models.CharField(max_length=10, default="plain")
    pages = models.JSONField(default=list, help_text="[number, start, end] for each page, in order.")
    coverage = models.JSONField(default=dict, help_text="What parsing found and left out.")
    chunk_count = models.PositiveIntegerField(default=0, help_text="Chunks the document was cut into.")
    stored_count = models.PositiveIntegerField(default=0, help_text="Chunks whose vectors are stored.")
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["corpus", "sha256"], name="document_bytes_once")]
        indexes = [
            models.Index(fields=["corpus", "state"]),
            models.Index(fields=["corpus", "name"]),
            models.Index(fields=["sha256"]),
        ]

    def __str__(self) -> str:
        return self.name


class IndexedDocument(models.Model):
    """What became of a document in an index: all its chunks are there, each with its vector, or why they cannot be.

    Triggers remove it with its document or its index, as they remove chunks.
    """

    index = models.ForeignKey(
        Index, on_delete=models.DO_NOTHING, related_name="indexed", db_constraint=False, db_index=False
    )
    document = models.ForeignKey(Document, on_delete=models.DO_NOTHING, related_name="indexed", db_constraint=False)
    chunks = models.PositiveIntegerField(help_text="0: it cannot be indexed with this recipe.")
    reason = models.TextField(blank=True, help_text="Why not, for a person.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["index", "document"], name="indexed_once")]

    def __str__(self) -> str:
        return f"{self.document}: {self.reason or self.chunks}"


class Source(models.Model):
    """Where a document came from. The same bytes at two places are one document with two sources."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="sources")
    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="+")
    path = models.CharField(max_length=1000, help_text="Absolute path of a file, or upload:NAME.")
    size = models.BigIntegerField(default=-1, help_text="With `modified`: an unchanged file is not read again.")
    modified_ns = models.BigIntegerField(default=-1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["document", "path"], name="source_once")]
        indexes = [models.Index(fields=["corpus", "path"])]

    def __str__(self) -> str:
        return self.path


class Chunk(models.Model):
    """A stretch of a document in one index. The table is partitioned by index; see the migration."""

    index = models.ForeignKey(Index, on_delete=models.DO_NOTHING, related_name="chunks", db_constraint=False)
    document = models.ForeignKey(Document, on_delete=models.DO_NOTHING, related_name="chunks", db_constraint=False)
    ordinal = models.PositiveIntegerField()
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    page = models.PositiveIntegerField(null=True)
    context = models.TextField(blank=True)
    text = models.TextField()
    tokens = models.PositiveIntegerField()
    enabled = models.BooleanField(default=True, help_text="Disabled chunks are never found.")

    class Meta:
        ordering = ["document_id", "ordinal"]

    def __str__(self) -> str:
        return f"{self.document} #{self.ordinal}"
