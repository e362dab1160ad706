"""Keyword search (BM25) on tantivy.

Terms come from our own analyzer; tantivy stores and scores them (k1 = 1.2, b = 0.75, as it has them). The manifest is
replaced after tantivy's own atomic commit: a crash in between leaves the older watermark, and the same changes are
applied once more. Until tantivy merges them away, replaced entries still count in the statistics behind the scores.

An entry is one stream of terms: its row, then the other forms of its compounds, each behind a separator. The separator
holds its place in the count of positions but is not indexed, so that no phrase runs across it.
"""

import json
import logging
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from indexer.analyzer import ANALYZERS, Terms, analyzer_signature
from indexer.followers.base import DocumentEntries
from indexer.followers.folder import FolderFollower, View
from indexer.followers.manifest import Unusable, locked, write_manifest
from indexer.query import ParsedQuery
from ragplat.errors import BadInput, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = 2  # of the folder; another one is built again
HEAP_BYTES = 50_000_000  # of tantivy's writer, held only while applying
SEPARATOR = "|"  # no analyzer makes a term of it
MAX_QUERY_TERMS = 1024  # different terms of one query; of more, the rarest are searched
# A term of nearly every entry tells them apart by next to nothing, and is half the work of a search.
COMMON = 0.8  # share of the entries
MANY_ENTRIES = 10_000  # below, that work is no time at all


@dataclass(frozen=True, slots=True)
class _View(View):
    index: Any  # tantivy.Index
    searcher: Any  # tantivy.Searcher


class LexicalFollower(FolderFollower[_View]):
    """A Follower for keyword search; see ``indexer.followers.base``.

    ``folder``: made when missing; nothing else may live in it.
    ``analyzer``: a name in ``indexer.analyzer.ANALYZERS``. ``language``: ISO 639-1 code of most of the text.
    Raises BadInput for an unknown analyzer.
    """

    def __init__(self, folder: Path, analyzer: str, language: str):
        self._analyze = ANALYZERS.get(analyzer)
        self._language = language
        made_with = {"format": FORMAT, "analyzer": analyzer_signature(analyzer, language)}
        super().__init__(folder, "tantivy", "keyword index", made_with)
        self._sound: frozenset[str] = frozenset()  # files whose checksum held; tantivy never changes a file

    def count(self) -> int:
        return self._current().searcher.num_docs

    def chunk_ids(self) -> set[int]:
        from tantivy import Query

        def everything(view: _View) -> set[int]:
            most = max(view.searcher.num_docs, 1)
            found = view.searcher.search(Query.all_query(), most, count=False, order_by_field="chunk_id")
            return {chunk_id for chunk_id, _ in found.hits}

        return self._look(everything)

    def apply(self, documents: Iterable[DocumentEntries], watermark: int) -> None:
        with locked(self._lock), self._panics_caught():
            index = self._open_or_create().index
            with self._disk_errors():
                writer = index.writer(HEAP_BYTES, num_threads=1)
                writer.garbage_collect_files()  # what a killed process left can bear the name of a file to be written
            try:
                for document in documents:
                    with self._disk_errors():
                        self._replace(writer, document)
                with self._disk_errors():
                    writer.commit()
            except BaseException:
                _discard(writer)
                raise
            with self._disk_errors():
                writer.wait_merging_threads()
                write_manifest(self._manifest, self._made_with, watermark)

    def search(
        self, query: str | ParsedQuery, k: int, documents: Collection[int] | None = None
    ) -> list[tuple[int, float]]:
        """See ``Follower``. A plain string is words alone; phrases of a ParsedQuery must occur, excluded ones must not.

        Its filters are the caller's: ``documents`` are those that pass them.
        """
        if k < 1:
            raise BadInput(f"The number of results is at least 1, not {k}.")
        terms = self.terms(query)
        if not terms or (documents is not None and not documents):
            return []
        return self._look(lambda view: self._search(view, query, terms, k, documents))

    def _search(
        self, view: _View, query: str | ParsedQuery, terms: list[str], k: int, documents: Collection[int] | None
    ) -> list[tuple[int, float]]:
        conditions = self._conditions(query, view)
        if documents is not None:
            conditions.append(_within(view, "document_id", documents))
        terms = _rarest(terms, view.searcher) if len(terms) > MAX_QUERY_TERMS else terms
        telling = _telling(terms, view.searcher)
        found = _best(view.searcher, _any_of(telling, conditions, view.index.schema), k)
        if len(found) < k and len(telling) < len(terms):
            found = _best(view.searcher, _any_of(terms, conditions, view.index.schema), k)
        return found

    def matching(self, query: ParsedQuery, chunk_ids: Collection[int]) -> set[int]:
        """Those of ``chunk_ids`` that hold every phrase of ``query`` and nothing it excludes.

        Chunks that are not in the index are left out, unless the query has no phrase and excludes nothing.
        """
        return self._look(lambda view: self._matching(view, query, chunk_ids))

    def _matching(self, view: _View, query: ParsedQuery, chunk_ids: Collection[int]) -> set[int]:
        from tantivy import Query

        conditions = self._conditions(query, view)
        if not conditions or not chunk_ids:
            return set(chunk_ids)
        found = Query.boolean_query([*conditions, _within(view, "chunk_id", chunk_ids)])
        hits = view.searcher.search(found, len(chunk_ids), count=False).hits
        return set(view.searcher.fast_field_values("chunk_id", [address for _, address in hits]))

    def _look(self, look: Callable[[_View], T]) -> T:
        """``look`` at the index; once more where its files turn out to be damaged, as it is built anew then."""
        try:
            with self._panics_caught():
                return look(self._current())
        except Unavailable:
            with self._panics_caught():
                return look(self._current())

    @contextmanager
    def _panics_caught(self) -> Iterator[None]:
        """tantivy panics over files damaged since they were checked, and no ``except Exception`` catches that.

        Raises Unavailable, and forgets what was checked: the next look finds the damage and starts again from zero.
        """
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            self._view, self._sound = None, frozenset()
            raise Unavailable(f"The keyword index in {self._folder} is damaged, and checked again: {error}") from error

    def terms(self, query: str | ParsedQuery) -> list[str]:
        """What is searched for, each term once."""
        text = query if isinstance(query, str) else query.text
        return list(dict.fromkeys(self._analyze(text, self._language).all()))

    def _conditions(self, query: str | ParsedQuery, view: _View) -> list[tuple[Any, Any]]:
        """What every hit must hold and must not hold."""
        from tantivy import Occur

        if isinstance(query, str):
            return []
        asked = [(Occur.Must, phrase) for phrase in query.phrases] + [(Occur.MustNot, one) for one in query.excluded]
        rows = [(occur, self._analyze(phrase, self._language).row) for occur, phrase in asked]
        return [(occur, _in_a_row(row, view.index.schema)) for occur, row in rows if row]

    def _replace(self, writer: Any, document: DocumentEntries) -> None:
        from tantivy import Document

        writer.delete_documents_by_term("document_id", document.document_id)
        for entry in document.entries:
            stream = _stream(self._analyze(entry.content, self._language))
            writer.add_document(Document(chunk_id=entry.chunk_id, document_id=document.document_id, terms=stream))

    def _read(self, manifest: bytes, content: Mapping[str, Any]) -> _View:
        import tantivy

        try:
            self._sound = _check_files(self._files, self._sound)
        except struct.error as error:
            raise Unusable(f"has a damaged file ({error})") from error
        index = tantivy.Index.open(str(self._files))
        index.register_tokenizer("terms", _joined_terms())
        index.config_reader(reload_policy="manual")  # no thread that polls: we know when something changed
        return _View(manifest=manifest, watermark=content["watermark"], index=index, searcher=index.searcher())

    def _make(self) -> Mapping[str, Any]:
        import tantivy

        fields = tantivy.SchemaBuilder()
        fields.add_integer_field("chunk_id", fast=True, indexed=True)
        fields.add_integer_field("document_id", indexed=True)
        fields.add_text_field("terms", tokenizer_name="terms", index_option="position")
        tantivy.Index(fields.build(), str(self._files))
        return {}


def _stream(terms: Terms) -> str:
    """The terms as tantivy takes them: joined by spaces, which the analyzer leaves out of terms."""
    return f" {SEPARATOR} ".join(" ".join(row) for row in (terms.row, *terms.forms))


def _joined_terms() -> Any:
    """Splits a stream at its spaces, and drops the separators after counting them."""
    import tantivy

    separators = tantivy.Filter.custom_stopword([SEPARATOR])
    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(separators).build()


def _any_of(terms: list[str], conditions: list[tuple[Any, Any]], schema: Any) -> Any:
    """The query for entries with at least one of ``terms`` that fulfil the conditions."""
    from tantivy import Occur, Query

    query = Query.boolean_query([(Occur.Should, Query.term_query(schema, "terms", term)) for term in terms])
    return Query.boolean_query([(Occur.Must, query), *conditions]) if conditions else query


def _in_a_row(row: list[str], schema: Any) -> Any:
    from tantivy import Query

    return Query.phrase_query(schema, "terms", row) if len(row) > 1 else Query.term_query(schema, "terms", row[0])


def _within(view: _View, field: str, ids: Collection[int]) -> tuple[Any, Any]:
    """The condition that ``field`` holds one of ``ids``; adds nothing to scores."""
    from tantivy import Occur, Query

    return Occur.Must, Query.const_score_query(Query.term_set_query(view.index.schema, field, list(ids)), 0.0)


def _telling(terms: list[str], searcher: Any) -> list[str]:
    """Without the terms of nearly every entry, where the index is large and others are left."""
    limit = COMMON * searcher.num_docs
    if len(terms) == 1 or searcher.num_docs < MANY_ENTRIES:
        return terms
    frequency = {term: searcher.doc_freq("terms", term) for term in terms}
    return [term for term in terms if 0 < frequency[term] <= limit] or terms


def _rarest(terms: list[str], searcher: Any) -> list[str]:
    """At most ``MAX_QUERY_TERMS`` of the terms that are in the index: the rarest, which say most."""
    frequency = {term: searcher.doc_freq("terms", term) for term in terms}
    present = sorted((term for term in terms if frequency[term]), key=frequency.__getitem__)
    if len(present) > MAX_QUERY_TERMS:
        log.warning("A query has %d different terms; its %d rarest are searched.", len(present), MAX_QUERY_TERMS)
    return present[:MAX_QUERY_TERMS]


def _best(searcher: Any, query: Any, k: int) -> list[tuple[int, float]]:
    """The best ``k``, equal scores by chunk id. tantivy orders those by place in its files, which changes with merges:
    so look beyond ``k`` until the scores fall below the last one wanted."""
    limit = k + 1
    while True:
        hits = searcher.search(query, max(1, min(limit, searcher.num_docs)), count=False).hits
        if len(hits) < limit or hits[-1][0] < hits[k - 1][0]:
            break
        limit *= 4
    chunk_ids = searcher.fast_field_values("chunk_id", [address for _, address in hits])
    ranking = zip(chunk_ids, (score for score, _ in hits), strict=True)
    return sorted(ranking, key=lambda pair: (-pair[1], pair[0]))[:k]


def _discard(writer: Any) -> None:
    """Drop what is not committed, and the files already written for it."""
    try:
        writer.rollback()
        writer.garbage_collect_files()
    except (OSError, ValueError) as error:
        log.warning("What an interrupted apply left on disk stays there until the next one: %s", error)


def _check_files(folder: Path, sound: frozenset[str]) -> frozenset[str]:
    """The files of the index in ``folder``, each checked against the CRC-32 tantivy put in its footer.

    ``sound``: names checked before. Raises Unusable for a wrong checksum.
    """
    files: set[str] = set()
    for segment in json.loads((folder / "meta.json").read_bytes())["segments"]:
        name, deletes = segment["segment_id"].replace("-", ""), segment["deletes"]
        files.update(path.name for path in folder.glob(f"{name}.*") if path.suffix != ".del")
        if deletes:  # only this one: a killed process may have left others, half written
            files.add(f"{name}.{deletes['opstamp']}.del")
    for file in files - sound:
        if not _checksum_holds(folder / file):
            raise Unusable(f"has a damaged file, {file}")
    return frozenset(files)


def _checksum_holds(path: Path) -> bool:
    """A file ends with a JSON footer, the footer's length and a magic number; the footer has the CRC of the rest."""
    with path.open("rb") as file:
        size = file.seek(-8, 2)
        length, magic = struct.unpack("<II", file.read(8))
        if magic != 1337 or length > size:
            return False
        file.seek(size - length)
        expected = json.loads(file.read(length))["crc"]
        file.seek(0)
        crc, left = 0, size - length
        while left > 0:
            block = file.read(min(left, 1 << 20))
            crc, left = zlib.crc32(block, crc), left - len(block)
        return crc == expected
