"""Who writes an answer, and the prompt that it is written from."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

from indexer import embedder
from indexer.models import Index, recipe_value
from inference import history, prompts
from inference.generators import registry
from inference.generators.base import Generator, Sampling
from inference.history import Past
from inference.judges import registry as judges
from inference.judges.base import Judge
from inference.judges.model import Complete
from ragplat.errors import GeneratorUnavailable
from ragplat.text import detect_language
from ragplat.types import AnswerRecipe, Prompt, ScoredChunk

NO_SCHEMA = "The model server is not known to hold a model to a schema: markers were asked for instead of JSON."


def make_generator(recipe: AnswerRecipe, index: Index, *, batch: bool = False) -> Generator:
    """The generator a recipe names; "auto" is the model server where one is set, else extractive.

    Raises BadInput for an unknown name, GeneratorUnavailable when "openai" is named and no server is set.
    """
    name = recipe.generator
    if name == "auto":
        name = "openai" if settings.GENERATOR_URL else "extractive"
    kind = registry.get(name)
    if name == "extractive":
        return kind(embed=partial(embedder.for_index(index).embed_queries, truncate=True), strict=recipe.strict)
    if name != "openai":
        return kind()
    if not settings.GENERATOR_URL:
        raise GeneratorUnavailable(
            "No model server is set. Set RAGPLAT_GENERATOR_URL, or use the generator extractive, which needs none."
        )
    return kind(
        settings.GENERATOR_URL,
        settings.GENERATOR_MODEL,
        settings.GENERATOR_API_KEY,
        Sampling(
            temperature=recipe.temperature,
            top_p=recipe.top_p,
            top_k=recipe.top_k,
            seed=recipe.seed,
            stop=recipe.stop,
            max_tokens=recipe.max_answer_tokens,
        ),
        strict=recipe.strict,
        structured=recipe.structured,
        # Corpora share nothing that the server has read: how fast an answer comes must not tell what others asked.
        tenant=salted_hmac("inference.tenant", str(index.corpus_id)).hexdigest()[:32],
        batch=batch,
    )


def make_judge(recipe: AnswerRecipe, index: Index, complete: Complete | None) -> Judge:
    """Who says whether sources bear an answer out. Raises BadInput for an unknown name.

    ``complete`` asks the language model; without one, the judge by words stands in and says so.
    """
    words = judges.get("words")(partial(embedder.for_index(index).embed_queries, truncate=True))
    kind = judges.get(recipe.judge)
    return words if recipe.judge == "words" else kind(complete or _no_model, words)


def _no_model(messages: object, schema: object = None) -> str:
    raise GeneratorUnavailable("No language model is set.")


def stand_in(generator: Generator, recipe: AnswerRecipe, index: Index) -> Generator | None:
    """Who answers while a model server is away: nobody where the recipe names it."""
    if recipe.generator != "auto" or generator.name == "extractive":
        return None
    return make_generator(replace(recipe, generator="extractive"), index)


def make_prompt(
    question: str,
    chunks: Sequence[ScoredChunk],
    past: Sequence[Past],
    recipe: AnswerRecipe,
    index: Index,
    generator: Generator,
    trace: dict[str, Any],
) -> Prompt:
    """The prompt, counted in the tokens of the model that reads it; with the conversation, if that is a model."""
    structures = getattr(generator, "structures", None)  # of language models
    structured = bool(recipe.structured and structures and structures())
    if recipe.structured and structures and not structured:
        trace["notes"] = [NO_SCHEMA]
    count, window, trace["counted_by"] = _tokens(generator, recipe, index)
    prompt = prompts.build(
        question,
        chunks,
        context_tokens=recipe.context_tokens,
        count=count,
        language=detect_language(question),
        strict=recipe.strict,
        prompt=recipe.prompt,
        window=window,
        earlier=history.earlier(index, past) if structures else (),
        history_tokens=recipe.history_tokens,
        structured=structured,
    )
    trace |= {"prompt": prompt.version, "dropped": list(prompt.dropped)}
    if structures:
        trace["shown"] = history.noted(prompt, chunks, recipe.strict, structured)
    return prompt


def _tokens(generator: Generator, recipe: AnswerRecipe, index: Index) -> tuple[prompts.Count, int | None, str]:
    """What counts tokens, how many a prompt may have at most, and whose tokens they are."""
    own = getattr(generator, "count", None)  # of model servers, some of which count
    if own and own([""]) is not None:
        context = generator.context()
        return own, context and context - recipe.max_answer_tokens, generator.model
    tokenizer = embedder.for_index(index).tokenizer
    return lambda texts: [len(tokenizer.offsets(text)) for text in texts], None, recipe_value(index.recipe_id).embedder
