"""The way of this installation to its embedding service: one client per kind of vector, shared by all threads."""

from functools import lru_cache
from typing import Any

from django.conf import settings

from indexer.embedding.client import EmbeddingClient
from indexer.models import Index, recipe_value
from ragplat.types import IndexRecipe


@lru_cache(maxsize=32)
def _client(model: str, max_tokens: int, fingerprint: str) -> EmbeddingClient:
    return EmbeddingClient(settings.EMBED_URL, model, max_tokens=max_tokens, fingerprint=fingerprint)


def for_index(index: Index) -> EmbeddingClient:
    """The client whose vectors belong into this index; it refuses vectors of another embedder."""
    recipe = recipe_value(index.recipe_id)
    return _client(recipe.embedder, recipe.max_tokens, index.fingerprint)


def embedder_info(recipe: IndexRecipe) -> dict[str, Any]:
    """What the service says of itself: model, dimensions, fingerprint... Raises EmbedderUnavailable."""
    return _client(recipe.embedder, recipe.max_tokens, "").info()
