"""Every address of the site."""

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


@login_not_required
def healthz(request: HttpRequest) -> HttpResponse:
    """Answers 200 while the web process lives."""
    return HttpResponse("ok\n", content_type="text/plain")


handler500 = "ragplat.middleware.server_error"

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("admin/", admin.site.urls),
    path("accounts/", include("ragplat.accounts")),
    path("", include("indexer.urls")),
    path("", include("inference.urls")),
]
