"""The queue without a worker: its jobs, run one after another in the test's own process."""

from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob


def run_jobs(limit: int = 1000) -> None:
    """Run what is queued, and what that queues, in the order a worker would. Errors as in ``run_job``."""
    for _ in range(limit):
        if not run_job():
            return
    raise AssertionError(f"{limit} jobs ran, and there are more")


def run_job() -> bool:
    """Run the next job; False when there is none.

    If it raises, it is queued again, as it is when its worker is killed, and the error goes to the caller.
    """
    job = ProcrastinateJob.objects.filter(status="todo").order_by("-priority", "id").first()
    if job is None:
        return False
    _set_status(job, "doing")  # while it runs, another one like it may be queued
    try:
        app.tasks[job.task_name](**job.args)
    except BaseException:
        if ProcrastinateJob.objects.filter(status="todo", queueing_lock=job.queueing_lock).exists():
            _delete("id = %s", [job.pk])
        else:
            _set_status(job, "todo")
        raise
    _delete("id = %s", [job.pk])
    return True


def clear_jobs() -> None:
    """Forget what earlier tests queued: the tables of the queue are not Django's, and not emptied by it."""
    _delete("true", [])


def _set_status(job: ProcrastinateJob, status: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = %s WHERE id = %s", [status, job.pk])


def _delete(condition: str, params: list) -> None:
    jobs = f"FROM procrastinate_jobs WHERE {condition}"
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM procrastinate_periodic_defers WHERE job_id IN (SELECT id {jobs})", params)
        cursor.execute(f"DELETE {jobs}", params)
