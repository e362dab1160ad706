"""Re-index: build another index of a corpus beside the active one, then let it take its place, and back.

The new index follows everything that is added, replaced or deleted, as the active one does. What it replaces is kept,
retired: that one only loses what is deleted, and is brought up to date before it may come back.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import OperationalError, connection, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.utils import timezone
from psycopg.errors import DeadlockDetected, LockNotAvailable

from indexer import chunkers, embedder, legs, pipeline, store
from indexer.analyzer import ANALYZERS
from indexer.corpora import recipe_named
from indexer.models import Chunk, Corpus, Document, Index, IndexedDocument, Recipe, recipe_value
from ragplat.errors import BadInput, Unavailable
from ragplat.types import IndexRecipe

log = logging.getLogger(__name__)

State = Index.State
QUEUED_AT_ONCE = 1000  # jobs made with one statement
CHUNKS_AT_SWAP = 500  # at most so many are embedded while a swap keeps other documents from becoming ready
SWAP_TRIES = 60  # each gives way after half a second to who holds a row it needs
SEARCHES_END = 15.0  # seconds after which no search that began before a swap is still running
SAMPLE = 30  # passages that are searched for in both indexes
K = 10

# What was under way goes on into the index that is active now.
DELETE_UNFINISHED = """
DELETE FROM indexer_{table} WHERE index_id = %s
  AND document_id IN (SELECT id FROM indexer_document WHERE corpus_id = %s AND state <> 'ready')
"""

TAKE_COUNTS = """
UPDATE indexer_document d SET chunk_count = n.chunks, stored_count = n.chunks FROM indexer_indexeddocument n
WHERE n.index_id = %s AND d.id = n.document_id AND d.state = 'ready'
  AND (d.chunk_count <> n.chunks OR d.stored_count <> n.chunks)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an index is."""

    documents: int  # of the corpus that are ready
    done: int  # of these, in the index
    chunks: int
    unfit: tuple[tuple[str, str], ...]  # name and reason of those that cannot be indexed with its recipe

    @property
    def missing(self) -> int:
        return self.documents - self.done - len(self.unfit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How much of what one index finds another finds too: the mean share of its ten best passages."""

    queries: int  # passages of the corpus, searched for
    lexical: float
    dense: float | None  # None: the embedding service cannot serve both


def start(corpus: Corpus, recipe: str) -> Index:
    """Begin, or go on with, an index of a corpus by this recipe beside the active one; a job per document makes it.

    Raises NotFound for an unknown recipe, BadInput when another index is being built, when the recipe's parser is
    another than the corpus's or a value makes no sense, EmbedderUnavailable when the service does not run its model.
    """
    wanted = recipe_named(Recipe.Kind.INDEX, recipe)
    fingerprint, dimensions = _checked(corpus, wanted)
    with transaction.atomic():
        _hold(corpus)
        index = shadow(corpus)
        if index is None:
            index = Index.objects.create(
                corpus=corpus, recipe=wanted, fingerprint=fingerprint, dimensions=dimensions, state=State.BUILDING
            )
        elif (index.recipe_id, index.fingerprint) != (wanted.pk, fingerprint):
            raise BadInput(f"An index by {index.recipe} is {index.state} already. {_way_out(corpus)}")
    _go_on(index)
    return index


def _way_out(corpus: Corpus) -> str:
    return (
        f"Put it into use with `manage.py reindex {corpus.slug} --swap`, or remove it with "
        f"`manage.py reindex {corpus.slug} --drop`."
    )


def _checked(corpus: Corpus, recipe: Recipe) -> tuple[str, int]:
    """The embedder's fingerprint and dimensions, if a corpus can be indexed by a recipe."""
    value: IndexRecipe = recipe.value()
    parser = recipe_value(corpus.active_index().recipe_id).parser
    if value.parser != parser:
        # All indexes of a corpus share one text, and stored citations point into it.
        raise BadInput(
            f'The recipe {recipe} reads files with the parser "{value.parser}", this corpus with "{parser}". Another '
            f"parser makes another text, and answers given so far point into this one: ingest the files into a new "
            f"corpus with `manage.py ingest NEW PATH --recipe {recipe}`."
        )
    chunkers.make(value.chunker, value.chunk_tokens, value.overlap_tokens)
    ANALYZERS.get(value.analyzer)
    info = embedder.embedder_info(value)
    return info["fingerprint"], info["dimensions"]


def _hold(corpus: Corpus) -> None:
    """One person at a time begins, swaps or drops indexes of a corpus."""
    Corpus.objects.select_for_update(no_key=True).get(pk=corpus.pk)


def shadow(corpus: Corpus) -> Index | None:
    """The index that is being built, or is ready, to take the active one's place."""
    return corpus.indexes.filter(state__in=Index.SHADOW).select_related("recipe", "corpus").first()


def missing(index: Index) -> QuerySet[Document]:
    """The documents that are ready and of which an index has neither the chunks nor the reason why not."""
    known = IndexedDocument.objects.filter(index=index, document=OuterRef("pk"))
    ready = Document.objects.filter(corpus_id=index.corpus_id, state=Document.State.READY)
    return ready.filter(~Exists(known)).order_by("pk")


def _go_on(index: Index) -> None:
    """Queue what is missing, and once more what did not work before."""
    from indexer.tasks import enqueue_extensions, enqueue_follow  # the tasks import this module

    IndexedDocument.objects.filter(index=index, chunks=0).delete()
    ids = list(missing(index).values_list("pk", flat=True))
    for first in range(0, len(ids), QUEUED_AT_ONCE):
        enqueue_extensions(index.pk, ids[first : first + QUEUED_AT_ONCE])
    enqueue_follow(index.pk)


def settle(index: Index) -> None:
    """Note that an index that was being built is ready, once it has every document."""
    building = Index.objects.filter(pk=index.pk, state=State.BUILDING)
    if building.exists() and not missing(index).exists() and not index.indexed.filter(chunks=0).exists():
        building.update(state=State.READY, since=timezone.now())


def progress(index: Index) -> Progress:
    """How many of the corpus's documents are in an index."""
    ready = Document.objects.filter(corpus_id=index.corpus_id, state=Document.State.READY)
    rows = index.indexed.filter(document__in=ready)
    counted = rows.aggregate(done=Count("pk", filter=Q(chunks__gt=0)), chunks=Sum("chunks", default=0))
    unfit = rows.filter(chunks=0).order_by("document__name").values_list("document__name", "reason")
    return Progress(documents=ready.count(), unfit=tuple(unfit), **counted)


def swap(index: Index) -> Index:
    """Let an index take the active one's place, in one transaction; returns the one that is retired now.

    Chunks that are disabled in the active index stay so: what lies mostly within them is disabled in the new one.
    Searches go on meanwhile; one that has begun on the old index finishes there. Raises BadInput when the index is not
    ready, Unavailable when others keep the rows it needs.
    """
    for _ in range(SWAP_TRIES):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                # Half of what PostgreSQL waits before it ends a deadlock, so that it is always the swap that yields.
                cursor.execute("SET LOCAL lock_timeout = '500ms'")
                return _swap(index)
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable | DeadlockDetected):
                raise
            log.info("%s: the swap waits: %s", index, error)
            time.sleep(0.2)
    raise Unavailable(f"{index.corpus}: others are changing its documents all the time. Try the swap again.")


def _swap(index: Index) -> Index:
    from indexer.tasks import enqueue_follow  # the tasks import this module

    _hold(index.corpus)
    # From here on no document becomes ready, in whichever index.
    states = {one.pk: one for one in index.corpus.indexes.select_for_update().order_by("pk")}
    if index.pk not in states or states[index.pk].state != State.READY:
        raise BadInput(f"The index {index.pk} of {index.corpus} is not ready. {_how_far(index)}")
    old, new = index.corpus.active_index(), states[index.pk]
    _last_ones(new)
    _disable_as(new, old)
    with connection.cursor() as cursor:
        for table in ("vector", "chunk"):
            cursor.execute(DELETE_UNFINISHED.format(table=table), [old.pk, old.corpus_id])
        cursor.execute(TAKE_COUNTS, [new.pk])
    for one, state in ((old, State.RETIRED), (new, State.ACTIVE)):
        one.state, one.since = state, timezone.now()
        one.save(update_fields=["state", "since"])
    enqueue_follow(new.pk)
    log.info("%s: %s is active instead of %s", index.corpus, new.recipe, old.recipe)
    return old


def is_close(index: Index) -> bool:
    """Whether a swap would succeed now, as far as one can tell."""
    return index.state == State.READY and _chunks(missing(index)) <= CHUNKS_AT_SWAP


def _chunks(documents: QuerySet[Document]) -> int:
    return documents.aggregate(chunks=Sum("chunk_count", default=0))["chunks"]


def _how_far(index: Index) -> str:
    far = progress(index)
    if far.unfit:
        name, reason = far.unfit[0]
        return f"{len(far.unfit)} documents cannot be indexed with its recipe, the first is {name}: {reason}"
    return f"{far.done} of {far.documents} documents are in it."


def _last_ones(index: Index) -> None:
    """Bring in what became ready in the old index a moment ago."""
    late = missing(index)
    if _chunks(late) > CHUNKS_AT_SWAP:
        raise BadInput(
            f"{late.count()} documents were added since the index was ready and are still coming in. Wait for them: "
            f"`manage.py reindex {index.corpus.slug} --swap --wait`."
        )
    for document in late.values_list("pk", flat=True):
        pipeline.extend_index(index.pk, document)
    if index.indexed.filter(chunks=0).exists() or missing(index).exists():
        raise BadInput(f"The index {index.pk} of {index.corpus} lacks documents. {_how_far(index)}")


def _disable_as(new: Index, old: Index) -> None:
    """Make chunks of one index enabled or disabled as the other has them."""
    touched = Chunk.objects.filter(index__in=[new, old], enabled=False).values_list("document_id", flat=True)
    for document in sorted(set(touched)):
        hidden = [(c.start, c.end) for c in old.chunks.filter(document=document, enabled=False)]
        chunks = list(new.chunks.filter(document=document))
        for enabled in (True, False):
            changed = [c.pk for c in chunks if c.enabled != enabled and _lies_within(c, hidden) != enabled]
            store.set_enabled(changed, enabled)


def _lies_within(chunk: Chunk, hidden: Iterable[tuple[int, int]]) -> bool:
    """Whether at least half of a chunk is hidden."""
    covered = sum(max(0, min(chunk.end, end) - max(chunk.start, start)) for start, end in hidden)
    return 2 * covered >= chunk.end - chunk.start


def uncovered(new: Index, old: Index) -> int:
    """How many disabled chunks lie in larger ones of a new index, so that a swap would not disable them."""
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for chunk in old.chunks.filter(enabled=False):
        spans[chunk.document_id].append((chunk.start, chunk.end))
    count = 0
    for document, hidden in spans.items():
        disabled = [c for c in new.chunks.filter(document=document) if _lies_within(c, hidden)]
        count += sum(not any(c.start < end and start < c.end for c in disabled) for start, end in hidden)
    return count


def reopen(corpus: Corpus) -> Index:
    """Bring the index that was active before up to date, so that it can be swapped back; returns it.

    Raises BadInput when there is none, or another is being built; EmbedderUnavailable when the service does not run
    its model any more.
    """
    with transaction.atomic():
        _hold(corpus)
        if (other := shadow(corpus)) is not None:
            raise BadInput(f"An index by {other.recipe} is {other.state}. {_way_out(corpus)}")
        index = corpus.indexes.filter(state=State.RETIRED).order_by("-since").select_related("recipe").first()
        if index is None:
            raise BadInput(f'"{corpus.title}" has no earlier index to go back to.')
        embedder.for_index(index).info()  # raises where the service runs another model
        index.state, index.since = State.BUILDING, timezone.now()
        index.save(update_fields=["state", "since"])
    _go_on(index)
    return index


def drop(corpus: Corpus) -> list[Index]:
    """Remove every index of a corpus but the active one; returns them. Waits for searches begun before a swap."""
    last = corpus.indexes.filter(state=State.RETIRED).order_by("-since").first()
    if last is not None:
        time.sleep(max(0.0, SEARCHES_END - (timezone.now() - last.since).total_seconds()))
    dropped = []
    for index in corpus.indexes.exclude(state=State.ACTIVE).select_related("recipe", "corpus"):
        with transaction.atomic():
            _hold(corpus)
            if Index.objects.filter(pk=index.pk).exclude(state=State.ACTIVE).exists():  # it was not swapped meanwhile
                dropped.append(index)
                Index.objects.get(pk=index.pk).delete()
    return dropped


def agreement(old: Index, new: Index) -> Agreement:
    """Search both indexes for passages of the old one."""
    passages = [" ".join(text.split())[:200] for text in store.sample_texts(old, SAMPLE)]
    recipe = recipe_value(old.corpus.answer_recipe_id)
    words = [_shared(*(_places(i, legs.lexical(i, one, K)) for i in (old, new))) for one in passages]
    meanings = None
    if old.fingerprint == new.fingerprint and passages:
        queries = [embedder.for_index(i).embed_queries(passages, truncate=True) for i in (old, new)]
        meanings = [
            _shared(*(_places(i, legs.dense(i, one, K, recipe).hits) for i, one in zip((old, new), pair, strict=True)))
            for pair in zip(*queries, strict=True)
        ]
    return Agreement(queries=len(passages), lexical=_mean(words), dense=None if meanings is None else _mean(meanings))


def _places(index: Index, hits: legs.Hits) -> list[store.Hit]:
    found = store.hits(index, [chunk_id for chunk_id, _ in hits])
    return [found[chunk_id] for chunk_id, _ in hits if chunk_id in found]


def _shared(one: list[store.Hit], other: list[store.Hit]) -> float:
    """The share of places of one list that overlap a place of the other."""
    places: dict[int, list[store.Hit]] = defaultdict(list)
    for hit in other:
        places[hit.document_id].append(hit)
    found = sum(any(a.start < b.end and b.start < a.end for b in places[a.document_id]) for a in one)
    return found / len(one) if one else 1.0


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 1.0
