"""The Django chat behind its own compression and WhiteNoise."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from providers_sync.web import PLAIN_HEADERS, plain, question

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples" / "django_chat"))
import app as example


def plain_text(request: HttpRequest) -> StreamingHttpResponse:
    """Answer in plain text."""
    answer = example.provider().stream(question(json.loads(request.body)))
    return StreamingHttpResponse(plain(answer), headers=PLAIN_HEADERS)


example.urlpatterns.append(path("plain", plain_text))
settings.MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    *settings.MIDDLEWARE,
]
settings.STATIC_URL = "static/"
settings.STATIC_ROOT = str(example.PAGE)
app = get_wsgi_application()
