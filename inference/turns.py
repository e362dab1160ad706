"""Asking in a conversation: the answer is made in a thread of the web process and stored.

A browser only follows: reloading or losing the connection neither stops nor loses the answer. Where nobody comes back
within UNWATCHED_SECONDS it ends with what is there.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from indexer.models import Corpus
from inference import forgetting
from inference.models import Conversation, Turn
from inference.pipeline import Done, Event, Sources, Stage, Text, answer, checked
from ragplat.errors import BadInput, RagplatError, TooLarge

log = logging.getLogger(__name__)

MOST_AT_ONCE = 16  # answers being made in this process
LOST_AFTER = timedelta(minutes=5)  # an answer nobody is making any more, as after a restart
REMEMBERED = 3  # questions before a follow-up that it may refer to
SILENCE_SECONDS = 15.0  # after which a stream says that it is still waiting
POLL_SECONDS = 0.5  # for an answer made by another process
UNWATCHED_SECONDS = 20.0  # after which nobody comes back to a page, and the model server is not kept busy for it


@dataclass(slots=True)
class _Run:
    """The events of an answer in the making, for any number of followers."""

    events: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    watching: int = 0  # followers that are there now
    seen: float = field(default_factory=time.monotonic)  # when somebody last looked
    lock: threading.Lock = field(default_factory=threading.Lock)
    followers: set[Callable[[], None]] = field(default_factory=set)  # each wakes one follower, from any thread

    def add(self, event: dict[str, Any]) -> None:
        with self.lock:
            self.events.append(event)
            self.ended = event["type"] in ("done", "failed")
            for wake in self.followers:
                wake()

    def look(self, coming: int = 0) -> None:
        """Note that somebody looks at this moment, and ``coming`` (1 or -1) that they stay or leave."""
        with self.lock:
            self.watching += coming
            self.seen = time.monotonic()

    def stop_if_unwatched(self) -> None:
        if not self.watching and time.monotonic() - self.seen > UNWATCHED_SECONDS:
            self.stopped.set()

    async def after(self, count: int, timeout: float) -> list[dict[str, Any]]:
        """The events after the first ``count``; waits for one at most ``timeout`` seconds, holding no thread."""
        loop, fresh = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the follower's loop has ended
                loop.call_soon_threadsafe(fresh.set)

        with self.lock:
            if len(self.events) > count:
                return self.events[count:]
            self.followers.add(wake)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(fresh.wait(), timeout)
        finally:
            with self.lock:
                self.followers.discard(wake)
        return self.events[count:]


_runs: dict[int, _Run] = {}


def ask(user: AbstractBaseUser, corpus: Corpus, question: str, conversation: Conversation | None = None) -> Turn:
    """Store a question and start answering it. Raises BadInput, or TooLarge when too many answers are being made."""
    question = checked(question)
    if len(_runs) >= MOST_AT_ONCE:
        raise TooLarge(f"{MOST_AT_ONCE} answers are being written right now. Ask again in a moment.")
    with transaction.atomic():
        if conversation is None:
            title = " ".join(question.split())
            title = title if len(title) <= 100 else f"{title[:99]}…"
            conversation = Conversation.objects.create(user=user, corpus=corpus, title=title)
        elif conversation.corpus_id != corpus.pk:
            raise BadInput("This conversation belongs to another corpus. Start a new one.")
        turn = Turn.objects.create(conversation=conversation, question=question, recipe=corpus.answer_recipe)
        conversation.save(update_fields=["changed"])
    run = _runs[turn.pk] = _Run()
    threading.Thread(target=_work, args=(turn, run), name=f"turn-{turn.pk}", daemon=True).start()
    return turn


def stop(turn_id: int) -> None:
    """End an answer that this process is making with what is there; nothing happens where it has ended already."""
    if run := _runs.get(turn_id):
        run.stopped.set()


def look(turn_id: int) -> None:
    """Note that somebody is looking at an answer in the making, who does not follow its events."""
    if run := _runs.get(turn_id):
        run.look()


async def events(turn_id: int) -> AsyncIterator[dict[str, Any]]:
    """Replay an answer's events from the start and follow them to the end; see `_event` for their form."""
    if run := _runs.get(turn_id):
        run.look(1)
        try:
            async for event in _live(run):
                yield event
        finally:
            run.look(-1)
        return
    while True:
        turn = await Turn.objects.only("state", "reason", "created").filter(pk=turn_id).afirst()
        if turn is None:
            yield {"type": "failed", "reason": "This conversation was deleted."}
            return
        if turn.state == Turn.State.ASKED and timezone.now() - turn.created > LOST_AFTER:
            turn.state, turn.reason = Turn.State.FAILED, "The answer was interrupted. Ask again."
            await turn.asave(update_fields=["state", "reason"])
        if turn.state != Turn.State.ASKED:
            yield _ending(turn)
            return
        await asyncio.sleep(POLL_SECONDS)


async def _live(run: _Run) -> AsyncIterator[dict[str, Any]]:
    seen = 0
    while not (run.ended and seen == len(run.events)):
        fresh = await run.after(seen, SILENCE_SECONDS)
        seen += len(fresh)
        for event in fresh:
            yield event
        if not fresh:
            yield {"type": "waiting"}  # keeps proxies from closing a silent stream


def _ending(turn: Turn) -> dict[str, Any]:
    if turn.state == Turn.State.ANSWERED:
        return {"type": "done", "turn": turn.pk}
    return {"type": "failed", "reason": turn.reason}


def _history(turn: Turn) -> list[tuple[str, str]]:
    """The questions before this one that were answered, with their answers, oldest first."""
    before = turn.conversation.turns.filter(pk__lt=turn.pk, state=Turn.State.ANSWERED).order_by("-pk")
    return list(before.values_list("question", "text")[:REMEMBERED])[::-1]


def _work(turn: Turn, run: _Run) -> None:
    try:
        corpus = turn.conversation.corpus
        for event in answer(corpus, turn.question, turn.recipe.value(), _history(turn), stopped=run.stopped):
            run.stop_if_unwatched()
            if isinstance(event, Done):
                _keep(turn, event)
            run.add(_event(event, turn))
    except BaseException as error:  # a panic of a Rust library is no Exception; nobody else would end the stream
        reason = error.message if isinstance(error, RagplatError) else f"An unexpected error: {error}"
        if not isinstance(error, RagplatError):
            log.exception("turn %s", turn.pk)
        with suppress(DatabaseError):  # the database may be what failed; the stream must end all the same
            Turn.objects.filter(pk=turn.pk).update(state=Turn.State.FAILED, reason=reason)
        run.add({"type": "failed", "reason": reason})
    finally:
        _runs.pop(turn.pk, None)  # from now on the row answers: what was streamed may be deleted with its document
        connections.close_all()  # this thread's own


def _keep(turn: Turn, done: Done) -> None:
    made = done.answer
    turn.text, turn.finish_reason, turn.trace = made.text, made.finish_reason, made.trace
    turn.citations = [asdict(citation) for citation in made.citations]
    turn.sentences = [
        {
            "start": sentence.start,
            "end": sentence.end,
            "support": sentence.support,
            "citations": [citation.number for citation in sentence.citations],
            "places": [made.citations.index(citation) for citation in sentence.citations],
        }
        for sentence in made.sentences
    ]
    turn.state, turn.reason = Turn.State.ANSWERED, made.trace.get("error", "")
    forgetting.keep(turn)


def _event(event: Event, turn: Turn) -> dict[str, Any]:
    match event:
        case Stage(name=name):
            return {"type": "stage", "name": name}
        case Text(text=text):
            return {"type": "text", "text": text}
        case Sources(chunks=chunks):
            return {"type": "sources", "sources": [{"number": n} | asdict(c) for n, c in enumerate(chunks, start=1)]}
        case Done():
            return {"type": "done", "turn": turn.pk}
