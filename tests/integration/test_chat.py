"""Conversations as people use them: versions of a question, two tabs, limits, opinions, files, and what goes wrong."""

import importlib
import threading
import time
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from inference import turns
from inference.models import Conversation, Turn
from inference.pipeline import Done, Stage, Text
from ragplat.types import Answer, Prompt
from tests.rows import cite, make_corpus, make_document, make_turn

pytestmark = pytest.mark.django_db
TEXT = "# Harbour\n\nThe lighthouse is 31 metres tall. It was built in 1874.\n"
SCRIPT = {"HX-Request": "true", "Accept": "*/*"}


@pytest.fixture
def nobody_answers(monkeypatch):
    """Questions stay asked."""
    monkeypatch.setattr(turns, "_work", lambda turn, run: None)
    monkeypatch.setattr(turns, "_runs", {})


@pytest.fixture
def first(user, corpus, nobody_answers) -> Turn:
    """An answered question."""
    return make_turn(user, corpus, question="How tall?", text="31 metres.")


def follow(turn: Turn, question: str, **fields) -> Turn:
    values = {"state": "answered", "finish_reason": "stop", "text": f"Answer to {question}"} | fields
    return Turn.objects.create(
        conversation=turn.conversation, parent=turn, question=question, recipe=turn.recipe, **values
    )


def asked(client, turn: Turn, question: str, **data):
    data = {"corpus": "harbour", "conversation": turn.conversation_id, "question": question} | data
    return client.post("/ask/", data)


def shown(client, turn: Turn, through: Turn | None = None) -> str:
    query = f"?turn={through.pk}" if through else ""
    return client.get(f"/conversations/{turn.conversation_id}/{query}").content.decode()


def on_page(html: str) -> list[int]:
    return [int(one.partition('"')[0]) for one in html.split('data-turn="')[1:]]


# Versions and branches


def test_two_tabs_on_one_conversation_make_two_branches(client, first):
    both = shown(client, first)
    assert f'name="after" value="{first.pk}"' in both
    asked(client, first, "From one tab?", after=first.pk)
    asked(client, first, "From the other tab?", after=first.pk)
    one, other = Turn.objects.filter(parent=first)
    told = client.post(
        "/ask/",
        {"corpus": "harbour", "conversation": first.conversation_id, "question": "And?", "after": first.pk},
        headers={"HX-Request": "true"},
    )
    assert "went on elsewhere" in told.content.decode()
    assert "went on elsewhere" not in shown(client, first, one)
    assert on_page(shown(client, first, one)) == [first.pk, one.pk]
    assert on_page(shown(client, first, other)) == [first.pk, other.pk]


def test_a_question_follows_what_was_shown_last_where_the_page_does_not_say(client, first):
    second = follow(first, "Who built it?")
    asked(client, first, "And when?")
    assert Turn.objects.get(question="And when?").parent == second


def test_asking_again_keeps_the_answer_and_makes_another_version(client, first):
    later = follow(first, "Who built it?")
    response = client.post(f"/turns/{first.pk}/again/")
    made = Turn.objects.latest("pk")
    assert response.url == f"/conversations/{first.conversation_id}/?turn={made.pk}#turn-{made.pk}"
    assert (made.question, made.parent, made.state) == ("How tall?", None, "asked")
    html = shown(client, first)
    assert on_page(html) == [made.pk]
    assert f"?turn={first.pk}#turn-{first.pk}" in html and 'aria-label="Previous version"' in html
    assert 'aria-label="Next version"' not in html
    before = shown(client, first, first)
    assert on_page(before) == [first.pk, later.pk]
    assert on_page(shown(client, first)) == [first.pk, later.pk]  # what was looked at last is remembered


def test_a_question_in_other_words_leaves_the_earlier_one(client, first):
    second = follow(first, "Who built it?")
    response = client.post(f"/turns/{second.pk}/again/", {"question": "Who designed it?"}, headers=SCRIPT)
    made = Turn.objects.latest("pk")
    assert response.headers["HX-Redirect"].endswith(f"?turn={made.pk}#turn-{made.pk}")
    assert (made.question, made.parent) == ("Who designed it?", first)
    second.refresh_from_db()
    assert second.question == "Who built it?"


@pytest.mark.parametrize("question", ["", "x" * 4001])
def test_other_words_that_make_no_sense_are_refused_where_they_were_typed(client, first, question):
    html = client.post(f"/turns/{first.pk}/again/", {"question": question})
    assert html.status_code == 400
    assert '<details class="edit" open>' in html.content.decode()
    assert f">{question}</textarea>" in html.content.decode()
    script = client.post(f"/turns/{first.pk}/again/", {"question": question}, headers=SCRIPT)
    assert script.status_code == 400 and script.json()["error"]
    assert Turn.objects.count() == 1


def test_the_address_of_a_version_may_be_shared_between_pages_but_not_conversations(client, user, corpus, first):
    other = make_turn(user, corpus)
    assert client.get(f"/conversations/{first.conversation_id}/?turn={other.pk}").status_code == 404
    assert client.get(f"/conversations/{first.conversation_id}/?turn=x").status_code == 200


def test_looking_at_a_version_does_not_move_the_conversation_up_the_list(client, first):
    changed = first.conversation.changed
    second = follow(first, "a")
    follow(first, "b")
    shown(client, first, second)
    found = Conversation.objects.get()
    assert (found.current, found.changed) == (second, changed)


def test_only_the_questions_on_its_path_are_handed_to_an_answer(first):
    other = follow(first, "Other branch?")
    follow(other, "Below it?")
    path = [first]
    for number in range(4):
        path.append(follow(path[-1], f"Question {number}?", state="failed" if number == 1 else "answered"))
    last = follow(path[-1], "And now?", state="asked")
    expected = [one.question for one in path if one.state == "answered"][-turns.REMEMBERED :]
    assert [one.question for one in turns.history_of(last)] == expected
    assert turns.history_of(first) == []


def test_earlier_conversations_become_paths(user, corpus):
    one, two = make_turn(user, corpus, question="1"), make_turn(user, corpus, question="1")
    kept = {"recipe": one.recipe, "state": "answered"}
    rows = [Turn.objects.create(conversation=c, question="2", **kept) for c in (one.conversation, two.conversation)]
    rows.append(Turn.objects.create(conversation=one.conversation, question="3", **kept))
    with connection.cursor() as cursor:
        cursor.execute(importlib.import_module("inference.migrations.0003_chat").PARENTS)
    expected = {one.pk: None, two.pk: None, rows[0].pk: one.pk, rows[1].pk: two.pk, rows[2].pk: rows[0].pk}
    assert dict(Turn.objects.values_list("pk", "parent_id")) == expected


# What cannot be asked, or not now


def test_nothing_follows_an_answer_that_is_still_being_written(client, first):
    busy = follow(first, "Busy?", state="asked", pulse=timezone.now())
    response = asked(client, first, "Too early?", after=busy.pk)
    html = response.content.decode()
    assert response.status_code == 400
    assert "still being written" in html and "Too early?</textarea>" in html
    assert f'name="after" value="{busy.pk}"' in html
    assert asked(client, first, "Elsewhere?", after=first.pk).status_code == 302


def test_another_wording_ends_the_answer_that_is_still_being_written(client, first):
    busy = follow(first, "Busy?", state="asked", pulse=timezone.now())
    client.post(f"/turns/{busy.pk}/again/", {"question": "Better?"})
    busy.refresh_from_db()
    assert (busy.state, busy.reason) == ("failed", "It was stopped.")


def test_a_question_follows_only_turns_of_its_own_conversation(client, user, corpus, first):
    mine = make_turn(user, corpus)
    data = {"corpus": "harbour", "conversation": first.conversation_id, "question": "Why?", "after": mine.pk}
    assert client.post("/ask/", data, headers=SCRIPT).status_code == 400
    strangers = make_turn(User.objects.create_user("bob"), corpus)
    assert asked(client, first, "Why?", after=strangers.pk).status_code == 404
    assert Turn.objects.count() == 3


def test_a_very_long_question_is_refused_and_kept_in_the_box(client, first):
    question = "long " * 20_000
    response = asked(client, first, question, after=first.pk)
    html = response.content.decode()
    assert response.status_code == 400
    assert "The question has 99,999 characters; at most 4,000 are taken." in html
    assert f"{question}</textarea>" in html
    assert Turn.objects.count() == 1


def test_a_person_asks_so_many_questions_a_minute(client, document, settings, nobody_answers):
    settings.QUESTIONS_PER_MINUTE = 2
    data = {"corpus": "harbour", "question": "How tall?"}
    for _ in range(2):
        assert client.post("/ask/", data).status_code == 302
    page = client.post("/ask/", data | {"question": "And how wide?"})
    assert page.status_code == 429
    assert 50 < int(page.headers["Retry-After"]) <= 60
    assert "You have asked 2 questions in the last minute" in page.content.decode()
    turn = Turn.objects.first()
    script = client.post(f"/turns/{turn.pk}/again/", headers=SCRIPT)
    assert (script.status_code, script.json()["error_type"]) == (429, "TooMany")
    assert f"Ask again in {script.headers['Retry-After']} seconds." in script.json()["error"]
    again = client.post(f"/turns/{turn.pk}/again/")
    assert again.status_code == 429 and "Retry-After" in again.headers

    other = User.objects.create_superuser("bob")
    bob = Client()
    bob.force_login(other)
    assert bob.post("/ask/", data).status_code == 302
    Turn.objects.filter(pk=turn.pk).update(created=timezone.now() - timedelta(seconds=61))
    assert client.post("/ask/", data).status_code == 302
    settings.QUESTIONS_PER_MINUTE = 0
    assert client.post("/ask/", data).status_code == 302


def test_what_was_typed_stays_in_the_box_when_it_was_too_fast(client, first, document, settings):
    settings.QUESTIONS_PER_MINUTE = 1
    page = asked(client, first, "And how wide?")
    assert page.status_code == 429 and "And how wide?</textarea>" in page.content.decode()
    start = client.post("/ask/", {"corpus": "harbour", "question": "Anew?"})
    assert start.status_code == 429 and "Anew?</textarea>" in start.content.decode()


@pytest.fixture
def document(corpus):
    return make_document(corpus, "harbour.md", TEXT)


# The list, names, files


def test_conversations_are_found_by_title_question_and_corpus(client, user, corpus):
    make_turn(user, corpus, question="About ferries")
    make_turn(user, make_corpus("other", user), question="About cranes")
    follow(make_turn(user, corpus, question="Weather"), "How strong was the 100% storm?")
    for query, expected in [
        ("ferries", {"About ferries"}),
        ("STORM", {"Weather"}),
        ("100%", {"Weather"}),
        ("about", {"About ferries", "About cranes"}),
        ("about&corpus=other", {"About cranes"}),
        ("&corpus=harbour", {"About ferries", "Weather"}),
        ("nothing of this", set()),
    ]:
        response = client.get(f"/conversations/?q={query}")
        assert {one.title for one in response.context["page"].object_list} == expected, query
    assert "None found" in response.content.decode()
    assert "<b>" not in client.get("/conversations/?q=<b>").content.decode()


def test_nobody_finds_the_conversations_of_others(client, user, corpus):
    make_turn(User.objects.create_user("bob"), corpus, question="A secret")
    assert "None found" in client.get("/conversations/?q=secret").content.decode()


def test_pages_of_the_list_keep_what_was_looked_for(client, user, corpus):
    for number in range(51):
        make_turn(user, corpus, question=f"Ferry {number}")
    assert "?q=Ferry&amp;page=2" in client.get("/conversations/?q=Ferry").content.decode()


def test_a_conversation_is_renamed(client, first):
    address = f"/conversations/{first.conversation_id}/rename/"
    assert client.post(address, {"title": "  The   tower \n"}).url == f"/conversations/{first.conversation_id}/"
    assert "<title>The tower" in shown(client, first)
    assert client.post(address, {"title": "x" * 200}, headers=SCRIPT).headers["HX-Refresh"] == "true"
    assert client.get(address).status_code == 405


@pytest.mark.parametrize(("title", "said"), [("  ", "is empty"), ("x" * 201, "201 characters; at most 200")])
def test_a_title_has_a_length(client, first, title, said):
    response = client.post(f"/conversations/{first.conversation_id}/rename/", {"title": title}, headers=SCRIPT)
    assert response.status_code == 400 and said in response.json()["error"]
    assert Conversation.objects.get().title == "How tall?"


@pytest.fixture
def cited(first, document) -> Turn:
    """The first question's answer, from a document."""
    first.text, first.citations = "It is 31 metres tall. [1]", [cite(document, "The lighthouse is 31 metres tall.")]
    first.sentences = [{"start": 0, "end": 25, "support": "supported", "citations": [1], "places": [0]}]
    first.save()
    return first


def test_the_path_shown_is_exported_as_a_file(client, cited, document):
    left_out = follow(cited, "Not this one?")
    last = follow(cited, "Who built it?", text="Ada. [1]", citations=[cite(document, "It was built in 1874.")])
    shown(client, cited, last)
    response = client.get(f"/conversations/{cited.conversation_id}/export.md")
    assert response.headers["Content-Type"] == "text/markdown; charset=utf-8"
    name = f"how-tall-{cited.conversation_id}.md"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    text = response.content.decode()
    assert text.startswith("# How tall?\n\nCorpus: Harbour. Exported 20")
    assert "It is 31 metres tall. [1]\n\nSources:\n\n**[1]** harbour.md\n\n> The lighthouse is 31 metres tall." in text
    assert text.endswith("Ada. [2]\n\nSources:\n\n**[2]** harbour.md\n\n> It was built in 1874.\n")
    assert left_out.question not in text


def test_a_single_answer_is_exported_too(client, cited):
    text = client.get(f"/turns/{cited.pk}/export.md").content.decode()
    assert text.startswith("## How tall?") and "**[1]** harbour.md" in text


def test_what_was_deleted_is_in_no_file_and_no_version(client, cited, document):
    version = follow(cited, "x", text=cited.text, citations=cited.citations, sentences=cited.sentences)
    Turn.objects.filter(pk=version.pk).update(parent=None)
    client.post(f"/documents/{document.pk}/delete/")
    for one in (cited, version):
        html = shown(client, cited, one)
        text = client.get(f"/conversations/{cited.conversation_id}/export.md").content.decode()
        assert "31 metres" not in html + text and "harbour.md" not in html + text
        assert "What this answer took from it was deleted with it." in text


# Opinions


def rate(client, turn: Turn, **data):
    return client.post(f"/turns/{turn.pk}/rating/", data, headers=SCRIPT)


def test_an_answer_is_rated_with_a_reason_and_the_opinion_may_change(client, first):
    assert 'aria-pressed="true"' not in shown(client, first)
    assert "What is bad about it?" in rate(client, first, rating="down").content.decode()
    rate(client, first, rating="down", fault="outdated", comment=" See\r\n2025. ")
    first.refresh_from_db()
    assert (first.rating, first.fault, first.comment) == ("down", "outdated", "See\n2025.")
    html = shown(client, first)
    assert 'aria-pressed="true" aria-label="Bad answer"' in html and "It is out of date" in html and "2025." in html
    rate(client, first, rating="up")
    first.refresh_from_db()
    assert (first.rating, first.fault, first.comment) == ("up", "", "See\n2025.")
    rate(client, first, rating="")
    first.refresh_from_db()
    assert (first.rating, first.fault, first.comment) == ("", "", "")


def test_plain_forms_rate_too(client, first):
    response = client.post(f"/turns/{first.pk}/rating/", {"rating": "up"})
    assert response.url.endswith(f"#turn-{first.pk}")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"rating": "sideways"}, 'The rating is "sideways"'),
        ({"rating": "down", "fault": "ugly"}, 'The reason is "ugly"'),
        ({"rating": "up", "comment": "x" * 1001}, "1,001 characters; at most 1,000"),
    ],
)
def test_opinions_that_make_no_sense_are_refused(client, first, data, said):
    response = rate(client, first, **data)
    assert response.status_code == 400 and said in response.json()["error"]
    first.refresh_from_db()
    assert first.rating == ""


def test_only_answers_are_rated(client, first):
    failed = follow(first, "Why?", state="failed", reason="No server.")
    assert rate(client, failed, rating="up").status_code == 400


def test_administrators_find_bad_answers(client, first):
    rate(client, first, rating="down", fault="wrong", comment="It is 40 metres.")
    follow(first, "Another?")
    client.force_login(User.objects.create_superuser("boss"))
    html = client.get("/admin/inference/turn/?rating__exact=down&fault__exact=wrong&q=40+metres").content.decode()
    assert "How tall?" in html and "Another?" not in html


# What goes wrong


def test_an_answer_nobody_makes_any_more_says_so(client, first):
    lost = follow(first, "Lost?", state="asked", text="", pulse=timezone.now())
    assert f'data-events="/turns/{lost.pk}/events"' in shown(client, first)
    Turn.objects.filter(pk=lost.pk).update(pulse=timezone.now() - turns.LOST_AFTER * 2)
    html = shown(client, first)
    assert "The server that was writing it went away." in html and "Ask again" in html
    lost.refresh_from_db()
    assert lost.state == "failed"


def test_one_that_shows_signs_of_life_is_not_given_up(client, first):
    alive = follow(first, "Alive?", state="asked", pulse=timezone.now())
    Turn.objects.filter(pk=alive.pk).update(created=timezone.now() - timedelta(hours=1))
    assert "data-events" in shown(client, first)


def test_stop_through_another_process_reaches_the_one_that_answers(client, first):
    busy = follow(first, "Busy?", state="asked")
    here = turns._Run()
    turns._beat({busy.pk: here})
    busy.refresh_from_db()
    assert not here.stopped.is_set() and timezone.now() - busy.pulse < timedelta(seconds=5)
    client.post(f"/turns/{busy.pk}/stop/")  # this process has no such run
    turns._beat({busy.pk: here})
    assert here.stopped.is_set()


def test_a_follower_at_another_process_keeps_an_answer_going(client, first, monkeypatch):
    monkeypatch.setattr(turns, "UNWATCHED_SECONDS", 0.5)
    busy = follow(first, "Busy?", state="asked", pulse=timezone.now())
    here = turns._Run()
    here.seen -= 1
    shown(client, first)
    turns._beat({busy.pk: here})
    assert not here.stopped.is_set()
    Turn.objects.filter(pk=busy.pk).update(watched=timezone.now() - timedelta(seconds=1))
    turns._beat({busy.pk: here})
    assert here.stopped.is_set()


def events_of(turn: Turn) -> list[dict]:
    async def followed():
        return [event async for event in turns.events(turn.pk)]

    return async_to_sync(followed)()


@pytest.fixture
def slow_answer(monkeypatch):
    """An answer that waits in the middle, until it is told to go on."""
    go_on = threading.Event()

    def answer(corpus, question, recipe, history, stopped):
        yield Stage(name="writing")
        yield Text(text="31 ")
        assert go_on.wait(20)
        yield Text(text="metres.")
        made = Answer(text="31 metres.", sentences=(), citations=(), finish_reason="stop")
        prompt = Prompt(question=question, chunks=(), dropped=(), messages=(), version="", language="en")
        yield Done(answer=made, prompt=prompt)

    monkeypatch.setattr(turns, "answer", answer)
    yield go_on
    go_on.set()
    deadline = time.monotonic() + 20
    while turns._runs and time.monotonic() < deadline:
        time.sleep(0.05)


def cut_connections() -> None:
    """What a restart of the database does to all who are connected."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.django_db(transaction=True)
def test_a_restart_of_the_database_does_not_cost_the_answer(user, corpus, slow_answer):
    turn = turns.ask(user, corpus, "How tall?")
    while len(turns._runs[turn.pk].events) < 2:
        time.sleep(0.01)
    cut_connections()
    slow_answer.set()
    told = events_of(turn)
    assert told[-1] == {"type": "done", "turn": turn.pk}
    assert {"type": "stage", "name": "storing"} in told
    turn.refresh_from_db()
    assert (turn.state, turn.text) == ("answered", "31 metres.")


@pytest.mark.django_db(transaction=True)
def test_where_the_database_fails_before_there_is_an_answer_the_person_is_told(user, corpus, monkeypatch):
    def answer(corpus, question, recipe, history, stopped):
        yield Stage(name="searching")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(turns, "answer", answer)
    turn = turns.ask(user, corpus, "How tall?")
    told = events_of(turn)
    assert told[-1]["type"] == "failed" and "The database did not answer" in told[-1]["reason"]
    turn.refresh_from_db()
    assert (turn.state, turn.reason, turn.text) == ("failed", told[-1]["reason"], "")


@pytest.mark.django_db(transaction=True)
def test_a_conversation_deleted_in_the_middle_stays_deleted(client, user, corpus, slow_answer):
    turn = turns.ask(user, corpus, "How tall?")
    while len(turns._runs[turn.pk].events) < 2:
        time.sleep(0.01)
    run = turns._runs[turn.pk]
    client.post(f"/conversations/{turn.conversation_id}/delete/")
    slow_answer.set()
    assert events_of(turn)[-1] == {"type": "failed", "reason": "This conversation was deleted."}
    while not run.ended:
        time.sleep(0.01)
    assert not Turn.objects.exists() and not Conversation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_limit_holds_for_questions_at_the_same_moment(user, corpus, settings, nobody_answers):
    settings.QUESTIONS_PER_MINUTE = 3
    start = threading.Barrier(6)
    codes = []

    def go():
        mine = Client()
        mine.force_login(user)
        start.wait()
        codes.append(mine.post("/ask/", {"corpus": "harbour", "question": "How tall?"}).status_code)
        connection.close()

    threads = [threading.Thread(target=go) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(codes) == [302, 302, 302, 429, 429, 429]
