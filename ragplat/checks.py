"""System checks: what `manage.py check` and every command say about the settings."""

from django.conf import settings
from django.core.checks import Tags, Warning, register

LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}


@register(Tags.security)
def debug_is_local(app_configs, **kwargs):
    """DEBUG shows settings and source to whoever causes an error."""
    if settings.DEBUG and settings.HOST not in LOCAL_HOSTS:
        return [
            Warning(
                f"RAGPLAT_DEBUG is on while the server listens on {settings.HOST}.",
                hint="Unset RAGPLAT_DEBUG, or set RAGPLAT_HOST to 127.0.0.1.",
                id="ragplat.W001",
            )
        ]
    return []
