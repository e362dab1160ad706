"""App configuration of the kernel: system checks and the commands that belong to no app."""

from django.apps import AppConfig


class RagplatConfig(AppConfig):
    name = "ragplat"

    def ready(self) -> None:
        from ragplat import checks  # noqa: F401  (registers the checks)
