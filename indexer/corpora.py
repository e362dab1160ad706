"""Making corpora, and the recipes that come built in."""

import re
from dataclasses import asdict

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils.text import slugify

from indexer.embedder import embedder_info
from indexer.models import Corpus, Index, Membership, Recipe
from ragplat.errors import BadInput, NotFound
from ragplat.signature import digest
from ragplat.types import AnswerRecipe, IndexRecipe


def builtin_recipes() -> dict[tuple[str, str], IndexRecipe | AnswerRecipe]:
    """The recipes every installation has, by kind and name."""
    model = settings.EMBED_MODEL
    return {
        (Recipe.Kind.INDEX, "default"): IndexRecipe(embedder=model),
        # As published BEIR numbers are made: one chunk a document, cut at the model's limit.
        (Recipe.Kind.INDEX, "beir"): IndexRecipe(embedder=model, chunker="whole", truncate=True),
        (Recipe.Kind.ANSWER, "default"): AnswerRecipe(),
    }


def recipe_named(kind: str, name: str) -> Recipe:
    """The newest version of a recipe. ``name`` may be "name" or "name@version".

    A built-in recipe gets a new version by itself when its parameters changed with the software or the settings.
    Raises NotFound listing the choices.
    """
    plain, _, version = name.partition("@")
    rows = Recipe.objects.filter(kind=kind, name=plain)
    if version:
        found = rows.filter(version=int(version)).first() if version.isdigit() else None
    else:
        found = rows.order_by("-version").first()
        value = builtin_recipes().get((kind, plain))
        if value is not None and (found is None or found.digest != digest(asdict(value))):
            found = _next_version(kind, plain, value, found)
    if found is None:
        names = {n for k, n in builtin_recipes() if k == kind} | set(
            Recipe.objects.filter(kind=kind).values_list("name", flat=True)
        )
        raise NotFound(f'There is no {kind} recipe "{name}". Choose one of: {", ".join(sorted(names))}.')
    return found


def _next_version(kind: str, name: str, value: IndexRecipe | AnswerRecipe, latest: Recipe | None) -> Recipe:
    version = latest.version + 1 if latest else 1
    made, _ = Recipe.objects.get_or_create(kind=kind, name=name, version=version, defaults={"params": asdict(value)})
    return made


def create(
    title: str, slug: str = "", language: str = "en", recipe: str = "default", user: AbstractBaseUser | None = None
) -> Corpus:
    """Make a corpus with an empty, active index. ``user`` becomes its manager.

    Raises BadInput for an empty title or a slug that is taken, NotFound for an unknown recipe, EmbedderUnavailable
    when the embedding service does not answer: the index notes the fingerprint of its embedder.
    """
    title = title.strip()
    if not title:
        raise BadInput("A corpus needs a title.")
    if len(title) > 200:
        raise BadInput(f"The title has {len(title)} characters; at most 200 are kept.")
    slug = slug or slugify(title)[:60] or f"corpus-{digest(title, 8)}"
    if not re.fullmatch(r"[-a-zA-Z0-9_]{1,60}", slug):
        raise BadInput(f'The short name "{slug}" may hold only letters, digits, "-" and "_", at most 60.')
    index_recipe = recipe_named(Recipe.Kind.INDEX, recipe)
    embedder = embedder_info(index_recipe.value())
    with transaction.atomic():
        corpus, made = Corpus.objects.get_or_create(
            slug=slug,
            defaults={
                "title": title,
                "language": language,
                "answer_recipe": recipe_named(Recipe.Kind.ANSWER, "default"),
            },
        )
        if not made:
            raise BadInput(f'There is a corpus "{slug}" already. Choose another title or short name.')
        Index.objects.create(
            corpus=corpus,
            recipe=index_recipe,
            state=Index.State.ACTIVE,
            fingerprint=embedder["fingerprint"],
            dimensions=embedder["dimensions"],
        )
        if user is not None:
            Membership.objects.create(corpus=corpus, user=user, role=Membership.Role.MANAGER)
    return corpus


def named(slug: str) -> Corpus:
    """The corpus with this short name, for commands. Raises NotFound listing the corpora there are."""
    corpus = Corpus.objects.filter(slug=slug).first()
    if corpus is None:
        slugs = list(Corpus.objects.order_by("slug").values_list("slug", flat=True)[:20])
        known = f"There are: {', '.join(slugs)}." if slugs else "`manage.py ingest CORPUS PATH` makes one."
        raise NotFound(f'There is no corpus "{slug}". {known}')
    return corpus
