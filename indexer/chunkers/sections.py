"""Headings and what stands below them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from indexer.chunkers.blocks import Block


@dataclass(frozen=True, slots=True)
class Section:
    """A run of headings with nothing between them, and the blocks up to the next heading."""

    headings: tuple[Block, ...]  # empty only for what comes before the first heading
    body: tuple[Block, ...]  # empty only where nothing follows the headings
    above: tuple[str, ...]  # titles of the headings that all of `headings` stand under
    path: tuple[str, ...]  # titles down to the last of `headings`: what the body stands under

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.headings + self.body


def sections(blocks: Iterable[Block]) -> list[Section]:
    """The sections of a document, in order. A heading without a body joins the next one, to never stand alone."""
    found = []
    trail: list[Block] = []  # headings the current block stands under
    headings: list[Block] = []
    body: list[Block] = []
    above: list[Block] = []

    def close() -> None:
        if headings or body:
            found.append(Section(tuple(headings), tuple(body), _titles(above), _titles(trail)))

    for block in blocks:
        if block.kind != "heading":
            body.append(block)
            continue
        if body:
            close()
            headings, body = [], []
        while trail and trail[-1].level >= block.level:
            trail.pop()
        above = _shared(above, trail) if headings else list(trail)
        headings.append(block)
        trail.append(block)
    close()
    return found


def _shared(one: list[Block], other: list[Block]) -> list[Block]:
    return [a for a, _ in takewhile(lambda pair: pair[0] is pair[1], zip(one, other, strict=False))]


def _titles(headings: list[Block]) -> tuple[str, ...]:
    return tuple(heading.title for heading in headings if heading.title)
