"""A chat page on Django; ``python examples/django_chat/app.py runserver`` prints its address.

``CHAT_PROVIDER`` names the provider (``openai``, ``anthropic``, ``vitalentum``, …), ``CHAT_MODEL``
the model; URLs and keys come from the providers' own variables. By default, the echo engine
answers.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST
from django.views.static import serve as serve_file

from providers_sync import OpenAICompatible, Provider, ProviderError
from providers_sync.gateway import serve
from providers_sync.providers import get_provider
from providers_sync.web import (
    SSE_HEADERS,
    QuestionError,
    error_data,
    question,
    sse,
    with_write_timeout,
)

PAGE = Path(__file__).parent.parent / "chat_page"
CONTENT_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)


@functools.cache
def provider() -> Provider:
    """Return the provider; it is created at first use, since servers may fork before that."""
    if name := os.environ.get("CHAT_PROVIDER"):
        return get_provider(name, os.environ.get("CHAT_MODEL"))
    return OpenAICompatible("echo", base_url=serve("echo").url("openai"))


@require_GET
@ensure_csrf_cookie
def page(request: HttpRequest) -> FileResponse:
    """Serve the page; it sends the cookie's CSRF token back with every question."""
    return FileResponse((PAGE / "index.html").open("rb"))


@require_POST
def chat(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Answer a conversation, or return an error that the page can show."""
    if request.content_type != "application/json":  # otherwise another site's form could post here
        return HttpResponse("Post JSON.", status=415, content_type="text/plain")
    try:
        posted = json.loads(request.body)
    except (ValueError, RecursionError):
        return HttpResponse("The body must be JSON.", status=400, content_type="text/plain")
    try:
        answer = provider().prepare(question(posted))
    except ProviderError as error:
        status = 400 if isinstance(error, QuestionError) else 502
        return JsonResponse({"error": error_data(error)}, status=status)
    return StreamingHttpResponse(sse(answer), headers=SSE_HEADERS)


def guard(get_response):
    """Allow no scripts but the page's own, whatever a model writes."""

    def middleware(request):
        response = get_response(request)
        response.headers["Content-Security-Policy"] = CONTENT_POLICY
        return response

    return middleware


urlpatterns = [
    path("", page),
    path("chat", chat),
    path("page/<path:path>", serve_file, {"document_root": PAGE}),
]

settings.configure(
    ALLOWED_HOSTS=os.environ.get("CHAT_HOSTS", "127.0.0.1,localhost").split(","),
    MIDDLEWARE=[
        f"{__name__}.guard",
        "django.middleware.common.CommonMiddleware",  # refuses hosts other than those above
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "signs nothing here"),
    USE_TZ=True,
)
application = with_write_timeout(get_wsgi_application())

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
