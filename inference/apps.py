"""App configuration."""

from django.apps import AppConfig
from django.conf import settings


class InferenceConfig(AppConfig):
    name = "inference"

    def ready(self) -> None:
        from inference.generators import registry
        from ragplat.registry import extend

        extend(settings.EXTENSIONS, [registry])
