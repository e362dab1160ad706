"""Phrases and exclusions in the lexical follower, and the terms that large indexes leave out."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import indexer.followers.lexical as lexical
from indexer.analyzer import terms_of
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower
from indexer.query import ParsedQuery, parse


def follower(folder: Path, texts: list[str], language: str = "en") -> LexicalFollower:
    """Text n is the entry n of document n."""
    made = LexicalFollower(folder, analyzer="words-cjk@1", language=language)
    made.apply([DocumentEntries(n, (Entry(n, text),)) for n, text in enumerate(texts)], 1)
    return made


def found(hits: list[tuple[int, float]]) -> list[int]:
    return [chunk_id for chunk_id, _ in hits]


@pytest.mark.parametrize(
    ("phrase", "text", "expected"),
    [
        ("night shift", "On the night shift, nobody sleeps.", True),
        ("night shift", "The shift at night", False),
        ("night shift", "a night without a shift", False),
        ("running shoes", "She bought a running shoe.", True),  # endings do not count
        ("Night Shifts", "NIGHT SHIFT", True),
        ("cafe noir", "un café noir", True),
        ("night shift", "night-shift workers", True),  # nor does punctuation
        ("state-of-the-art model", "a state of the art model", True),
        ("state of the art", "our state-of-the-art model", True),
        ("the art model", "our state-of-the-art model", True),
        ("PubMed database", "the pubmed database", True),
        ("the pubmed database", "the PubMed database", True),
        ("getUserById", "call getUserById(7)", True),
        ("getUserById", "get the user by id", False),
        ("user by id", "call getUserById(7)", True),
        ("id get", "getUserById getUserById", False),  # two words, each with its own parts
        ("by id http", "getUserById HTTPResponse2", False),
        ("getUserById returns", "getUserById returns null", True),
        ("path.join", "os.path.join(a, b)", True),
        ("snake_case", "a_snake_case_name", True),
        ("snake_case", "a case of snake", False),
        ("case snake_case", "snake_case", False),  # the whole compound is no neighbour of its parts
        ("C++ compiler", "a C++ compiler", True),
        ("C++ compiler", "a C compiler", False),
        ("v1.2.3", "since v1.2.3", True),
        ("v1.2.3", "since v1.3.2", False),
        ("3.14", "pi is 3.14", True),
        ("人工智能", "讨论人工智能的历史", True),
        ("人工智能", "人工的智能", False),
        ("人工智能", "人工，智能", False),
        ("人工智能", "智能人工 工智 能人", False),
        ("人工智能", "人工智", False),
        ("智", "人工智能", True),
        ("第3章", "见第3章节", True),
        ("第3章", "第3节，章", False),
        ("2024年", "在2024年的春天", True),
        ("用Python", "使用Python编程", True),
        ("Python编程", "使用Python编程语言", True),
        ("東京都", "東京都庁", True),
        ("수도 서울", "대한민국의 수도 서울은", True),
        ("one two", "two one two", True),
    ],
)
def test_phrases(tmp_path, phrase, text, expected):
    one = follower(tmp_path, [text, "something else"])
    asked = ParsedQuery(phrase, phrases=(phrase,))
    assert found(one.search(asked, 5)) == ([0] if expected else [])
    assert one.matching(asked, [0, 1]) == ({0} if expected else set())
    without = ParsedQuery("something else " + text, excluded=(phrase,))
    assert set(found(one.search(without, 5))) == ({1} if expected else {0, 1})


TEXT = st.lists(
    st.sampled_from(["red", "boat", "reds", "redBoat", "red_boat", "red-boat", "红", "红船", "船", "船，", "7", "C++"]),
    min_size=1,
    max_size=7,
).flatmap(lambda words: st.sampled_from([" ", ""]).map(lambda between: between.join(words)))


def in_a_row(phrase: list[str], row) -> bool:
    return any(list(row[n : n + len(phrase)]) == phrase for n in range(len(row)))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=8), phrases=st.lists(TEXT, min_size=1, max_size=4))
def test_a_phrase_is_found_where_its_terms_stand_in_a_row(texts, phrases):
    with tempfile.TemporaryDirectory() as folder:
        one = follower(Path(folder), texts, "zh")
        for phrase in phrases:
            row = terms_of(phrase, "zh").row
            expected = set()
            for n, text in enumerate(texts):
                terms = terms_of(text, "zh")
                if any(in_a_row(row, other) for other in (terms.row, *terms.forms)):
                    expected.add(n)
            asked = ParsedQuery(phrase, phrases=(phrase,))
            assert set(found(one.search(asked, 20))) == expected
            assert one.matching(asked, range(len(texts))) == expected
            rest = ParsedQuery("red", excluded=(phrase,))
            assert expected.isdisjoint(found(one.search(rest, 20)))
            assert one.matching(rest, range(len(texts))) == set(range(len(texts))) - expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("甲乙丙丁", min_size=1, max_size=9), min_size=1, max_size=8), st.text("甲乙丙丁", min_size=1))
def test_a_chinese_phrase_is_a_substring(texts, phrase):
    with tempfile.TemporaryDirectory() as folder:
        hits = follower(Path(folder), texts, "zh").search(ParsedQuery(phrase, phrases=(phrase,)), 20)
        assert set(found(hits)) == {n for n, text in enumerate(texts) if phrase in text}


TEXTS = ["red boat and blue sail", "blue boat", "red sail", "boat red", "red boat red boat, harbour", "C compiler"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("red boat", {0, 1, 2, 3, 4}),
        ('"red boat"', {0, 4}),
        ('"red boat" harbour', {0, 4}),  # only quoted words must occur
        ('"red boat" "blue sail"', {0}),
        ("boat -red", {1}),
        ('boat -"red boat"', {1, 3}),
        ('"red boat" -harbour', {0}),
        ('"red boat" -boat', set()),
        ('"no such words"', set()),
        ("boat -missing", {0, 1, 3, 4}),
        ("boat -boats", set()),
        ("compiler -C++", {5}),
    ],
)
def test_queries(tmp_path, query, expected):
    one = follower(tmp_path, TEXTS)
    assert set(found(one.search(parse(query), 10))) == expected
    assert set(found(one.search(parse(query), 10, range(6)))) == expected
    assert set(found(one.search(parse(query), 10, [0, 1]))) == expected & {0, 1}


def test_phrases_and_other_words_count_for_the_score(tmp_path):
    one = follower(tmp_path, TEXTS)
    assert found(one.search(parse('"red boat" sail'), 5))[0] == 0
    assert found(one.search(parse('"red boat" harbour'), 5))[0] == 4
    plain, quoted = dict(one.search("red boat", 5)), dict(one.search(parse('"red boat"'), 5))
    assert all(quoted[n] > plain[n] for n in (0, 4))


def test_a_parsed_query_without_operators_is_its_text(tmp_path):
    one = follower(tmp_path, TEXTS)
    assert one.search(parse("red boat harbour"), 5) == one.search("red boat harbour", 5)


def test_matching_without_conditions_leaves_the_chunks_alone(tmp_path):
    one = follower(tmp_path, TEXTS)
    assert one.matching(parse("red boat"), [3, 99]) == {3, 99}
    assert one.matching(parse("boat -red"), [1, 3, 99]) == {1}
    assert one.matching(parse('"red boat"'), []) == set()


def test_matching_sees_what_another_instance_applied(tmp_path):
    one = follower(tmp_path, TEXTS)
    assert one.matching(parse('"red boat"'), [1]) == set()
    other = LexicalFollower(tmp_path, analyzer="words-cjk@1", language="en")
    other.apply([DocumentEntries(1, (Entry(1, "a red boat"),))], 2)
    assert one.matching(parse('"red boat"'), [0, 1]) == {0, 1}
    other.apply([DocumentEntries(1, ())], 3)
    assert one.matching(parse('"red boat"'), [0, 1]) == {0}


def test_separators_do_not_make_an_entry_longer(tmp_path):
    one = follower(tmp_path, ["redBoat tree", "a b c tree", "self.redBoat tree", "a b c d e tree"])
    scores = dict(one.search("tree", 5))
    assert scores[0] == scores[1] > scores[2] == scores[3]


def test_terms_are_what_is_searched_for(tmp_path):
    one = follower(tmp_path, [])
    assert one.terms(parse('the "running boats" -red folder:x boats')) == ["the", "run", "boat"]
    assert one.terms("getUser") == ["getus", "get", "user"]


@pytest.mark.parametrize(
    "query", ['"' + "word " * 1500 + '"', "word " * 3000, " ".join(f"-word{n}" for n in range(900)) + " x"]
)
def test_long_phrases_and_many_exclusions(tmp_path, query):
    assert follower(tmp_path, TEXTS).search(parse(query), 5) == []


def common_and_rare(folder: Path) -> LexicalFollower:
    dice = random.Random(3)
    return follower(
        folder, ["the boat " + " ".join(dice.choices(["red", "blue", "sail", "mast"], k=4)) for _ in range(60)]
    )


def test_a_large_index_leaves_common_terms_out(tmp_path, monkeypatch):
    one = common_and_rare(tmp_path)
    everything = one.search("the red boat", 10)
    monkeypatch.setattr(lexical, "MANY_ENTRIES", 50)
    assert one.search("the red boat", 10) == one.search("red", 10) != everything
    assert one.search("the boat", 10) == one.search("the boat", 10, range(60))  # nothing rarer is left


def test_a_large_index_still_fills_k(tmp_path, monkeypatch):
    one = common_and_rare(tmp_path)
    everything = one.search("the red boat", 60)
    monkeypatch.setattr(lexical, "MANY_ENTRIES", 50)
    assert len(everything) == 60
    assert one.search("the red boat", 60) == everything
    assert len(one.search("the missing", 5)) == 5
    assert {n for n, _ in one.search(parse('"the boat" missing'), 60)} == set(range(60))
