"""App configuration."""

from django.apps import AppConfig
from django.conf import settings


class IndexerConfig(AppConfig):
    name = "indexer"

    def ready(self) -> None:
        from indexer.chunkers import CHUNKERS
        from indexer.parsers import PARSERS
        from ragplat.registry import extend

        extend(settings.EXTENSIONS, [CHUNKERS, PARSERS])
