"""Filters, and the steps between the legs and the chunks that are shown, over real documents."""

from dataclasses import asdict, replace
from datetime import date
from unittest import mock

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from indexer import follow, scope, tasks
from indexer import search as search_module
from indexer.documents import add_tags
from indexer.fusion import fuse
from indexer.ingest import ingest_paths
from indexer.models import Chunk, Document, recipe_value
from indexer.search import search
from ragplat.errors import BadInput
from ragplat.types import Filters
from tests.integration.test_indexing import corpus, indexed  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("embed")]

CRANE = "The crane at quay {n} lifts containers of up to {n} tonnes, and is inspected in the month number {n}. "


def paragraphs(*numbers: int) -> str:
    return "\n\n".join(CRANE.format(n=n) * 4 for n in numbers)


@pytest.fixture
def filled(corpus):  # noqa: F811
    indexed(corpus, "guides/en/cranes.md", "# Cranes\n\nEvery crane has a number.\n")
    indexed(corpus, "guides/de/krane.md", "# Krane\n\nDer Kran an der Mole hat eine Nummer. Es ist ein Kran.\n")
    indexed(corpus, "notes.txt", "The crane is being repaired.")
    Document.objects.filter(name="notes.txt").update(
        tags=["repair"], dated=date(2024, 5, 1), coverage={"metadata": {"author": "Ada Lovelace"}}
    )
    return corpus


FILTERS = [
    (Filters(names=("CRANE",)), {"guides/en/cranes.md"}),
    (Filters(folders=("guides",)), {"guides/en/cranes.md", "guides/de/krane.md"}),
    (Filters(folders=("guides/de/",)), {"guides/de/krane.md"}),
    (Filters(folders=("guide",)), set()),
    (Filters(tags=("repair", "other")), {"notes.txt"}),
    (Filters(media_types=("text/plain",)), {"notes.txt"}),
    (Filters(media_types=("text/*",), languages=("de",)), {"guides/de/krane.md"}),
    (Filters(before=date(2024, 5, 2)), {"notes.txt"}),
    (Filters(before=date(2024, 5, 1)), set()),
    (Filters(after=date(2024, 5, 1), before=date(2025, 1, 1)), {"notes.txt"}),
    (Filters(metadata=(("author", "lovelace"),)), {"notes.txt"}),
    (Filters(metadata=(("author'; --", "x"),)), set()),
    (Filters(names=("100%",)), set()),
    (Filters(documents=()), set()),
]


@pytest.mark.parametrize("listed", [0, 10_000])
def test_filters_hold_in_every_mode(filled, listed, monkeypatch):
    monkeypatch.setattr(scope, "LISTED_DOCUMENTS", listed)
    for filters, names in FILTERS:
        for mode in ("dense", "lexical", "hybrid"):
            found = search(filled, "crane Kran number Nummer", mode=mode, filters=filters)
            assert {chunk.document for chunk in found.chunks} == names, (filters, mode)
            assert found.trace.scope["documents"] == len(names)


OPERATORS = [
    ('"crane is being"', {"notes.txt"}),
    ("crane -repaired", {"guides/en/cranes.md", "guides/de/krane.md"}),
    ('"being crane"', set()),
    ("crane Kran folder:guides lang:de", {"guides/de/krane.md"}),
    ("crane meta.author:Lovelace", {"notes.txt"}),
    ("crane type:txt", {"notes.txt"}),
    ("crane before:2024-06", {"notes.txt"}),
]


def test_operators_hold_in_every_mode(filled):
    for query, names in OPERATORS:
        for mode in ("dense", "lexical", "hybrid"):
            found = {chunk.document for chunk in search(filled, query, mode=mode, syntax=True).chunks}
            assert found <= names, (query, mode)
            assert mode == "lexical" or found == names, (query, mode)
    # A question is not a command: without `syntax` the same characters are words.
    assert len(search(filled, '"being crane" -repaired', mode="dense").chunks) == 3


def test_the_dense_leg_counts_as_far_as_the_model_knows_the_words(filled):
    weights = [leg.weight for leg in seen_by_fusion(filled, "crane number")]
    assert weights == pytest.approx([0.4, 0.6])
    weights = [leg.weight for leg in seen_by_fusion(filled, "crane \U00013000")]
    assert weights == pytest.approx([0.2, 0.8])
    assert [leg.name for leg in seen_by_fusion(filled, "\U00013000")] == ["lexical"]


def seen_by_fusion(corpus, query):  # noqa: F811
    with mock.patch("indexer.search.fuse", side_effect=fuse) as fused:
        search(corpus, query)
    return fused.call_args.args[0]


def test_a_follower_that_begins_from_nothing_is_left_to_the_worker(filled, monkeypatch):
    """As after an upgrade: the search says what it does not know yet, and the worker is told."""
    monkeypatch.setattr(follow, "AT_SEARCH", 1)
    index = filled.active_index()
    follow.lexical(index).reset()
    ProcrastinateJob.objects.all().delete()
    found = search(filled, "crane")
    assert "3 changed documents" in found.trace.notes[0] or "2 changed documents" in found.trace.notes[0]
    search(filled, "crane")
    (job,) = ProcrastinateJob.objects.filter(task_name="follow_index")
    tasks.follow_index(**job.args)
    assert not search(filled, "crane").trace.notes


def test_labels_hide_documents_from_those_who_do_not_hold_them(filled):
    Document.objects.filter(name="notes.txt").update(labels=["board"])

    def names(labels):
        found = search(filled, "crane", filters=Filters(labels=labels)).chunks
        return {chunk.document for chunk in found}

    assert "notes.txt" in names(None)
    assert "notes.txt" not in names(())
    assert "notes.txt" not in names(("staff",))
    assert names(("staff", "board")) >= {"notes.txt", "guides/en/cranes.md"}


def test_a_new_version_of_a_file_keeps_tags_and_labels(corpus, tmp_path):  # noqa: F811
    file = tmp_path / "plan.md"
    for text in ("The first plan.", "The second plan."):
        file.write_text(text)
        for pk in ingest_paths(corpus, [file]).documents:
            tasks.index_document(document_id=pk)
        if text == "The first plan.":
            add_tags(corpus.documents.values_list("pk", flat=True), ["plans"])
            corpus.documents.update(labels=["board"])
    document = corpus.documents.get()
    assert (document.text.strip(), document.tags, document.labels) == ("The second plan.", ["plans"], ["board"])


def test_a_tag_that_cannot_be_kept_is_refused(filled):
    for tag in ("", "x" * 61):
        with pytest.raises(BadInput, match="The tag"):
            add_tags(filled.documents.values_list("pk", flat=True), [tag])


def test_filters_from_json_say_what_is_wrong():
    read = scope.read({"tags": ["a"], "after": "2024-05-01", "metadata": {"author": "Ada"}, "documents": [3]})
    assert read == Filters(tags=("a",), after=date(2024, 5, 1), metadata=(("author", "Ada"),), documents=(3,))
    for wrong in ({"colour": ["red"]}, {"tags": "a"}, {"after": "soon"}, {"documents": [True]}, {"metadata": ["x"]}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            scope.read(wrong)


@pytest.mark.parametrize("expand", ["neighbours", "section"])
def test_a_hit_brings_its_surroundings_along(corpus, expand):  # noqa: F811
    text = f"# Cranes\n\n{paragraphs(*range(1, 9))}\n\n# Ferries\n\n{'The ferry leaves at noon. ' * 30}\n"
    document = indexed(corpus, "harbour.md", text)
    recipe = replace(recipe_value(corpus.answer_recipe_id), expand=expand)
    plain = search(corpus, "crane at quay 4", k=2, mode="lexical").chunks
    found = search(corpus, "crane at quay 4", k=2, mode="lexical", recipe=recipe)
    best = found.chunks[0]
    assert document.text[best.start : best.end] == best.text
    assert best.matched == (plain[0].start, plain[0].end)
    assert best.start <= plain[0].start
    assert len(best.text) > len(plain[0].text)
    assert "ferry" not in best.text
    for one, other in zip(found.chunks, found.chunks[1:], strict=False):
        assert one.end <= other.start or other.end <= one.start
    assert [chunk.rank for chunk in found.chunks] == list(range(1, len(found.chunks) + 1))


def test_near_duplicates_make_room_for_something_else(corpus):  # noqa: F811
    text = "The breakwater of the harbour is six hundred and forty metres long in all, " + " ".join(map(str, range(50)))
    indexed(corpus, "one.md", text + " too.")
    indexed(corpus, "copy.md", text + " as well.")
    indexed(corpus, "other.md", "A breakwater keeps the waves out.")
    found = search(corpus, "How long is the breakwater of the harbour in metres?", k=2)
    assert "other.md" in {chunk.document for chunk in found.chunks}
    assert [one.step for one in found.trace.dropped] == ["collapse"]
    recipe = replace(recipe_value(corpus.answer_recipe_id), collapse=None)
    assert {
        chunk.document for chunk in search(corpus, "How long is the breakwater in metres?", k=2, recipe=recipe).chunks
    } == {
        "one.md",
        "copy.md",
    }


def test_diversity_threshold_and_other_wordings(filled):
    base = recipe_value(filled.answer_recipe_id)
    varied = search(filled, "crane", k=2, recipe=replace(base, diversity=0.9)).chunks
    assert len({chunk.document for chunk in varied}) == 2
    none = search(filled, "crane", recipe=replace(base, threshold=2.0))
    assert none.chunks == ()
    assert {one.step for one in none.trace.dropped} == {"threshold"}
    both = search(filled, "crane", variants=["Kran Mole"], mode="lexical")
    assert {chunk.document for chunk in both.chunks} >= {"guides/de/krane.md", "notes.txt"}
    assert [leg.name for leg in both.trace.legs] == ["lexical", "lexical 2"]


def test_the_trace_tells_every_rank_and_is_json(filled):
    import json

    found = search(filled, "crane number", filters=Filters(folders=("guides",)))
    trace = json.loads(json.dumps(asdict(found.trace)))
    assert [leg["name"] for leg in trace["legs"]] == ["dense", "lexical"]
    dense = dict(map(tuple, trace["legs"][0]["hits"]))
    for chunk in found.chunks:
        assert chunk.dense is None or dense[chunk.chunk_id] == chunk.dense.score
    assert trace["filters"] == [{"folders": ["guides"]}]
    assert trace["scope"] == {
        "documents": 2,
        "chunks": Chunk.objects.filter(document__name__startswith="guides").count(),
    }
    assert set(trace["seconds"]) >= {"embed", "fuse", "join", "total"}


QUERIES = [
    "a",
    "?",
    "!!! ... ,,,",
    "'; DROP TABLE indexer_chunk; --",
    "title:(a AND b OR",
    "NaN",
    "\x00crane\x00",
    "中 crane أ",
    "\ud800crane",
    "word " * 1999,
    "%s %(x)s {0}",
    "\u200b",
    "-",
    '"',
    "*:*",
]


def test_any_query_gets_an_answer(filled):
    for query in QUERIES:
        for mode in ("dense", "lexical", "hybrid"):
            try:
                found = search(filled, query, mode=mode)
            except BadInput as error:
                assert "empty" in str(error)
            else:
                assert len(found.chunks) <= 10


def test_any_other_k_is_refused(filled):
    for k in (0, -1, 10**9):
        with pytest.raises(BadInput, match=f"k is {k}"):
            search(filled, "crane", k=k)


def test_a_document_put_out_of_reach_during_a_search_is_not_shown(filled, monkeypatch):
    legs_before = search_module._legs

    def labelled_meanwhile(*args):
        Document.objects.filter(name="notes.txt").update(labels=["board"])
        return legs_before(*args)

    monkeypatch.setattr(search_module, "_legs", labelled_meanwhile)
    found = search(filled, "crane", filters=Filters(labels=()))
    assert "notes.txt" not in {chunk.document for chunk in found.chunks}


def test_a_damaged_keyword_index_is_built_again(filled):
    index = filled.active_index()
    assert search(filled, "crane", mode="lexical").chunks
    for file in (follow.folder_of(index) / "lexical").rglob("*.idx"):
        file.write_bytes(b"\xff" * file.stat().st_size)
    before = follow.lexical(index)
    before._view = before._view and replace(before._view, searcher=before._view.index.searcher())
    for _ in range(2):
        search(filled, '"crane is being"', syntax=True)  # never a panic
    assert {chunk.document for chunk in search(filled, "repaired", mode="lexical").chunks} == {"notes.txt"}
