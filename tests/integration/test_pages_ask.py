"""Asking: questions, kept answers with their citations, streams, traces; with and without scripts."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inference import turns
from inference.models import Conversation, Turn
from tests.rows import cite, make_corpus, make_document, make_turn

pytestmark = pytest.mark.django_db
TEXT = "# Harbour\n\nThe lighthouse is 31 metres tall. It was built in 1874.\n"
SCRIPT = {"HX-Request": "true", "Accept": "*/*"}


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch):
    """The pages are tested here, not the pipeline: questions stay asked."""
    monkeypatch.setattr(turns, "_work", lambda turn, run: None)
    monkeypatch.setattr(turns, "_runs", {})


@pytest.fixture
def document(corpus):
    return make_document(corpus, "harbour.md", TEXT, title="The harbour")


def test_the_start_page_offers_questions_of_the_corpus(client, document):
    html = client.get("/").content.decode()
    assert "What is said about The harbour?" in html
    assert 'value="harbour" selected' in html


def test_a_question_leads_to_its_conversation(client, corpus, document):
    response = client.post("/ask/", {"corpus": "harbour", "question": "How tall?"})
    turn = Turn.objects.get()
    assert response.url == f"/conversations/{turn.conversation_id}/?turn={turn.pk}#turn-{turn.pk}"
    html = client.get(response.url).content.decode()
    assert f'data-events="/turns/{turn.pk}/events"' in html
    assert '<noscript><meta http-equiv="refresh"' in html
    assert client.get("/").content.decode().count("How tall?") == 1  # in the sidebar


def test_scripts_are_sent_to_a_new_conversation_and_get_later_turns(client, corpus, document):
    first = client.post("/ask/", {"corpus": "harbour", "question": "How tall?"}, headers=SCRIPT)
    conversation = Conversation.objects.get()
    assert first.headers["HX-Redirect"].startswith(f"/conversations/{conversation.pk}/")
    conversation.turns.update(state="answered")
    data = {"corpus": "harbour", "conversation": conversation.pk, "question": "Who kept it?"}
    second = client.post("/ask/", data, headers=SCRIPT).content.decode()
    assert "Who kept it?" in second and "<html" not in second
    assert conversation.turns.count() == 2


@pytest.mark.parametrize("question", ["", "   \n ", "x" * 4001])
def test_a_question_that_makes_no_sense_is_refused_where_it_was_typed(client, document, question):
    data = {"corpus": "harbour", "question": question}
    page = client.post("/ask/", data)
    assert page.status_code == 400
    assert 'role="alert"' in page.content.decode()
    assert ("The question is empty" if not question.strip() else "at most 4,000") in page.content.decode()
    script = client.post("/ask/", data, headers=SCRIPT)
    assert script.status_code == 400
    assert script.json()["error"]
    assert not Turn.objects.exists()


def test_an_unknown_corpus_is_not_found(client, user):
    assert client.post("/ask/", {"corpus": "absent", "question": "Why?"}).status_code == 404
    assert client.post("/ask/", {"question": "Why?"}, headers=SCRIPT).json()["error_type"] == "NotFound"


def test_a_conversation_stays_with_its_corpus(client, user, corpus, document):
    turn = make_turn(user, corpus)
    make_document(make_corpus("other", user), "b.md")
    data = {"corpus": "other", "conversation": turn.conversation_id, "question": "Why?"}
    assert client.post("/ask/", data, headers=SCRIPT).status_code == 400


def answered(user, corpus, document) -> Turn:
    """Two sentences that cite two places of one chunk, and one that nothing bears out."""
    text = "It is 31 metres tall. [1] Built in 1874. [1] It is **pink** <b>and</b> tall."
    places = [cite(document, "The lighthouse is 31 metres tall."), cite(document, "It was built in 1874.")]
    third = text.index("It is **")
    sentences = [
        {"start": 0, "end": 25, "support": "supported", "citations": [1], "places": [0]},
        {"start": 26, "end": 44, "support": "partly", "citations": [1], "places": [1]},
        {"start": third, "end": len(text), "support": "unsupported", "citations": [], "places": []},
    ]
    ranks = {"rank": 1, "score": 0.9, "ordinal": 0, "dense": {"rank": 1, "score": 0.7}, "lexical": None}
    trace = {
        "stages": [{"name": "search", "seconds": 0.25}],
        "chunks": [places[0] | ranks],
        "dropped": [],
    }
    return make_turn(user, corpus, text=text, sentences=sentences, citations=places, trace=trace)


def test_an_answer_is_shown_from_its_row(client, user, corpus, document):
    turn = answered(user, corpus, document)
    html = client.get(f"/conversations/{turn.conversation_id}/").content.decode()
    for citation in turn.citations:
        span = f"start={citation['start']}&amp;end={citation['end']}"
        assert f'<a class="marker" href="/documents/{document.pk}/?{span}"' in html
    assert 'class="doubt partly"' in html and "only partly borne out by its sources" in html
    assert 'class="doubt unsupported"' in html and "not borne out by any source" in html
    assert "<strong>pink</strong>" in html
    assert "<b>and</b>" not in html
    assert client.get(f"/conversations/{turn.conversation_id}/").content.decode().count("31 metres tall") >= 2


def test_a_deleted_document_takes_what_answers_took_from_it(client, user, corpus, document):
    turn = answered(user, corpus, document)
    client.post(f"/documents/{document.pk}/delete/")
    page = client.get(f"/conversations/{turn.conversation_id}/").content.decode()
    sources = client.get(reverse("turn-sources", args=[turn.pk])).content.decode()
    why = client.get(reverse("turn-trace", args=[turn.pk])).content.decode()
    for html in (page, sources, why):
        assert not any(gone in html for gone in ("harbour.md", "31 metres", "1874", f"/documents/{document.pk}/"))
    turn.refresh_from_db()
    assert turn.text == "[…] […] It is **pink** <b>and</b> tall."
    assert "[…] […]" in page and "not borne out by any source" in page
    assert "What this answer took from it was deleted with it." in sources
    assert "gone" in why


def test_a_replaced_document_leaves_its_quote_and_no_link(client, user, corpus, document):
    turn = answered(user, corpus, document)
    address = f"/documents/{document.pk}/"
    document.superseded = True
    document.delete()
    html = client.get(f"/conversations/{turn.conversation_id}/").content.decode()
    assert address not in html
    assert "The lighthouse is 31 metres tall." in html
    assert "A newer version has replaced this document" in html


def test_a_refusal_offers_the_closest_passages(client, user, corpus, document):
    chunk = document.chunks.get()
    found = {"chunk_id": chunk.pk, "document_id": document.pk, "document": document.name, "start": 0, "end": 20}
    trace = {"chunks": [found], "stages": []}
    turn = make_turn(user, corpus, text="The documents do not answer this.", finish_reason="no_answer", trace=trace)
    html = client.get(f"/conversations/{turn.conversation_id}/").content.decode()
    assert "The documents do not answer this." in html
    assert "The closest passages" in html and "The lighthouse is 31 metres tall" in html


def test_a_failure_says_why_and_asks_again(client, user, corpus, document):
    turn = make_turn(user, corpus, question="Why <b>?", state="failed", reason="The model server does not answer.")
    html = client.get(f"/conversations/{turn.conversation_id}/").content.decode()
    assert "The model server does not answer." in html
    assert "Ask again" in html
    assert "Why <b>" not in html


def test_the_trace_names_ranks_and_times(client, user, corpus, document):
    turn = answered(user, corpus, document)
    part = client.get(f"/turns/{turn.pk}/trace/", headers=SCRIPT).content.decode()
    assert "0.25 s" in part and "0.900" in part and "0.700" in part and "cited" in part
    assert "<html" in client.get(f"/turns/{turn.pk}/trace/").content.decode()


def test_the_panel_lists_sources_by_number(client, user, corpus, document):
    turn = answered(user, corpus, document)
    html = client.get(f"/turns/{turn.pk}/sources/").content.decode()
    assert html.count('<b class="marker">1</b>') == 1
    assert html.count('class="quote"') == 2


def test_the_number_of_queries_does_not_grow_with_turns(client, user, corpus, document):
    turn = answered(user, corpus, document)

    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(f"/conversations/{turn.conversation_id}/").status_code == 200
        return len(seen)

    before = queries()
    last = turn
    for _ in range(8):
        for _ in range(2):  # each question has an alternative, too
            extra = answered(user, corpus, document)
            Turn.objects.filter(pk=extra.pk).update(conversation=turn.conversation, parent=last)
        last = extra
    assert client.get(f"/conversations/{turn.conversation_id}/").content.decode().count("data-turn=") == 9
    assert queries() <= before


def test_long_conversations_show_their_end_first(client, user, corpus, document):
    turn = make_turn(user, corpus, question="Question 0")
    kept = {"conversation": turn.conversation, "recipe": turn.recipe, "state": "answered"}
    last = turn
    for number in range(1, 41):
        last = Turn.objects.create(question=f"Question {number}.", parent=last, **kept)
    html = client.get(f"/conversations/{turn.conversation_id}/").content.decode()
    assert "Question 40." in html and "Question 10." not in html
    assert "Show 11 earlier questions" in html
    assert "Question 10." in client.get(f"/conversations/{turn.conversation_id}/?all").content.decode()


def test_conversations_are_listed_and_deleted_after_asking(client, user, corpus):
    turn = make_turn(user, corpus, question="Old question")
    assert "Old question" in client.get("/conversations/").content.decode()
    address = f"/conversations/{turn.conversation_id}/delete/"
    assert "Delete this conversation?" in client.get(address).content.decode()
    assert client.post(address, headers=SCRIPT).headers["HX-Redirect"] == "/conversations/"
    assert not Conversation.objects.exists()


def test_the_stream_tells_its_events_line_by_line(user, corpus, document, monkeypatch):
    turn = make_turn(user, corpus, state="asked", finish_reason="")
    said = [
        {"type": "stage", "name": "searching"},
        {"type": "text", "text": "Zwölf\nZeilen"},
        {"type": "done", "turn": 1},
    ]

    async def events(turn_id):
        assert turn_id == turn.pk
        for event in said:
            yield event

    monkeypatch.setattr(turns, "events", events)

    async def fetch():
        client = AsyncClient()
        await client.aforce_login(user)
        response = await client.get(f"/turns/{turn.pk}/events")
        return response, [line async for line in response.streaming_content]

    response, lines = async_to_sync(fetch)()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store"
    assert [json.loads(line.decode().removeprefix("data: ")) for line in lines] == said
    assert all(line.endswith(b"\n\n") and line.count(b"\n") == 2 for line in lines)
