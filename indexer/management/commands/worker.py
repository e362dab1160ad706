"""`manage.py worker`: takes jobs from the queue until it is stopped."""

import asyncio

from django.conf import settings
from django.core.management import BaseCommand
from procrastinate.contrib.django import app

JOBS_AT_ONCE = 2  # one document is parsed while another is embedded


class Command(BaseCommand):
    help = "Run background work: indexing documents, keeping followers up to date."

    def handle(self, *args, **options):
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
