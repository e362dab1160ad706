"""The steps between ranking and prompt: duplicates, variety, surroundings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import steps
from indexer.steps import Row
from ragplat.errors import BadInput
from ragplat.types import ScoredChunk
from tests.chunks import scored

WORDS = [a + b + c for a in "bcdfghkl" for b in "aeiou" for c in "lmnprstvwz"]


def chunk(i: int, text: str = "", document: int = 1, start: int = 0, score: float | None = None, **more) -> ScoredChunk:
    return scored(i, text, document, start, **({} if score is None else {"score": score}) | more)


def ids(chunks) -> list[int]:
    return [one.chunk_id for one in chunks]


# --- near-duplicates -------------------------------------------------------------------------------------------------


def apart(*texts: str) -> list[ScoredChunk]:
    """Chunks of different documents."""
    return [chunk(number, text, document=number) for number, text in enumerate(texts, start=1)]


def test_the_overlap_is_the_jaccard_coefficient_of_runs_of_three_words():
    # {abc bcd cde} and {abc bcd cdx}: 2 shared of 4
    kept, dropped = steps.collapse(apart("a b c d e", "A  b c\nd x"), 0.5)
    assert (ids(kept), dropped) == ([1], [(2, 1, 0.5)])
    assert steps.collapse(apart("a b c d e", "a b c d x"), 0.51)[1] == []


def test_what_differs_in_a_number_is_not_the_same():
    text = " ".join(WORDS[:100])
    old, new = f"{text} Claims are open for 30 days.", f"{text} Claims are open for 90 days."
    assert ids(steps.collapse(apart(old, new), 0.9)[0]) == [1, 2]
    assert ids(steps.collapse(apart(old, old.upper()), 0.9)[0]) == [1]


def test_chinese_is_compared_by_characters():
    first, second = "数据库每周清理一次，否则表会膨胀。", "数据库每周清理一次，否则表会膨胀！"
    assert ids(steps.collapse(apart(first, second), 1.0)[0]) == [1]
    # 每周清 周清理 of 5 runs on each side are shared
    assert steps.collapse(apart("每周清理", "每周清扫"), 0.3)[1] == [(2, 1, pytest.approx(1 / 3))]
    assert steps.collapse(apart("每周清理数据", "每月备份文件"), 0.05)[1] == []


@pytest.mark.parametrize("text", ["", "***", "one", "one two", "数"])
def test_texts_without_a_run_of_three_are_compared_whole(text):
    assert ids(steps.collapse(apart(text, text, "quite another one"), 0.9)[0]) == [1, 3]


def test_the_best_stays_and_the_worse_ones_name_it():
    text = " ".join(WORDS[:100])
    kept, dropped = steps.collapse(apart("x y z", text, text + " more", "p q r", text), 0.9)
    assert ids(kept) == [1, 2, 4]
    assert [one.rank for one in kept] == [1, 2, 3]
    assert [(one.chunk_id, one.better) for one in dropped] == [(3, 2), (5, 2)]
    assert [one.overlap for one in dropped] == [pytest.approx(98 / 99), 1.0]


def test_stretches_of_a_document_that_overlap_are_no_duplicates():
    text = " ".join(WORDS[:50])
    overlapping = [chunk(1, text, start=0), chunk(2, text, start=len(text) - 10)]
    assert steps.collapse(overlapping, 0.1)[1] == []
    apart_in_one = [chunk(1, text, start=0), chunk(2, text, start=len(text))]
    assert ids(steps.collapse(apart_in_one, 0.9)[0]) == [1]


@pytest.mark.parametrize("overlap", [0, -1, 1.01, float("nan")])
def test_an_overlap_that_is_no_share_is_refused(overlap):
    with pytest.raises(BadInput, match=r"collapse is .* up to 1"):
        steps.collapse([], overlap)


def jaccard(a: str, b: str) -> float:
    first, second = ({tuple(t.split()[i : i + 3]) for i in range(max(1, len(t.split()) - 2))} for t in (a, b))
    return len(first & second) / len(first | second)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=3, max_size=9), max_size=12), st.floats(0.05, 1))
def test_collapse_is_the_plain_comparison_of_all_pairs(lists, overlap):
    chunks = apart(*map(" ".join, lists))
    kept, dropped = steps.collapse(chunks, overlap)
    assert sorted(ids(kept) + ids(dropped)) == ids(chunks)
    assert ids(kept) == sorted(ids(kept))
    texts = {one.chunk_id: one.text for one in chunks}
    for one in kept:
        assert all(jaccard(one.text, other.text) < overlap for other in kept if other.chunk_id < one.chunk_id)
    for one in dropped:
        assert one.better in ids(kept)
        assert one.better < one.chunk_id
        assert one.overlap == pytest.approx(jaccard(texts[one.chunk_id], texts[one.better]))
        assert one.overlap >= overlap


# --- variety ---------------------------------------------------------------------------------------------------------


def unit(*vectors) -> np.ndarray:
    array = np.array(vectors, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_variety_prefers_the_different_among_the_nearly_as_good():
    chunks = [chunk(1, score=1.0), chunk(2, score=0.95), chunk(3, score=0.8), chunk(4, score=0.0)]
    vectors = unit([1, 0], [1, 0.1], [0, 1], [0.5, 1])
    assert ids(steps.diversify(chunks, vectors, 0.5, 3)) == [1, 3, 2]
    assert ids(steps.diversify(chunks, vectors, 0.0, 4)) == [1, 2, 3, 4]


def test_scores_are_kept_and_ranks_are_new():
    chosen = steps.diversify([chunk(1), chunk(2), chunk(3)], unit([1, 0], [1, 0], [0, 1]), 0.9, 2)
    assert [(one.chunk_id, one.rank, one.score) for one in chosen] == [(1, 1, 0.999), (3, 2, 0.997)]


def test_equal_scores_and_vectors_go_by_rank():
    chunks = [chunk(i, score=0.5) for i in (7, 3, 5)]
    assert ids(steps.diversify(chunks, unit(*[[1, 0]] * 3), 0.7, 3)) == [7, 3, 5]
    assert steps.diversify([], np.zeros((0, 4)), 0.5, 3) == []


@pytest.mark.parametrize(
    ("diversity", "k", "vectors", "message"),
    [
        (1.1, 1, 1, "diversity is 1.1"),
        (-0.1, 1, 1, "diversity is"),
        (0.5, 0, 1, "at least 1"),
        (0.5, 1, 2, "2 vectors"),
    ],
)
def test_values_that_make_no_sense_are_refused(diversity, k, vectors, message):
    with pytest.raises(BadInput, match=message):
        steps.diversify([chunk(1)], np.ones((vectors, 2)), diversity, k)


def plain_mmr(scores, vectors, diversity, k) -> list[int]:
    """The formula of the paper, one pair at a time."""
    low, high = min(scores), max(scores)
    relevance = [(score - low) / (high - low) if high > low else 1.0 for score in scores]
    left, chosen = list(range(len(scores))), []
    while left and len(chosen) < k:

        def value(i):
            most = max((float(vectors[i] @ vectors[j]) for j in chosen), default=0.0)
            return (1 - diversity) * relevance[i] - diversity * most

        best = max(left, key=lambda i: (round(value(i), 9), -i))
        left.remove(best)
        chosen.append(best)
    return chosen


@given(st.data())
def test_variety_is_the_formula_of_the_paper(data):
    n = data.draw(st.integers(1, 8))
    scores = data.draw(st.lists(st.integers(-9, 9), min_size=n, max_size=n))
    axes = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    diversity, k = data.draw(st.sampled_from([0, 0.25, 0.5, 1])), data.draw(st.integers(1, 9))
    vectors = np.eye(4)[axes]
    found = steps.diversify([chunk(i, score=scores[i]) for i in range(n)], vectors, diversity, k)
    assert ids(found) == plain_mmr(scores, vectors, diversity, k)
    assert [one.rank for one in found] == list(range(1, len(found) + 1))


# --- surroundings ----------------------------------------------------------------------------------------------------

TEXT = (
    "# Guide\n\nWhat it is.\n\n## Install\n\nOn Linux: apt.\n\nOn Windows: an installer.\n\nThen restart.\n\n"
    "## Run\n\nStart it.\n"
)
# (text, context), as the chunker makes them: the first of a section holds its heading
PARTS = [
    ("# Guide\n\nWhat it is.", ""),
    ("## Install\n\nOn Linux: apt.", "Guide"),
    ("On Windows: an installer.", "Guide > Install"),
    ("Then restart.", "Guide > Install\n| a | b |"),
    ("## Run\n\nStart it.", "Guide"),
]


def parts(tokens: int = 100, document: int = 1) -> list[Row]:
    starts = [TEXT.index(text) for text, _ in PARTS]
    return [
        Row(document, ordinal, start, start + len(text), context, text, tokens)
        for ordinal, (start, (text, context)) in enumerate(zip(starts, PARTS, strict=True))
    ]


def hit(row: Row, chunk_id: int | None = None) -> ScoredChunk:
    chunk_id = row.document_id * 1000 + row.ordinal if chunk_id is None else chunk_id
    return chunk(chunk_id, row.text, row.document_id, row.start, ordinal=row.ordinal, context=row.context)


def widened(found) -> list[tuple[str, str]]:
    return [(TEXT[one.start : one.end], one.context) for one in found]


def test_neighbours_of_one_section_come_along():
    rows = parts()
    [(text, context)] = widened(steps.neighbours([hit(rows[2])], rows))
    assert text == "## Install\n\nOn Linux: apt.\n\nOn Windows: an installer.\n\nThen restart."
    assert context == "Guide", "of the chunk the result begins with"
    assert [text for text, _ in widened(steps.neighbours([hit(rows[4])], rows))] == ["## Run\n\nStart it."]
    assert [text for text, _ in widened(steps.neighbours([hit(rows[1])], rows))] == [
        "## Install\n\nOn Linux: apt.\n\nOn Windows: an installer."
    ]


def test_a_short_hit_takes_neighbours_of_other_sections():
    rows = parts(tokens=steps.SHORT_TOKENS - 1)
    [(text, _)] = widened(steps.neighbours([hit(rows[4])], rows))
    assert text == "Then restart.\n\n## Run\n\nStart it."


def test_a_section_comes_as_far_as_the_tokens_go():
    rows = parts()
    whole = "## Install\n\nOn Linux: apt.\n\nOn Windows: an installer.\n\nThen restart."
    for row in rows[1:4]:
        assert [text for text, _ in widened(steps.section([hit(row)], rows, 300))] == [whole]
    assert widened(steps.section([hit(rows[2])], rows, 200))[0][0] == "On Windows: an installer.\n\nThen restart."
    assert widened(steps.section([hit(rows[2])], rows, 10))[0][0] == "On Windows: an installer."
    with pytest.raises(BadInput, match="at least 1"):
        steps.section([], rows, 0)


def test_a_hit_inside_a_better_result_is_merged_into_it():
    rows = parts() + parts(document=2)
    other = rows[7]
    found = steps.section([hit(rows[3], 30), hit(other, 70), hit(rows[1], 10), hit(rows[4], 40)], rows, 300)
    assert [(one.chunk.chunk_id, one.merged) for one in found] == [(30, (10,)), (70, ()), (40, ())]


def test_a_missing_chunk_is_not_crossed():
    rows = parts()
    found = steps.section([hit(rows[3])], [rows[1], rows[3]], 1000)
    assert widened(found) == [("Then restart.", "Guide > Install\n| a | b |")]
    [alone] = steps.neighbours([hit(rows[2])], [])
    assert (alone.start, alone.end, alone.context) == (rows[2].start, rows[2].end, rows[2].context)


def test_plain_documents_are_told_by_their_context():
    rows = [
        Row(1, 0, 0, 20, "Manual", "1. Safety\nWear gloves.", 100),
        Row(1, 1, 21, 40, "Manual > 1. Safety", "And glasses.", 100),
        Row(1, 2, 41, 60, "Manual > 2. Use", "Switch it on.", 100),
    ]
    [found] = steps.section([hit(rows[1])], rows, 1000)
    assert (found.start, found.end) == (0, 40)


def test_what_the_chunker_repeated_stays_with_the_better_result():
    rows = [Row(1, n, 90 * n, 90 * n + 100, "T", "prose", 100) for n in range(3)]  # each repeats 10 characters
    worse, better = hit(rows[0], 1), hit(rows[1], 2)
    assert [(one.start, one.end) for one in steps.section([better, worse], rows, 100)] == [(90, 190), (0, 90)]
    assert [(one.start, one.end) for one in steps.section([worse, better], rows, 100)] == [(0, 100), (100, 190)]


@st.composite
def documents(draw) -> list[Row]:
    """Rows of two documents as a chunker may make them: in order, here and there overlapping, some missing."""
    rows = []
    for document in (1, 2):
        start = end = 0
        for ordinal in range(draw(st.integers(1, 8))):
            start = draw(st.integers(start + 1, end + 3)) if ordinal else 0
            end = max(end + 1, start + draw(st.integers(1, 30)))
            text = draw(st.sampled_from(["prose", "# Heading\nprose", "A then prose"]))
            context = draw(st.sampled_from(["T", "T > A", "T > B", ""]))
            tokens = draw(st.integers(1, 100))
            rows.append(Row(document, ordinal, start, end, context, text, tokens))
    return rows


@given(documents(), st.data())
def test_results_hold_every_hit_once_in_order(rows, data):
    hits = [
        chunk(row.document_id * 100 + row.ordinal, "x" * (row.end - row.start), row.document_id, row.start)
        for row in data.draw(st.lists(st.sampled_from(rows), unique=True))
    ]
    hits = [chunk(one.chunk_id, one.text, one.document_id, one.start, ordinal=one.chunk_id % 100) for one in hits]
    known = data.draw(st.lists(st.sampled_from(rows), unique=True))
    tokens = data.draw(st.integers(1, 300))
    for found in (steps.neighbours(hits, known), steps.section(hits, known, tokens)):
        check_results(hits, rows, found)


def check_results(hits, rows, found):
    order = {one.chunk_id: place for place, one in enumerate(hits)}
    places = [order[one.chunk.chunk_id] for one in found]
    assert places == sorted(places)
    listed = [one.chunk.chunk_id for one in found] + [merged for one in found for merged in one.merged]
    assert sorted(listed) == sorted(order), "each hit is a result or merged into one"
    shown: dict[int, set[int]] = {1: set(), 2: set()}
    for one in found:
        span = set(range(one.start, one.end))
        assert span
        assert not span & shown[one.chunk.document_id], "no two results overlap"
        shown[one.chunk.document_id] |= span
        assert all(order[merged] > order[one.chunk.chunk_id] for merged in one.merged)
    for one in hits:
        assert set(range(one.start, one.end)) <= shown[one.document_id], "every hit is shown in full"
    for document in (1, 2):
        ends = [row.end for row in rows if row.document_id == document]
        assert shown[document] <= set(range(max(ends))), "results are within the document"


@given(documents(), st.integers(1, 300))
def test_a_section_keeps_within_its_tokens(rows, tokens):
    for row in rows:
        [found] = steps.section([hit(row)], rows, tokens)
        place = row.document_id
        inside = [o for o in rows if o.document_id == place and found.start <= o.start and o.end <= found.end]
        assert row in inside
        assert len(inside) == 1 or sum(one.tokens for one in inside) <= tokens
