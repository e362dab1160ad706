"""Background work. The queue lives in PostgreSQL: a job is made in the transaction of the rows it is about."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils import timezone
from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.exceptions import AlreadyEnqueued, UniqueViolation
from procrastinate.jobs import Job, Status

from indexer import pipeline, reindex, store, vectors
from indexer.follow import build_follower, catch_up
from indexer.models import Document, Index
from ragplat import supervisor
from ragplat.errors import RagplatError, Unavailable

log = logging.getLogger(__name__)

# Priorities; a document that was added has 0.
URGENT = 10  # short work that must not wait behind a thousand documents
AT_ONCE = 1  # what was just added goes into the index that is being built too, before the next document
BACKLOG = -1  # the documents that were there when a re-index began
# Two that queue the same jobs in one moment: the second waits, and then sees them.
QUEUE_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('extend_index', 0))"
LONGEST_WAIT = 60  # seconds between attempts when something we need is down


class WhilePassing(BaseRetryStrategy):
    """Try again, ever less often, as long as the error is passing; what is permanent fails at once."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        passing = isinstance(exception, OperationalError | InterfaceError | TimeoutError) or (
            isinstance(exception, RagplatError) and not exception.permanent
        )
        if not passing:
            return None
        return RetryDecision(retry_in={"seconds": min(2 ** min(job.attempts, 10), LONGEST_WAIT)})


@app.task(name="index_document", retry=WhilePassing())
def index_document(document_id: int) -> None:
    """Bring a document to an end, whatever it is; then let the followers know."""
    try:
        pipeline.index_document(document_id)
    except (RagplatError, OperationalError, InterfaceError):
        raise
    except Exception as error:
        # A fault of ours: the document must not stay "embedding" for ever.
        log.exception("document %s", document_id)
        pipeline.fail(document_id, error)
        raise
    document = Document.objects.only("corpus_id", "state").filter(pk=document_id).first()
    if document is not None:
        for index in Index.objects.filter(corpus_id=document.corpus_id):
            if index.state == Index.State.ACTIVE:
                enqueue_follow(index.pk)
            elif index.state in Index.SHADOW and document.state == Document.State.READY:
                enqueue_extensions(index.pk, [document.pk], AT_ONCE)


@app.task(name="extend_index", retry=WhilePassing())
def extend_index(index_id: int, document_id: int) -> None:
    """Bring a document into an index that is built beside the active one; then let its followers know."""
    pipeline.extend_index(index_id, document_id)
    enqueue_follow(index_id)


def enqueue_extensions(index_id: int, document_ids: Sequence[int], priority: int = BACKLOG) -> None:
    """Queue a job for each document that is to come into an index; one that has its job already gets no other."""
    locks = {f"extend-{index_id}-{document_id}": document_id for document_id in document_ids}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(QUEUE_LOCK)
        rows = ProcrastinateJob.objects.filter(task_name=extend_index.name)
        waiting = rows.filter(status="todo", queueing_lock__in=list(locks)).values_list("queueing_lock", flat=True)
        running = rows.filter(status="doing").values_list("queueing_lock", flat=True)
        known = {*waiting, *running}
        jobs = [_extension(lock, index_id, one, priority) for lock, one in locks.items() if lock not in known]
        if jobs:
            app.job_manager.batch_defer_jobs(jobs)


def _extension(lock: str, index_id: int, document_id: int, priority: int) -> Job:
    task = extend_index.configure(lock=lock, queueing_lock=lock, priority=priority)
    return task.make_new_job(index_id=index_id, document_id=document_id)


def enqueue_follow(index_id: int, seconds: int = 1) -> None:
    """Queue one catch-up of an index's followers; many documents finishing together share it."""
    lock = f"follow-{index_id}"
    later = {"seconds": seconds}
    with suppress(AlreadyEnqueued), transaction.atomic():
        follow = follow_index.configure(lock=lock, queueing_lock=lock, schedule_in=later, priority=URGENT)
        follow.defer(index_id=index_id)


@app.task(name="follow_index", retry=WhilePassing())
def follow_index(index_id: int) -> None:
    """Bring this host's followers up to date, and build the vector index of an index that has grown.

    An index that is being built is ready when nothing is missing after that.
    """
    index = Index.objects.select_related("recipe", "corpus").filter(pk=index_id).first()
    if index is None:
        return
    try:
        catch_up(index)
        vectors.build(index)
        build_follower(index)
        store.analyze(index)
        reindex.settle(index)
    except (Unavailable, TimeoutError) as error:
        # A retry of this job would collide with the next one where that is queued already.
        log.warning("%s: its followers wait: %s", index, error)
        enqueue_follow(index_id, LONGEST_WAIT)


@receiver(post_delete, sender=Document)
def follow_deletion(instance: Document, **kwargs) -> None:
    """A search does not wait for this; but nor shall what was deleted stay in the followers until the next search."""

    def enqueue() -> None:
        for index_id in Index.objects.filter(corpus_id=instance.corpus_id).values_list("pk", flat=True):
            enqueue_follow(index_id)

    transaction.on_commit(enqueue, robust=True)


@contextmanager
def working(say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Have a worker running: the one that lives, or one for the time of the block.

    Yields a check that raises Unavailable when the one started here has ended.
    """
    since = timezone.now() - timedelta(seconds=settings.WORKER_STALLED_SECONDS)
    if ProcrastinateWorker.objects.filter(last_heartbeat__gt=since).exists():
        yield lambda: None
        return
    say("No worker is running: starting one for this command.")
    worker = supervisor.start(supervisor.services()["worker"])

    def check() -> None:
        if worker.poll() is not None:
            raise Unavailable(f"The worker ended. {supervisor.tail('worker')}")

    try:
        yield check
    finally:
        supervisor.stop([worker])


@app.periodic(cron="* * * * * */5")  # the last field is seconds
@app.task(name="requeue_stalled", queueing_lock="requeue_stalled", pass_context=True, priority=URGENT)
async def requeue_stalled(context: JobContext, timestamp: int) -> None:
    """Put the jobs of workers that were killed back into the queue."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=settings.WORKER_STALLED_SECONDS):
        log.warning("job %s (%s) was left by a worker that is gone: queued again", job.id, job.task_name)
        try:
            await manager.retry_job(job)
        except UniqueViolation:  # the same work is queued once more: that job does it
            await manager.finish_job_by_id_async(job.id, Status.FAILED, delete_job=True)
