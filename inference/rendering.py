"""An answer as HTML: markers link to the places they cite, sentences say how well they are borne out."""

from collections.abc import Collection, Iterable, Mapping
from html import escape
from typing import Any

from django.urls import reverse

from indexer import store
from indexer.models import Corpus
from indexer.rendering import Span, render, visible_text
from inference.models import Turn
from inference.tree import Parents, alternatives

DOUBTS = {
    "partly": "only partly borne out by its sources",
    "unsupported": "not borne out by any source",
}

DELETED = "A deleted document"
REPLACED = "A newer version has replaced this document. The quote is from the old one."
REDACTED = "What this answer took from it was deleted with it."
CLOSEST = 3  # passages offered when the documents do not answer
ENDINGS = {  # how an answer ended, where that is not as usual
    "stopped": "The answer was stopped here.",
    "length": "The answer reached its longest length and stops here.",
}


def prepare(corpus: Corpus, tree: Parents, shown: Iterable[Turn]) -> None:
    """Give turns what their templates show. Three queries at most, however many turns.

    `html`, `doubts`, `sources`, `closest`, `ending`, and `versions`: the alternatives to it, where there are any.
    """
    shown = list(shown)
    documents = existing(corpus, shown)
    wanted = {one["chunk_id"] for turn in shown for one in _best(turn)}
    hits = store.hits(corpus.active_index(), wanted) if wanted else {}
    for turn in shown:
        turn.html = answer_html(turn, documents)
        turn.doubts = {one["support"] for one in turn.sentences}
        turn.sources = sources(turn, documents)
        turn.closest = [_closest(hits[one["chunk_id"]]) for one in _best(turn) if one["chunk_id"] in hits]
        turn.ending = ending(turn)
        turn.versions = _versions(tree, turn.pk)


def existing(corpus: Corpus, turns: Iterable[Turn]) -> set[int]:
    """The ids of the documents that these turns cite and that are still there. One query."""
    cited = {one["document_id"] for turn in turns for one in turn.citations}
    return set(corpus.documents.filter(pk__in=cited).values_list("pk", flat=True)) if cited else set()


def ending(turn: Turn) -> str:
    """In words, why an answer ends where it does; "" where it is complete."""
    return f"The answer was cut short: {turn.reason}" if turn.reason else ENDINGS.get(turn.finish_reason, "")


def _best(turn: Turn) -> list[dict[str, Any]]:
    """The chunks that came closest to an answer that was refused."""
    return turn.trace.get("chunks", [])[:CLOSEST] if turn.finish_reason == "no_answer" else []


def _closest(hit: store.Hit) -> dict[str, Any]:
    place = hit._asdict()
    return place | {
        "text": visible_text(hit.text, "markdown"),
        "viewer": link("document", place),
        "passage": link("document-passage", place),
    }


def _versions(tree: Parents, pk: int) -> dict[str, Any] | None:
    """The place of a turn among its alternatives, and those beside it; None where it is the only one."""
    versions = alternatives(tree, pk)
    place = versions.index(pk)
    if len(versions) == 1:
        return None
    return {
        "number": place + 1,
        "count": len(versions),
        "previous": versions[place - 1] if place else None,
        "next": versions[place + 1] if place + 1 < len(versions) else None,
        "later": sum(_below(tree, one) for one in versions if one != pk),
    }


def _below(tree: Parents, pk: int) -> int:
    """How many questions were asked below a turn."""
    below = {pk}
    for one in sorted(tree):
        if tree[one] in below:
            below.add(one)
    return len(below) - 1


def answer_html(turn: Turn, documents: Collection[int]) -> str:
    """The answer's text. ``documents`` are the ids that still exist: a marker to another is no link.

    The text is escaped; paragraphs, lists, code and bold are the only markup it can have.
    """

    def marker(number: int, place: int) -> str | None:
        citation = cited_at(turn, number, place)
        return citation and marker_html(citation, documents)

    return render(turn.text, "markdown", spans=doubtful(turn), marker=marker)


def doubtful(turn: Turn) -> list[Span]:
    """The sentences to mark, with words for those who do not see the line under them."""
    return [
        Span(
            one["start"],
            one["end"],
            f'<span class="doubt {one["support"]}" title="This sentence is {DOUBTS[one["support"]]}.">',
            f'<span class="visually-hidden"> ({DOUBTS[one["support"]]})</span></span>',
        )
        for one in turn.sentences
        if one["support"] in DOUBTS
    ]


def cited_at(turn: Turn, number: int, place: int) -> Mapping[str, Any] | None:
    """The citation that the marker [number] at this place of the text stands for; None when it stands for none."""
    mine = [one for one in turn.sentences if one["start"] <= place < one["end"]]
    places = [turn.citations[index] for one in mine for index in one.get("places", [])]
    return next((one for one in [*places, *turn.citations] if one["number"] == number), None)


def marker_html(citation: Mapping[str, Any], documents: Collection[int]) -> str:
    """The [n] of a citation: a link to the viewer, which opens beside the answer where scripts run."""
    label = escape(f"Source {citation['number']}: {where(citation)}")
    if citation["document_id"] not in documents:
        return f'<span class="marker gone" title="{label} (gone)">{citation["number"]}</span>'
    return (
        f'<a class="marker" href="{escape(link("document", citation))}"'
        f' hx-get="{escape(link("document-passage", citation))}" hx-target="#evidence-body"'
        f' title="{label}" aria-label="{label}">{citation["number"]}</a>'
    )


def address(turn: Turn) -> str:
    """The address of a turn on the page of its conversation, on a path that leads through it."""
    return f"{reverse('conversation', args=[turn.conversation_id])}?turn={turn.pk}#turn-{turn.pk}"


def where(citation: Mapping[str, Any]) -> str:
    """A citation's document and page in words."""
    page = f", page {citation['page']}" if citation.get("page") else ""
    return f"{citation['document'] or DELETED}{page}"


def link(view: str, place: Mapping[str, Any]) -> str:
    """The address of a passage in a view: "document" or "document-passage"."""
    return f"{reverse(view, args=[place['document_id']])}?start={place['start']}&end={place['end']}"


def sources(turn: Turn, documents: Collection[int]) -> list[dict[str, Any]]:
    """What an answer cites, by number: the document and page, and every quote from it with its links.

    `gone` says what became of a document that is no longer there.
    """
    found: dict[int, dict[str, Any]] = {}
    for citation in sorted(turn.citations, key=lambda one: one["number"]):
        source = found.setdefault(
            citation["number"],
            {
                "number": citation["number"],
                "document": citation["document"] or DELETED,
                "page": citation["page"],
                "gone": "" if citation["document_id"] in documents else REPLACED if citation["quote"] else REDACTED,
                "quotes": [],
            },
        )
        source["quotes"].append(
            {
                "quote": visible_text(citation["quote"], "markdown"),
                "viewer": link("document", citation),
                "passage": link("document-passage", citation),
            }
        )
    return list(found.values())
