"""Asking in a conversation: the answer is made in a thread of the web process and stored.

A browser only follows: reloading or losing the connection neither stops nor loses the answer. Where nobody comes back
within UNWATCHED_SECONDS it ends with what is there.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import InterfaceError, OperationalError, connections, transaction
from django.utils import timezone

from indexer.models import Corpus
from inference import forgetting, tree
from inference.history import Past
from inference.models import Conversation, Turn
from inference.pipeline import Done, Event, Sources, Stage, Text, answer, checked
from ragplat.errors import BadInput, NotFound, RagplatError, TooMany

log = logging.getLogger(__name__)

MOST_AT_ONCE = 48  # answers being made in this process
PULSE_SECONDS = 2.0  # between the signs of life of the answers made in this process
LOST_AFTER = timedelta(seconds=20)  # without such a sign, as after a restart
DATABASE_SECONDS = 60.0  # that a finished answer waits for a database that is away
MINUTE = timedelta(minutes=1)
REMEMBERED = 20  # questions before a follow-up that a model may be shown
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

    def stop_if_unwatched(self, elsewhere: datetime | None) -> None:
        """Stop where nobody looks; ``elsewhere``: when somebody last did through another process."""
        long_ago = time.monotonic() - self.seen > UNWATCHED_SECONDS
        if elsewhere and (timezone.now() - elsewhere).total_seconds() < UNWATCHED_SECONDS:
            return
        if long_ago and not self.watching:
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
_pulsing = False  # whether the thread runs that tells the database of them
_pulse_lock = threading.Lock()


def ask(
    user: AbstractBaseUser,
    corpus: Corpus,
    question: str,
    conversation: Conversation | None = None,
    after: Turn | None = None,
) -> Turn:
    """Store a question and start answering it, in a new conversation or in one that is going on.

    ``after``: the turn of that conversation that it follows; None for the one that was shown last. Raises BadInput,
    also where that turn has no answer yet, and TooMany.
    """
    question = checked(question)
    if conversation is None:
        title = " ".join(question.split())
        title = title if len(title) <= 100 else f"{title[:99]}…"
        return _begin(Conversation(user=user, corpus=corpus, title=title), question, None)
    if conversation.corpus_id != corpus.pk:
        raise BadInput("This conversation belongs to another corpus. Start a new one.")
    if after is None:
        last = tree.end_of_path(tree.parents(conversation.pk), conversation)
        after = conversation.turns.filter(pk=last).first()
    elif after.conversation_id != conversation.pk:
        raise BadInput("The answer you are following belongs to another conversation. Reload the page.")
    if after:
        end_if_lost(after)
        if after.state == Turn.State.ASKED:
            raise BadInput("The answer above is still being written. Wait for its end, or stop it; then ask.")
    return _begin(conversation, question, after)


def ask_again(turn: Turn, question: str | None = None) -> Turn:
    """Ask beside a turn: its own question once more, or another wording. The turn stays, as an alternative.

    Where its answer is still being written, that ends with what is there. Raises BadInput and TooMany.
    """
    made = _begin(turn.conversation, checked(turn.question if question is None else question), turn.parent)
    stop(turn.pk)
    return made


def _begin(conversation: Conversation, question: str, parent: Turn | None) -> Turn:
    if len(_runs) >= MOST_AT_ONCE:
        raise TooMany(f"{MOST_AT_ONCE} answers are being written right now. Ask again in a moment.", seconds=5)
    with transaction.atomic():
        _check_rate(conversation.user)
        if conversation.pk is None:
            conversation.save()
        elif not Conversation.objects.select_for_update(no_key=True).filter(pk=conversation.pk).exists():
            raise NotFound("This conversation was deleted.")
        turn = Turn.objects.create(
            conversation=conversation, parent=parent, question=question, recipe=conversation.corpus.answer_recipe
        )
        conversation.current = turn
        conversation.save(update_fields=["current", "changed"])
    run = _runs[turn.pk] = _Run()
    threading.Thread(target=_work, args=(turn, run), name=f"turn-{turn.pk}", daemon=True).start()
    return turn


def _check_rate(user: AbstractBaseUser) -> None:
    """Raise TooMany where a person has asked their share of this minute, in whatever process."""
    most = settings.QUESTIONS_PER_MINUTE
    if not most:
        return
    get_user_model().objects.select_for_update(no_key=True).get(pk=user.pk)  # one question of theirs at a time
    now = timezone.now()
    recent = {"conversation__changed__gt": now - MINUTE, "created__gt": now - MINUTE}  # the first one has an index
    asked = Turn.objects.filter(conversation__user=user, **recent).order_by("-created")
    for created in asked.values_list("created", flat=True)[most - 1 : most]:
        seconds = max(1, math.ceil((created + MINUTE - now).total_seconds()))
        raise TooMany(
            f"You have asked {most} question{'s' if most > 1 else ''} in the last minute, which is the limit. "
            f"Ask again in {seconds} second{'s' if seconds > 1 else ''}.",
            seconds,
        )


def stop(turn_id: int) -> None:
    """End an answer with what is there; nothing happens where it has ended already."""
    if run := _runs.get(turn_id):
        run.stopped.set()
    else:  # a process that is making it learns so from the row, and stores what is there
        row = Turn.objects.filter(pk=turn_id, state=Turn.State.ASKED)
        row.update(state=Turn.State.FAILED, reason="It was stopped.")


def look(turn: Turn) -> None:
    """Note that somebody is looking at an answer in the making, who does not follow its events here."""
    now = timezone.now()
    if run := _runs.get(turn.pk):
        run.look()
    elif turn.watched is None or (now - turn.watched).total_seconds() > UNWATCHED_SECONDS / 4:
        Turn.objects.filter(pk=turn.pk).update(watched=now)


def end_if_lost(turn: Turn) -> None:
    """Give up an answer that nobody is making any more, as after a restart of the web process."""
    if turn.state != Turn.State.ASKED or turn.pk in _runs or timezone.now() - (turn.pulse or turn.created) < LOST_AFTER:
        return
    reason = "The server that was writing it went away. Nothing of the answer was kept."
    row = Turn.objects.filter(pk=turn.pk, state=Turn.State.ASKED, pulse=turn.pulse)
    if row.update(state=Turn.State.FAILED, reason=reason):
        turn.state, turn.reason = Turn.State.FAILED, reason


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
        turn = await Turn.objects.defer("trace").filter(pk=turn_id).afirst()
        if turn is None:
            yield {"type": "failed", "reason": "This conversation was deleted."}
            return
        await sync_to_async(end_if_lost)(turn)
        if turn.state != Turn.State.ASKED:
            yield _ending(turn)
            return
        await sync_to_async(look)(turn)
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


def history_of(turn: Turn) -> list[Past]:
    """The questions before this one on its path that were answered, with their answers, oldest first."""
    answered = [one for one in tree.path(turn) if one.state == Turn.State.ANSWERED]
    return [
        Past(question=one.question, answer=one.text, finish_reason=one.finish_reason, shown=one.shown)
        for one in answered[-REMEMBERED:]
    ]


def _work(turn: Turn, run: _Run) -> None:
    _start_pulse()
    try:
        corpus = turn.conversation.corpus
        for event in answer(corpus, turn.question, turn.recipe.value(), history_of(turn), stopped=run.stopped):
            if isinstance(event, Done):
                _insist(partial(_keep, turn, event), run)
            run.add(_event(event, turn))
    except BaseException as error:  # a panic of a Rust library is no Exception; nobody else would end the stream
        reason = _reason(error)
        if not isinstance(error, RagplatError):
            log.exception("turn %s", turn.pk)
        with suppress(Exception):  # where even waiting did not help; the stream must end all the same
            _insist(partial(Turn.objects.filter(pk=turn.pk).update, state=Turn.State.FAILED, reason=reason), run)
        run.add({"type": "failed", "reason": reason})
    finally:
        _runs.pop(turn.pk, None)  # from now on the row answers: what was streamed may be deleted with its document
        connections.close_all()  # this thread's own


def _reason(error: BaseException) -> str:
    if isinstance(error, OperationalError | InterfaceError):
        return "The database did not answer while this was being answered. Nothing of the answer was kept."
    return error.message if isinstance(error, RagplatError) else f"An unexpected error: {error}"


def _insist(write: Callable[[], Any], run: _Run) -> None:
    """Write to the database, waiting for it where it is away: its restart must not cost an answer that is there."""
    until = time.monotonic() + DATABASE_SECONDS
    waiting = False
    while True:
        try:
            write()
            return
        except (OperationalError, InterfaceError):
            if time.monotonic() > until:
                raise
        if not waiting:
            run.add({"type": "stage", "name": "storing"})
        waiting = True
        connections.close_all()
        time.sleep(1)


def _start_pulse() -> None:
    global _pulsing
    with _pulse_lock:
        if not _pulsing:
            threading.Thread(target=_pulse, name="pulse-of-turns", daemon=True).start()
        _pulsing = True


def _pulse() -> None:
    """While answers are made here, say so in their rows, and stop those that nobody waits for any more."""
    global _pulsing
    while True:
        try:
            _beat(dict(_runs))
        except (OperationalError, InterfaceError):
            log.warning("the database does not answer; answers go on")
        finally:
            connections.close_all()
        time.sleep(PULSE_SECONDS)
        with _pulse_lock:
            if not _runs:
                _pulsing = False
                return


def _beat(runs: dict[int, _Run]) -> None:
    rows = Turn.objects.filter(pk__in=runs, state=Turn.State.ASKED)
    rows.update(pulse=timezone.now())
    watched = dict(rows.values_list("pk", "watched"))
    for pk, run in runs.items():
        if pk not in watched:  # deleted, or stopped through another process
            run.stopped.set()
        else:
            run.stop_if_unwatched(watched[pk])


def _keep(turn: Turn, done: Done) -> None:
    if not Turn.objects.filter(pk=turn.pk).exists():
        raise NotFound("This conversation was deleted.")
    made = done.answer
    turn.text, turn.finish_reason, turn.trace = made.text, made.finish_reason, made.trace
    turn.citations = [asdict(citation) for citation in made.citations]
    turn.sentences = [
        {
            "start": sentence.start,
            "end": sentence.end,
            "support": sentence.support,
            "why": sentence.why,
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
