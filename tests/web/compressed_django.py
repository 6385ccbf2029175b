"""The Django chat behind its own compression and WhiteNoise."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from providers_sync import Completion
from providers_sync.web import PLAIN_HEADERS, SSE_HEADERS, plain, question, sse

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples" / "django_chat"))
import app as example


def plain_text(request: HttpRequest) -> StreamingHttpResponse:
    """Answer in plain text."""
    answer = example.provider().stream(question(json.loads(request.body)))
    return StreamingHttpResponse(plain(answer), headers=PLAIN_HEADERS)


def saved(request: HttpRequest) -> StreamingHttpResponse:
    """Answer; the question is the file that the answer is saved in."""
    messages = question(json.loads(request.body))

    def save(answer: Completion) -> None:
        with Path(messages[-1]["content"]).open("a") as file:
            file.write(json.dumps([answer.outcome, answer.text]) + "\n")

    answer = example.provider().prepare(messages)
    return StreamingHttpResponse(sse(answer, on_end=save), headers=SSE_HEADERS)


example.urlpatterns += [path("plain", plain_text), path("saved", saved)]
settings.MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    *settings.MIDDLEWARE,
]
settings.STATIC_URL = "static/"
settings.STATIC_ROOT = str(example.PAGE)
app = get_wsgi_application()
