"""What every request goes through: a strict content security policy, and errors a person can read."""

import sys

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views import defaults

from ragplat.errors import BadInput, DatabaseUnavailable, RagplatError, TooMany

# Everything comes from this origin; page images are served by us; nothing inline runs.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


def content_security_policy(get_response):
    """Adds the Content-Security-Policy header to every response."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return middleware


class login_required(LoginRequiredMiddleware):
    """Sends people to the login page, and tells scripts that the session has ended: they keep what was typed."""

    def handle_no_permission(self, request: HttpRequest, view_func) -> HttpResponse:
        if wants_page(request):
            return super().handle_no_permission(request, view_func)
        body = {
            "error": "Your session has ended. Sign in again in another tab, then try again.",
            "error_type": "Refused",
        }
        return JsonResponse(body, status=401)


HEADINGS = {403: "Not allowed", 404: "Not found", 413: "Too large", 429: "Too many", 503: "Not available right now"}


class errors_for_people:
    """Turns a RagplatError into its HTTP status and its message: JSON for scripts, a page for people."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, OperationalError | InterfaceError):
            return database_away(request)
        if isinstance(error, DataError):  # NUL and the like: no person types it
            error = BadInput("The request holds characters or numbers that cannot be kept.")
        if not isinstance(error, RagplatError):
            return None
        if wants_page(request):
            context = {"message": error.message, "heading": HEADINGS.get(error.status, "That did not work")}
            return marked(render(request, "error.html", context), error)
        return marked(JsonResponse({"error": error.message, "error_type": type(error).__name__}), error)


def marked(response: HttpResponse, error: RagplatError) -> HttpResponse:
    """Give a response that tells of an error its status, and say when to come back."""
    response.status_code = error.status
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.seconds)
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """The answer to an error nobody caught; a database that is away is said to be just that."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return database_away(request)
    return defaults.server_error(request)


def database_away(request: HttpRequest) -> HttpResponse:
    """503 in words, without touching the database."""
    error = DatabaseUnavailable()
    if not wants_page(request):
        return JsonResponse({"error": error.message, "error_type": type(error).__name__}, status=error.status)
    return HttpResponse(render_to_string("503.html"), status=error.status)


def wants_page(request: HttpRequest) -> bool:
    """Whether a person is to read the answer, rather than a script."""
    return "text/html" in request.headers.get("Accept", "text/html")
