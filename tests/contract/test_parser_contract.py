"""What every parser promises, on one document of every kind."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from indexer.parsers import PARSER_FOR, PARSERS, parse, parser_for
from indexer.parsers.base import Limits
from indexer.parsers.detect import NAMES, detect
from ragplat.errors import BadInput, CorruptDocument, EmptyDocument, LimitExceeded, UnsupportedFormat
from tests.fixtures.documents import SAMPLES

TEXTS = [name for name in SAMPLES if name != "scan.png"]  # OCR takes seconds: it has its own test


@pytest.fixture(params=TEXTS)
def sample(request, tmp_path) -> Path:
    path = tmp_path / request.param
    path.write_bytes(SAMPLES[request.param])
    return path


def parsed(path: Path, limits: Limits | None = None):
    return parse(path, path.name, detect(path, path.name), limits or Limits())


def test_every_kind_has_a_parser_that_reads_it():
    assert set(PARSER_FOR) == set(NAMES)
    for media_type in NAMES:
        assert media_type in parser_for(media_type).media_types


def test_signatures_are_stable_and_name_the_parser():
    for name in PARSERS.names():
        signature = PARSERS.get(name)().signature()
        assert signature == PARSERS.get(name)().signature()
        assert signature.startswith(f"parser|name:{name}|v:")


def test_the_text_is_canonical(sample):
    made = parsed(sample)
    assert "Zebra" in made.text
    assert "\0" not in made.text and "\r" not in made.text
    assert made.text.encode()  # no lone surrogate
    assert made.parser == parser_for(detect(sample, sample.name)).signature()
    json.dumps(asdict(made))


def test_pages_lie_in_the_text_in_order(sample):
    made = parsed(sample)
    assert [page.number for page in made.pages] == list(range(1, len(made.pages) + 1))
    end = 0
    for page in made.pages:
        assert end <= page.start <= page.end <= len(made.text)
        end = page.end
        assert (page.start == page.end) == (page.number in made.blank_pages)


def test_the_same_file_gives_the_same_text(sample):
    assert parsed(sample) == parsed(sample)


def test_too_much_text_is_an_error_that_names_the_limit(sample):
    with pytest.raises(LimitExceeded, match="more than 4 characters"):
        parsed(sample, Limits(characters=4))


def test_a_cut_off_file_is_a_document_error_or_still_text(sample):
    sample.write_bytes(sample.read_bytes()[: len(sample.read_bytes()) * 2 // 3])
    try:
        assert parsed(sample).text
    except (CorruptDocument, EmptyDocument) as error:
        assert len(str(error)) > 20


def test_a_named_parser_refuses_what_it_does_not_read(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("text")
    with pytest.raises(UnsupportedFormat, match='The parser "pdf" reads only'):
        parse(path, path.name, "text/plain", Limits(), parser="pdf")
    with pytest.raises(BadInput, match="Choose one of: docx, epub"):
        parse(path, path.name, "text/plain", Limits(), parser="nope")
    with pytest.raises(UnsupportedFormat, match="Supported are: PDF"):
        parse(path, path.name, "video/mp4", Limits())
