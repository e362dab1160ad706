"""App configuration."""

from django.apps import AppConfig
from django.conf import settings


class InferenceConfig(AppConfig):
    name = "inference"

    def ready(self) -> None:
        from inference import forgetting  # noqa: F401 (it listens for deleted documents)
        from inference.generators import registry as generators
        from inference.judges import registry as judges
        from ragplat.registry import extend

        extend(settings.EXTENSIONS, [generators, judges])
