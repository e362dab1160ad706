"""`manage.py worker`: takes jobs from the queue until it is stopped."""

import asyncio

from django.conf import settings
from django.core.management import BaseCommand
from procrastinate.contrib.django import app

from indexer.models import Index
from indexer.tasks import enqueue_follow

JOBS_AT_ONCE = 2  # one document is parsed while another is embedded


class Command(BaseCommand):
    help = "Run background work: indexing documents, keeping followers up to date."

    def handle(self, *args, **options):
        # After an upgrade, or on a new host, followers begin from nothing: not only when the next document comes.
        for index_id in Index.objects.filter(state=Index.State.ACTIVE).values_list("pk", flat=True):
            enqueue_follow(index_id)
        asyncio.run(self._work())

    async def _work(self) -> None:
        with app.replace_connector(app.connector.get_worker_connector()) as worker_app:
            async with worker_app.open_async():
                await worker_app.run_worker_async(
                    concurrency=JOBS_AT_ONCE,
                    shutdown_graceful_timeout=8,
                    update_heartbeat_interval=settings.WORKER_HEARTBEAT_SECONDS,
                    stalled_worker_timeout=settings.WORKER_STALLED_SECONDS,
                    delete_jobs="successful",
                )
