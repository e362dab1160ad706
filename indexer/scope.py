"""What a search may use: filters become a set of documents, for PostgreSQL and for followers alike."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.lookups import IContains

from indexer.models import Document, Index
from ragplat.errors import BadInput
from ragplat.types import Filters

# A follower knows documents by their ids. Up to this many are handed to it; of more, it searches everything and
# PostgreSQL sorts out what is not meant, which costs little where many documents pass.
LISTED_DOCUMENTS = 10_000
MOST_VALUES = 10_000  # of one filter


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The ready documents of a corpus that pass some filters."""

    rows: QuerySet[Document]
    count: int  # documents
    chunks: int  # their chunks
    documents: tuple[int, ...] | None  # their ids where they are few, else None

    def sql(self) -> tuple[str, tuple]:
        """A subquery of their ids, and its parameters."""
        return self.rows.values("pk").query.sql_with_params()


def resolve(index: Index, filters: Sequence[Filters]) -> Scope | None:
    """The documents of an index's corpus that pass all of ``filters``; None when these restrict nothing."""
    conditions = [condition for one in filters for condition in _conditions(one)]
    if not conditions:
        return None
    ready = Document.objects.filter(corpus_id=index.corpus_id, state=Document.State.READY)
    rows = ready.filter(*conditions).order_by()
    size = rows.aggregate(count=Count("pk"), chunks=Sum("stored_count"))
    listed = size["count"] <= LISTED_DOCUMENTS
    return Scope(
        rows=rows,
        count=size["count"],
        chunks=size["chunks"] or 0,
        documents=tuple(rows.values_list("pk", flat=True)) if listed else None,
    )


def described(filters: Sequence[Filters]) -> list[dict[str, Any]]:
    """Filters as they appear in a trace: only the fields that restrict something."""
    empty = Filters()
    return [
        {name: value.isoformat() if isinstance(value, date) else value for name, value in asdict(one).items()
         if value != getattr(empty, name)}
        for one in filters
        if one != empty
    ]  # fmt: skip


def read(values: Mapping[str, Any]) -> Filters:
    """Filters from JSON: lists of words, ISO dates, and an object for ``metadata``.

    Raises BadInput for an unknown field or a value of the wrong kind.
    """
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise BadInput(f"Filters are an object of named lists, not {values!r}.")
    known = {field.name for field in fields(Filters)}
    if unknown := sorted(set(values) - known):
        raise BadInput(f'There is no filter "{unknown[0]}". Choose from: {", ".join(sorted(known))}.')
    return Filters(**{name: _READERS.get(name, _words)(name, value) for name, value in values.items()})


def _words(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadInput(f'The filter "{name}" takes a list of words, not {value!r}.')
    return tuple(_word(name, one) for one in _few(name, value))


def _word(name: str, value: str) -> str:
    if "\x00" in value or not value.strip("/ ") or value.encode("utf-8", "ignore").decode() != value:
        raise BadInput(f'The filter "{name}" holds {value!r}, which is no text to look for.')
    return value


def _few(name: str, value: list) -> list:
    if len(value) > MOST_VALUES:
        raise BadInput(f'The filter "{name}" has {len(value):,} values; at most {MOST_VALUES:,} are taken.')
    return value


def _numbers(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(one) is int and abs(one) < 2**63 for one in value):
        raise BadInput(f'The filter "{name}" takes a list of whole numbers, not {str(value)[:200]}.')
    return tuple(_few(name, value))


def _day(name: str, value: Any) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise BadInput(f'The filter "{name}" takes a date such as "2026-05-31", not {value!r}.') from None


def _pairs(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
        raise BadInput(f'The filter "{name}" takes an object such as {{"author": "Ada"}}, not {value!r}.')
    return tuple((_word(name, key), _word(name, one)) for key, one in value.items())


_READERS = {"documents": _numbers, "after": _day, "before": _day, "metadata": _pairs}


def _conditions(filters: Filters) -> list[Any]:
    found: list[Any] = []
    if filters.documents is not None:
        found.append(Q(pk__in=filters.documents))
    found += _any("name__icontains", filters.names)
    found += _any("name__startswith", [f"{folder.strip('/')}/" for folder in filters.folders if folder.strip("/")])
    if filters.tags:
        found.append(Q(tags__overlap=list(filters.tags)))
    if filters.media_types:
        whole = [one for one in filters.media_types if not one.endswith("/*")]
        families = [one[:-1] for one in filters.media_types if one.endswith("/*")]
        found.append(Q(media_type__in=whole) | _or("media_type__startswith", families))
    if filters.languages:
        found.append(Q(language__in=filters.languages))
    if filters.after is not None:
        found.append(Q(dated__gte=filters.after))
    if filters.before is not None:
        found.append(Q(dated__lt=filters.before))
    for key, value in filters.metadata:
        found.append(IContains(KeyTextTransform(key, KeyTransform("metadata", "coverage")), value))
    if filters.labels is not None:
        found.append(Q(labels=[]) | Q(labels__overlap=list(filters.labels)))
    return found


def _any(lookup: str, values: Sequence[str]) -> list[Q]:
    return [_or(lookup, values)] if values else []


def _or(lookup: str, values: Sequence[str]) -> Q:
    """One of the values holds; nothing does where there are none."""
    condition = Q(pk__in=[])
    for value in values:
        condition |= Q(**{lookup: value})
    return condition
