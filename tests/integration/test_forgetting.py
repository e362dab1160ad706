"""What stored answers hold of a document goes with the document."""

import pytest
from asgiref.sync import async_to_sync
from hypothesis import given
from hypothesis import strategies as st

from indexer import corpora
from indexer.ingest import ingest_paths
from indexer.models import Document, Recipe
from inference import forgetting, turns
from inference.forgetting import GONE, redact
from inference.models import Turn
from tests.jobs import run_jobs
from tests.rows import cite, make_document, make_turn

pytestmark = pytest.mark.django_db

WORDS = st.text("ab [].\n", min_size=1, max_size=8)


@given(
    st.lists(st.tuples(WORDS, WORDS, st.lists(st.integers(0, 3), max_size=2)), max_size=6),
    st.sets(st.integers(0, 3)),
)
def test_sentences_of_other_documents_keep_their_words_and_places(parts, deleted):
    """``parts``: what stands before each sentence, the sentence, and which of four documents it rests on."""
    turn = Turn(citations=[{"number": n + 1, "document_id": n, "document": "d", "quote": "q"} for n in range(4)])
    text, sentences = "", []
    for before, words, places in parts:
        start = len(text) + len(before)
        text += before + words
        sentences.append({"start": start, "end": len(text), "places": places, "citations": places, "support": "partly"})
    turn.text, turn.sentences = text, sentences
    redact(turn, deleted)
    expected = ""
    for (before, words, places), now in zip(parts, turn.sentences, strict=True):
        rests_on_it = bool(deleted & set(places))
        expected += before + (GONE if rests_on_it else words)
        assert turn.text[now["start"] : now["end"]] == (GONE if rests_on_it else words)
        assert now["places"] == ([] if rests_on_it else places)
    assert turn.text == expected
    assert [bool(one["quote"]) for one in turn.citations] == [number not in deleted for number in range(4)]


def test_other_answers_and_other_quotes_stay(user, corpus):
    kept, gone = make_document(corpus, "kept.md", "It is tall."), make_document(corpus, "gone.md", "It is red.")
    both = make_turn(
        user,
        corpus,
        text="It is tall. [1] It is red. [2]",
        citations=[cite(kept, "It is tall."), cite(gone, "It is red.", 2)],
        sentences=[
            {"start": 0, "end": 15, "support": "supported", "citations": [1], "places": [0]},
            {"start": 16, "end": 30, "support": "supported", "citations": [2], "places": [1]},
        ],
    )
    other = make_turn(user, corpus, text="It is tall. [1]", citations=[cite(kept, "It is tall.")])
    before = other.citations
    gone.delete()
    both.refresh_from_db()
    other.refresh_from_db()
    assert both.text == f"It is tall. [1] {GONE}"
    assert [one["quote"] for one in both.citations] == ["It is tall.", ""]
    assert [one["document"] for one in both.citations] == ["kept.md", ""]
    assert (other.text, other.citations) == ("It is tall. [1]", before)


def test_an_answer_made_while_its_document_is_deleted_is_kept_without_it(user, corpus):
    document = make_document(corpus, "gone.md", "It is red.")
    turn = make_turn(user, corpus, text="", state=Turn.State.ASKED)
    turn.text, turn.citations = "It is red. [1]", [cite(document, "It is red.")]
    turn.sentences = [{"start": 0, "end": 14, "support": "supported", "citations": [1], "places": [0]}]
    document.delete()
    forgetting.keep(turn)
    turn.refresh_from_db()
    assert turn.text == GONE
    assert turn.citations[0]["quote"] == ""


@pytest.mark.django_db(transaction=True)
def test_what_was_streamed_is_not_streamed_again(user, toy_platform, tmp_path):
    recipe = Recipe.objects.create(kind=Recipe.Kind.INDEX, name="toy", params={"embedder": "hashing"})
    corpus = corpora.create("Harbour", recipe=recipe.name)
    (tmp_path / "a.md").write_text("# Harbour\n\nThe lighthouse is 31 metres tall.\n")
    ingest_paths(corpus, [tmp_path / "a.md"])
    run_jobs()

    async def followed(turn_id):
        return [event async for event in turns.events(turn_id)]

    turn = turns.ask(user, corpus, "How tall is the lighthouse?")
    first = async_to_sync(followed)(turn.pk)
    assert any("31 metres" in str(event) for event in first)
    Document.objects.get().delete()
    assert async_to_sync(followed)(turn.pk) == [{"type": "done", "turn": turn.pk}]
    turn.refresh_from_db()
    assert "31 metres" not in f"{turn.text}{turn.citations}{turn.sentences}{turn.trace}"
