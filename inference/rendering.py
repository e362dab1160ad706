"""An answer as HTML: markers link to the places they cite, sentences say how well they are borne out."""

from collections.abc import Collection, Mapping
from html import escape
from typing import Any

from django.urls import reverse

from indexer.rendering import Span, render, visible_text
from inference.models import Turn

DOUBTS = {
    "partly": "only partly borne out by its sources",
    "unsupported": "not borne out by any source",
}

DELETED = "A deleted document"


def answer_html(turn: Turn, documents: Collection[int]) -> str:
    """The answer's text. ``documents`` are the ids that still exist: a marker to another is no link.

    The text is escaped; paragraphs, lists, code and bold are the only markup it can have.
    """

    def marker(number: int, place: int) -> str | None:
        citation = cited_at(turn, number, place)
        return citation and marker_html(citation, documents)

    return render(turn.text, "markdown", spans=_doubtful(turn), marker=marker)


def _doubtful(turn: Turn) -> list[Span]:
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


def where(citation: Mapping[str, Any]) -> str:
    """A citation's document and page in words."""
    page = f", page {citation['page']}" if citation.get("page") else ""
    return f"{citation['document'] or DELETED}{page}"


def link(view: str, place: Mapping[str, Any]) -> str:
    """The address of a passage in a view: "document" or "document-passage"."""
    return f"{reverse(view, args=[place['document_id']])}?start={place['start']}&end={place['end']}"


def sources(turn: Turn, documents: Collection[int]) -> list[dict[str, Any]]:
    """What an answer cites, by number: the document and page, and every quote from it with its links."""
    found: dict[int, dict[str, Any]] = {}
    for citation in sorted(turn.citations, key=lambda one: one["number"]):
        source = found.setdefault(
            citation["number"],
            {
                "number": citation["number"],
                "document": citation["document"] or DELETED,
                "page": citation["page"],
                "exists": citation["document_id"] in documents,
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
