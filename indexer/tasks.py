"""Background work. The queue lives in PostgreSQL: a job is made in the transaction of the rows it is about."""

import logging
from contextlib import suppress

from django.db import InterfaceError, OperationalError
from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job

from indexer import store, vectors
from indexer.follow import catch_up
from indexer.models import Document, Index
from indexer.pipeline import index_document as run_pipeline
from ragplat.errors import RagplatError

log = logging.getLogger(__name__)

URGENT = 10  # short work that must not wait behind a thousand documents, which have priority 0
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
        run_pipeline(document_id)
    except (RagplatError, OperationalError, InterfaceError):
        raise
    except Exception as error:
        # A fault of ours: the document must not stay "embedding" for ever.
        log.exception("document %s", document_id)
        Document.objects.filter(pk=document_id, state__in=Document.UNDER_WAY).update(
            state=Document.State.FAILED,
            reason=f"An unexpected error: {type(error).__name__}: {error}. The worker's log has the details.",
        )
        raise
    document = Document.objects.only("corpus_id").filter(pk=document_id).first()
    if document is not None:
        for index in Index.objects.filter(corpus_id=document.corpus_id, state=Index.State.ACTIVE):
            enqueue_follow(index.pk)


def enqueue_follow(index_id: int) -> None:
    """Queue one catch-up of an index's followers; many documents finishing together share it."""
    lock = f"follow-{index_id}"
    with suppress(AlreadyEnqueued):
        follow = follow_index.configure(lock=lock, queueing_lock=lock, schedule_in={"seconds": 1}, priority=URGENT)
        follow.defer(index_id=index_id)


@app.task(name="follow_index", retry=WhilePassing())
def follow_index(index_id: int) -> None:
    """Bring this host's followers up to date, and build the vector index of an index that has grown."""
    index = Index.objects.select_related("recipe", "corpus").filter(pk=index_id).first()
    if index is not None:
        catch_up(index)
        vectors.build(index)
        store.analyze(index)


@app.periodic(cron="*/5 * * * * *")
@app.task(name="requeue_stalled", queueing_lock="requeue_stalled", pass_context=True, priority=URGENT)
async def requeue_stalled(context: JobContext, timestamp: int) -> None:
    """Put the jobs of workers that were killed back into the queue."""
    from django.conf import settings

    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=settings.WORKER_STALLED_SECONDS):
        log.warning("job %s (%s) was left by a worker that is gone: queued again", job.id, job.task_name)
        await manager.retry_job(job)
