"""A chat page on Flask; ``python examples/flask_chat/app.py`` prints its address.

``CHAT_PROVIDER`` names the provider (``openai``, ``anthropic``, ``vitalentum``, …), ``CHAT_MODEL``
the model; URLs and keys come from the providers' own variables. By default, the echo engine
answers.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from flask import Flask, Response, abort, request, send_from_directory

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

app = Flask(__name__, static_folder=PAGE, static_url_path="/page")
app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024
app.config["TRUSTED_HOSTS"] = os.environ.get("CHAT_HOSTS", "127.0.0.1,localhost").split(",")

app.wsgi_app = with_write_timeout(app.wsgi_app)


@functools.cache
def provider() -> Provider:
    """Return the provider; it is created at first use, since servers may fork before that."""
    if name := os.environ.get("CHAT_PROVIDER"):
        return get_provider(name, os.environ.get("CHAT_MODEL"))
    return OpenAICompatible("echo", base_url=serve("echo").url("openai"))


@app.get("/")
def page() -> Response:
    """Serve the page; everything it loads comes from this app."""
    return send_from_directory(PAGE, "index.html")


@app.post("/chat")
def chat() -> Response:
    """Answer a conversation. Only JSON: pages of other sites cannot post that unless allowed."""
    try:
        messages = question(request.get_json())
    except RecursionError:  # Flask refuses invalid JSON, but not JSON that is nested too deeply
        abort(400)
    return Response(sse(provider().prepare(messages)), headers=SSE_HEADERS)


@app.errorhandler(ProviderError)
def refuse(error: ProviderError) -> tuple[dict[str, object], int]:
    """Return an error that the page can show: a 400 for an invalid question, otherwise a 502."""
    return {"error": error_data(error)}, 400 if isinstance(error, QuestionError) else 502


@app.after_request
def guard(response: Response) -> Response:
    """Allow no scripts but the page's own, whatever a model writes."""
    response.headers["Content-Security-Policy"] = CONTENT_POLICY
    return response


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
