"""The web process: `uvicorn ragplat.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ragplat.settings")
application = get_asgi_application()
