"""`manage.py prepare`: what an installation needs before its processes start; `up` does it by itself."""

import secrets
from contextlib import suppress

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, call_command
from django.db import transaction

ADMIN = "admin"


class Command(BaseCommand):
    help = "Migrate the database, collect the static files and make the first administrator."
    requires_system_checks = []

    def handle(self, *args, **options):
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        self.stdout.write(f"Login: {admin_login()}")


def admin_login() -> str:
    """Make the first administrator where there is no user yet; returns what to tell a person about signing in."""
    path = settings.VAR_DIR / "admin_password"
    users = get_user_model().objects
    if not users.exists():
        password = settings.ADMIN_PASSWORD or secrets.token_urlsafe(12)
        with transaction.atomic():
            users.create_superuser(ADMIN, password=password)
            if not settings.ADMIN_PASSWORD:
                with suppress(FileNotFoundError):
                    path.unlink()
                path.touch(mode=0o600)
                path.write_text(password + "\n")
    admin = users.filter(username=ADMIN).first()
    if admin is None:
        return "as set up by you"
    if path.exists() and admin.check_password(path.read_text().strip()):
        return f"{ADMIN} / {path.read_text().strip()}   (kept in {path}; change it under /admin/)"
    return f"{ADMIN}, with the password you chose"
