"""What every request goes through: a strict content security policy, and errors a person can read."""

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from ragplat.errors import RagplatError

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


HEADINGS = {403: "Not allowed", 404: "Not found", 413: "Too large", 503: "Not available right now"}


class errors_for_people:
    """Turns a RagplatError into its HTTP status and its message: JSON for scripts, a page for people."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, RagplatError):
            return None
        if not wants_page(request):
            body = {"error": error.message, "error_type": type(error).__name__}
            return JsonResponse(body, status=error.status)
        context = {"message": error.message, "heading": HEADINGS.get(error.status, "That did not work")}
        return render(request, "error.html", context, status=error.status)


def wants_page(request: HttpRequest) -> bool:
    """Whether a person is to read the answer, rather than a script."""
    return "text/html" in request.headers.get("Accept", "text/html")
