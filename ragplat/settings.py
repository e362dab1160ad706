"""Django's settings. Everything an operator may change comes from the environment; docs/configuration.md lists it."""

import os
import re
import secrets

from ragplat.database import django_database, embedded_fallback
from ragplat.env import envbool, envint, envsecret, envstr
from ragplat.errors import BadSetting
from ragplat.paths import BASE_DIR, run_dir, var_dir

VAR_DIR = var_dir()
HOST = envstr("RAGPLAT_HOST", "127.0.0.1", "Address the web server listens on.")
PORT = envint("RAGPLAT_PORT", 8000, "Port the web server listens on.", low=1, high=65535)
DEBUG = envbool("RAGPLAT_DEBUG", False, "Django's debug pages. Never in production.")


def _list(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _secret_key() -> str:
    """RAGPLAT_SECRET_KEY, or one made on first use and kept under RAGPLAT_VAR_DIR."""
    key = envsecret("RAGPLAT_SECRET_KEY", "Signs sessions and tokens. Made and kept under RAGPLAT_VAR_DIR when unset.")
    if key:
        return key
    path = VAR_DIR / "secret_key"
    try:
        if not path.exists():
            VAR_DIR.mkdir(parents=True, exist_ok=True)
            # Several processes may start at once: the first to link its file wins, the others read that one.
            draft = VAR_DIR / f".secret_key.{os.getpid()}"
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(50))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text()
    except OSError as error:
        raise BadSetting(f"RAGPLAT_VAR_DIR is {VAR_DIR}, where no file can be kept: {error}.") from error


SECRET_KEY = _secret_key()
ALLOWED_HOSTS = _list(
    envstr("RAGPLAT_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]", "Host names the site answers to, comma-separated.")
)
CSRF_TRUSTED_ORIGINS = _list(
    envstr("RAGPLAT_TRUSTED_ORIGINS", "", "Origins behind a TLS proxy, such as https://ask.example.org.")
)
BEHIND_TLS = envbool("RAGPLAT_BEHIND_TLS", False, "A proxy in front speaks TLS: secure cookies, HSTS.")

DATABASES = {
    "default": django_database(
        envstr("DATABASE_URL", "", "PostgreSQL >= 16 with pgvector >= 0.8. Unset: the embedded one.")
        or embedded_fallback(VAR_DIR)
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

ADMIN_PASSWORD = envsecret(
    "RAGPLAT_ADMIN_PASSWORD", "Password of the first administrator, `admin`. Unset: one is made and shown by `up`."
)

# Embedding service
EMBED_URL = (
    envstr(
        "RAGPLAT_EMBED_URL",
        "",
        "Where the embedding service listens: unix:///PATH or http://HOST:PORT. Unset: a socket.",
    )
    or f"unix://{run_dir() / 'embed.sock'}"
)
if not re.fullmatch(r"unix:///.+|https?://[^/\s:]+(:\d{1,5})?/?", EMBED_URL):
    raise BadSetting(f'RAGPLAT_EMBED_URL is "{EMBED_URL}". Allowed: unix:///PATH or http://HOST:PORT.')
EMBED_MODEL = envstr(
    "RAGPLAT_EMBED_MODEL", "all-MiniLM-L6-v2", "Embedding model of the built-in recipes: a name or a folder."
)
RERANK_MODEL = envstr(
    "RAGPLAT_RERANK_MODEL",
    "",
    "Cross-encoder for recipes that rerank: a folder or a name in the Hugging Face cache. Unset: none.",
)
EMBED_THREADS = envint(
    "RAGPLAT_EMBED_THREADS", 0, "CPU threads of the embedding service; 0 for all cores.", low=0, high=512
)

# Generation
GENERATOR_URL = envstr(
    "RAGPLAT_GENERATOR_URL", "", "OpenAI-compatible server that writes answers, such as http://127.0.0.1:8001/v1."
)
if GENERATOR_URL and not re.fullmatch(r"https?://[^\s]+", GENERATOR_URL):
    raise BadSetting(f'RAGPLAT_GENERATOR_URL is "{GENERATOR_URL}". Allowed: http://HOST:PORT/v1 or https://...')
GENERATOR_MODEL = envstr("RAGPLAT_GENERATOR_MODEL", "", "Model to ask for there. Unset: the only one it serves.")
GENERATOR_API_KEY = envsecret("RAGPLAT_GENERATOR_API_KEY", "API key for RAGPLAT_GENERATOR_URL.")

# Limits
MAX_UPLOAD_MB = envint("RAGPLAT_MAX_UPLOAD_MB", 100, "Largest file taken, in MB.", low=1, high=10_000)
PARSE_SECONDS = envint("RAGPLAT_PARSE_SECONDS", 300, "Longest time parsing one file may take.", low=1, high=86_400)
PARSE_MEMORY_MB = envint(
    "RAGPLAT_PARSE_MEMORY_MB",
    4096,
    "Memory parsing one file may take; OCR needs about 600 MB.",
    low=768,
    high=1_000_000,
)
MAX_PAGES = envint("RAGPLAT_MAX_PAGES", 5000, "Most pages a document may have.", low=1, high=1_000_000)
MAX_CHARACTERS = envint(
    "RAGPLAT_MAX_CHARACTERS", 20_000_000, "Most characters of text a document may have.", low=1, high=200_000_000
)
QUESTIONS_PER_MINUTE = envint(
    "RAGPLAT_QUESTIONS_PER_MINUTE",
    30,
    "Most questions a person may ask in a minute; 0 for no limit.",
    low=0,
    high=10_000,
)
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 2**20
DATA_UPLOAD_MAX_NUMBER_FILES = 1000
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]

EXTENSIONS = _list(
    envstr("RAGPLAT_EXTENSIONS", "", "Own parts, as KIND:NAME=MODULE:ATTR, comma-separated; KIND is parser, chunker...")
)

INSTALLED_APPS = [
    "ragplat",
    "inference",
    "indexer",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "procrastinate.contrib.django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "ragplat.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "ragplat.middleware.login_required",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "ragplat.middleware.errors_for_people",
]
ROOT_URLCONF = "ragplat.urls"
ASGI_APPLICATION = "ragplat.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "ask"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": VAR_DIR / "files"}},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

SESSION_COOKIE_NAME = f"ragplat_{PORT}"  # cookies ignore ports: two installations on one host must not share them
CSRF_COOKIE_NAME = f"ragplat_csrf_{PORT}"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
X_FRAME_OPTIONS = "DENY"

LOG_LEVEL = envstr("RAGPLAT_LOG_LEVEL", "INFO", "How much is logged.", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        name: {"handlers": ["console"], "level": LOG_LEVEL, "propagate": False}
        for name in ("ragplat", "indexer", "inference")
    },
}

# Missed heartbeats decide when a killed worker's jobs go back into the queue.
WORKER_HEARTBEAT_SECONDS = 2
WORKER_STALLED_SECONDS = 8
