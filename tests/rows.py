"""Rows for tests of pages: corpora, documents and answers, without an embedding service or a worker."""

import hashlib
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from indexer.corpora import recipe_named
from indexer.documents import stored_name
from indexer.models import Chunk, Corpus, Document, Index, Membership, Recipe
from inference.models import Conversation, Turn


def plain_static(settings) -> None:
    """Serve static files as they are: pages name them by what `collectstatic` wrote down, and tests do not run it."""
    backend = "django.contrib.staticfiles.storage.StaticFilesStorage"
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": backend}}
    settings.WHITENOISE_AUTOREFRESH = True


def make_corpus(slug: str, user=None, role: str = "manager", **fields: Any) -> Corpus:
    """A corpus with an active index, in which ``user`` has a role."""
    recipe = recipe_named(Recipe.Kind.ANSWER, "default")
    corpus = Corpus.objects.create(slug=slug, title=fields.pop("title", slug), answer_recipe=recipe, **fields)
    Index.objects.create(
        corpus=corpus,
        recipe=recipe_named(Recipe.Kind.INDEX, "default"),
        state=Index.State.ACTIVE,
        fingerprint="test",
        dimensions=384,
    )
    if user is not None:
        Membership.objects.create(corpus=corpus, user=user, role=role)
    return corpus


def make_document(corpus: Corpus, name: str, text: str = "Some text.", **fields: Any) -> Document:
    """A document that is ready, with its bytes and one chunk over all of its text."""
    data = fields.pop("data", text.encode())
    sha256 = hashlib.sha256(data).hexdigest()
    if not default_storage.exists(stored_name(sha256)):
        default_storage.save(stored_name(sha256), ContentFile(data))
    values = {"state": "ready", "markup": "markdown", "media_type": "text/markdown", "chunk_count": 1} | fields
    document = Document.objects.create(
        corpus=corpus, name=name, sha256=sha256, size=len(data), text=text, coverage={"characters": len(text)}, **values
    )
    if document.state == "ready":
        Chunk.objects.create(
            index=corpus.active_index(), document=document, ordinal=0, start=0, end=len(text), text=text, tokens=10
        )
    return document


def make_turn(user, corpus: Corpus, question: str = "Why?", **fields: Any) -> Turn:
    conversation = Conversation.objects.create(user=user, corpus=corpus, title=question[:100])
    values = {"state": "answered", "finish_reason": "stop"} | fields
    return Turn.objects.create(conversation=conversation, question=question, recipe=corpus.answer_recipe, **values)


def cite(document: Document, quote: str, number: int = 1) -> dict[str, Any]:
    """A citation of the first place where a quote stands."""
    start = document.text.index(quote)
    return {
        "number": number,
        "chunk_id": document.chunks.get().pk,
        "document_id": document.pk,
        "document": document.name,
        "page": None,
        "start": start,
        "end": start + len(quote),
        "quote": quote,
    }
