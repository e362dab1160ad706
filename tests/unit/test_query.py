"""The query language: what is an operator and what is only text."""

import re
import time
from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parsers import detect
from indexer.query import TYPES, ParsedQuery, parse
from ragplat.errors import BadInput
from ragplat.types import Filters


@pytest.mark.parametrize(
    "text",
    [
        "how do harbours work?",
        "state-of-the-art well‐known",
        "-5 degrees",
        "a - b -- c --help -",
        "http://x/y?z=1 https://x",
        "std::vector name::space type::x",
        "TODO: fix at 12:30",
        "name: John, tag : x",
        '5" pipe and 6" pipe',
        'an "unclosed quote',
        'empty "" and "..." and “” and -"!"',
        'say"this',
        "l'été d'Ada 'single quotes'",
        "SELECT * FROM t WHERE a = 'b'; --",
        "title:(a OR b) AND NOT c^2 [1 TO 5] foo~2 +must wild*",
        "{{ x }} {% y %} ${z} \\n %s %(a)s",
        "「」『』«»„“",
        "人工智能是什么？",
        "...!?— ",
        "a\x00b",
        "\ud800 lone",
        "metadata.author:x meta:x meta.:x",
    ],
)
def test_what_is_only_text_stays_as_it_is(text):
    assert parse(f"  {text}\n") == ParsedQuery(text.strip(), tuple(text.split()))


@pytest.mark.parametrize(
    ("query", "text", "words", "phrases", "excluded"),
    [
        ('rope "night shift"', "rope night shift", ("rope",), ("night shift",), ()),
        ('"one"', "one", (), ("one",), ()),
        ('"a b" "c d" e', "a b c d e", ("e",), ("a b", "c d"), ()),
        ('what is "C++"?', "what is C++?", ("what", "is", "?"), ("C++",), ()),
        ('("night shift")', "(night shift)", ("(", ")"), ("night shift",), ()),
        ("“night shift” „Nachtschicht“ «équipe»", "night shift Nachtschicht équipe", (),
         ("night shift", "Nachtschicht", "équipe"), ()),
        ("什么是“人工智能”的定义", "什么是人工智能的定义", ("什么是", "的定义"), ("人工智能",), ()),
        ('什么是"人工智能"', "什么是人工智能", ("什么是",), ("人工智能",), ()),
        ("「人工知能」と『機械 学習』", "人工知能と機械 学習", ("と",), ("人工知能", "機械 学習"), ()),
        ("＂全角＂", "全角", (), ("全角",), ()),
        ("boat -red", "boat", ("boat",), (), ("red",)),
        ("-red boat -blue, sail", "boat sail", ("boat", "sail"), (), ("red", "blue")),
        ('boat -"night shift" sail', "boat sail", ("boat", "sail"), (), ("night shift",)),
        ("boat -state-of-the-art", "boat", ("boat",), (), ("state-of-the-art",)),
        ("历史 -中国 -“两个 词”", "历史", ("历史",), (), ("中国", "两个 词")),
        ('"-v" flag', "-v flag", ("flag",), ("-v",), ()),
        ('"type:ignore" comment', "type:ignore comment", ("comment",), ("type:ignore",), ()),
        ('"two  words\nhere"', "two  words\nhere", (), ("two  words\nhere",), ()),
    ],
)  # fmt: skip
def test_phrases_and_exclusions(query, text, words, phrases, excluded):
    assert parse(query) == ParsedQuery(text, words, phrases, excluded)


@pytest.mark.parametrize(
    ("query", "filters"),
    [
        ("name:report", {"names": ("report",)}),
        ('name:"annual report"', {"names": ("annual report",)}),
        ("name:“annual report” NAME:b", {"names": ("annual report", "b")}),
        ("folder:guides/en/", {"folders": ("guides/en/",)}),
        ("tag:a tag:b tag:a", {"tags": ("a", "b")}),
        ("tag：指南", {"tags": ("指南",)}),
        ("type:pdf type:DOCX", {"media_types": (detect.PDF, detect.DOCX)}),
        ("type:text/* type:application/epub+zip", {"media_types": ("text/*", detect.EPUB)}),
        ("language:en lang:ZH", {"languages": ("en", "zh")}),
        ("after:2024 before:2025-02", {"after": date(2024, 1, 1), "before": date(2025, 2, 1)}),
        ("after:2024-02-29", {"after": date(2024, 2, 29)}),
        ("before:2024-5-1,", {"before": date(2024, 5, 1)}),
        ("meta.author:Ada meta.Year:1843", {"metadata": (("author", "Ada"), ("Year", "1843"))}),
        ('meta.dc.title:"Two words"', {"metadata": (("dc.title", "Two words"),)}),
    ],
)
def test_filters(query, filters):
    expected = ParsedQuery("boat sail", ("boat", "sail"), filters=Filters(**filters))
    assert parse(f"boat {query} sail") == expected
    assert parse(f"{query} boat sail") == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("before:yesterday x", r"before:yesterday.*Write before:2024, before:2024-05 or before:2024-05-31"),
        ("after:2024-13 x", "no date"),
        ("after:2023-02-29 x", "no date"),
        ("after:0000 x", "no date"),
        ("after:２０２４ x", "no date"),
        ("after:2024 after:2023 x", "given twice"),
        ("after:2024 before:2024 x", "no day from 2024-01-01"),
        ("type:ignore x", r'no type "ignore".*pdf.*put them in quotes'),
        ("type:a/b/c x", "no type"),
        ("language:english x", "code of two letters"),
        ("-tag:old x", "leave documents out by a field"),
        ('name:"unclosed x', "not closed"),
        ('tag:"" x', "has no value"),
        ("folder:/ x", "has no value"),
        ("tag:, x", "has no value"),
        ("-red", "only says what to leave out"),
        ('-red -"blue boat" ', "only says what to leave out"),
        ("tag:a after:2024", "only says what to leave out or where to look"),
    ],
)
def test_what_makes_no_sense_is_refused(query, message):
    with pytest.raises(BadInput, match=message):
        parse(query)


def test_every_type_of_file_we_read_has_a_name():
    assert set(detect.NAMES) <= set(TYPES.values())


@given(st.text(st.characters(exclude_characters='"＂“„«「『-:：', codec=None), max_size=200))
def test_text_without_operators_comes_back(text):
    assert parse(text) == ParsedQuery(text.strip(), tuple(text.split()))


PIECES = st.sampled_from(
    ['"', "“", "”", "「", "」", "„", "«", "-", "--", ":", "：", " ", "\n", "\u3000", "name", "tag:", "type:", "after:",
     "2024", "meta.a:", "lang:", "中文", "word", "Ünï", "\x00", "\ud800", "'", "/", ".", "pdf", "en", "🚢", "\\", "%s",
     "))", "*"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(st.characters(codec=None)))
def test_any_text_is_a_query_or_bad_input(text):
    try:
        query = parse(text)
    except BadInput as error:
        assert error.message
        return
    assert query.text == query.text.strip()
    assert all(phrase in query.text or phrase.strip() in query.text for phrase in query.phrases)
    assert all(any(map(str.isalnum, one)) for one in (*query.phrases, *query.excluded))
    # Nothing gets lost: every letter is searched for, excluded, or part of a filter.
    restricted = query.filters != Filters()
    kept = letters(query.text) + letters("".join(query.excluded))
    assert restricted or sorted(kept) == sorted(letters(text))


def letters(text: str) -> list[str]:
    return re.findall(r"[^\W_]", text)


@given(st.lists(st.text("abcxyz", min_size=1), min_size=1, max_size=5), st.text("klm", min_size=1))
def test_operators_are_taken_out_wherever_they_stand(words, other):
    for n in range(len(words) + 1):
        for operator in (f"-{other}", f'-"{other} {other}"', f"tag:{other}", f'name:"{other} b"'):
            query = parse(" ".join([*words[:n], operator, *words[n:]]))
            assert (query.words, query.text) == (tuple(words), " ".join(words))


@pytest.mark.parametrize(
    "text",
    ["word " * 10_000, '"' * 50_000, "“" * 50_000, "„" * 50_000, "-" * 50_000, ' "' * 25_000, ' -"' * 20_000,
     " “a" * 20_000, "name:" * 10_000, ' tag:"' * 10_000 + "x", " meta." * 10_000, " meta" + ".a" * 20_000,
     "a" * 100_000, " -a" * 20_000 + " b"],
)  # fmt: skip
def test_long_input_takes_no_time(text):
    started = time.process_time()
    with suppress(BadInput):
        parse(text)
    assert time.process_time() - started < 1
