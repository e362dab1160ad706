"""`manage.py doctor`: what is wrong with this installation, and the cure."""

import json as jsonlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta

import httpx
from django.conf import settings
from django.core.management import BaseCommand
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django.utils.module_loading import import_string

from ragplat import supervisor

OLDEST_PGVECTOR = (0, 8, 0)
LEAST_DISK = 2**30  # bytes free


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    cure: str = ""  # what to do when it is not ok


class Command(BaseCommand):
    help = "Check database, services, queue and disk; says what is wrong and what to do. Exit code 1 if anything is."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--index", metavar="CORPUS", help="Instead measure the recall of a corpus's index.")
        parser.add_argument("--json", action="store_true", help="Print the findings as JSON.")

    def handle(self, *args, index, json, **options):
        # By name: the kernel imports no app.
        findings = list(import_string("indexer.probe.findings")(index) if index else examine())
        if json:
            self.stdout.write(jsonlib.dumps([asdict(finding) for finding in findings], indent=1))
        else:
            for finding in findings:
                self.stdout.write(f"{'ok  ' if finding.ok else 'BAD '} {finding.name}: {finding.found}")
                if not finding.ok:
                    self.stdout.write(f"     {finding.cure}")
        if not all(finding.ok for finding in findings):
            sys.exit(1)


def examine() -> Iterator[Finding]:
    """Look at everything an installation needs, in the order in which one thing needs another."""
    yield disk()
    answering = database()
    yield answering
    if answering.ok:
        yield from (_guarded(check) for check in (pgvector, migrations, worker, failed_jobs))
    yield embedding()
    if settings.GENERATOR_URL:
        yield generator()


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except DatabaseError as error:
        return Finding(name=check.__name__, ok=False, found=str(error).splitlines()[0], cure="Run `manage.py migrate`.")


def disk() -> Finding:
    free = shutil.disk_usage(settings.VAR_DIR).free
    return Finding(
        name="disk",
        ok=free >= LEAST_DISK,
        found=f"{free / 2**30:.1f} GiB free for {settings.VAR_DIR}",
        cure="Make room, or move RAGPLAT_VAR_DIR to a larger disk.",
    )


def database() -> Finding:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            return Finding(name="database", ok=True, found=f"PostgreSQL {cursor.fetchone()[0]}")
    except DatabaseError as error:
        return Finding(
            name="database",
            ok=False,
            found=str(error).splitlines()[0],
            cure="Check DATABASE_URL and that the server runs; unset it to use the embedded PostgreSQL.",
        )


def pgvector() -> Finding:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        row = cursor.fetchone()
    version = row[0] if row else "missing"
    return Finding(
        name="pgvector",
        ok=bool(row) and tuple(int(part) for part in version.split(".")) >= OLDEST_PGVECTOR,
        found=version,
        cure="Install pgvector 0.8 or newer in the server, then `ALTER EXTENSION vector UPDATE`.",
    )


def migrations() -> Finding:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return Finding(
        name="migrations",
        ok=not waiting,
        found=f"{len(waiting)} not applied" if waiting else "all applied",
        cure="Run `manage.py migrate`.",
    )


def worker() -> Finding:
    from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

    since = timezone.now() - timedelta(seconds=settings.WORKER_STALLED_SECONDS)
    alive = ProcrastinateWorker.objects.filter(last_heartbeat__gt=since).count()
    waiting = ProcrastinateJob.objects.filter(status="todo").exclude(task_name="requeue_stalled").count()
    return Finding(
        name="worker",
        ok=alive > 0,
        found=f"{alive} alive, {waiting} jobs waiting",
        cure="`make up` runs one; or start `manage.py worker`.",
    )


def failed_jobs() -> Finding:
    from procrastinate.contrib.django.models import ProcrastinateJob

    failed = ProcrastinateJob.objects.filter(status="failed").count()
    return Finding(
        name="jobs",
        ok=failed == 0,
        found=f"{failed} failed",
        cure="Look at them under /admin/ and retry them there; the worker's log has the errors.",
    )


def embedding() -> Finding:
    answering = supervisor.answers(settings.EMBED_URL)
    return Finding(
        name="embedding service",
        ok=answering,
        found=f"{'answers' if answering else 'does not answer'} at {settings.EMBED_URL}",
        cure=f"`make up` starts it. {supervisor.tail('embed')}",
    )


def generator() -> Finding:
    url = f"{settings.GENERATOR_URL.rstrip('/')}/models"
    headers = {"Authorization": f"Bearer {settings.GENERATOR_API_KEY}"} if settings.GENERATOR_API_KEY else {}
    try:
        response = httpx.get(url, headers=headers, timeout=5)
        response.raise_for_status()
        found, ok = f"answers at {settings.GENERATOR_URL}", True
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        found, ok = f"{url}: {error}", False
    return Finding(
        name="language model", ok=ok, found=found, cure="Check RAGPLAT_GENERATOR_URL and that the server runs."
    )
