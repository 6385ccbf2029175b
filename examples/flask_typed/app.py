"""Typed answers from Flask: an object as JSON or as events, and a list line by line.

::

    python examples/flask_typed/app.py
    curl 127.0.0.1:5000/recipe --json '"A pancake recipe"'
    curl 127.0.0.1:5000/recipe-events --no-buffer --json '"A pancake recipe"'
    curl 127.0.0.1:5000/recipes --no-buffer --json '"Ten recipes"'

``CHAT_PROVIDER``, ``CHAT_MODEL`` and ``PORT`` are those of ``flask_chat``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

from flask import Flask, Response, abort, jsonify, request
from pydantic import BaseModel

from providers_sync import OpenAICompatible, Provider, ProviderError, TypedStream
from providers_sync.gateway import serve
from providers_sync.providers import get_provider
from providers_sync.types import Messages
from providers_sync.web import (
    PLAIN_HEADERS,
    SSE_HEADERS,
    QuestionError,
    error_data,
    question,
    sse,
)


class Recipe(BaseModel):
    name: str
    minutes: int


app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024
app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]


@functools.cache
def provider() -> Provider:
    """Return the provider; it is created at first use, since servers may fork before that."""
    if name := os.environ.get("CHAT_PROVIDER"):
        return get_provider(name, os.environ.get("CHAT_MODEL"))
    return OpenAICompatible("echo", base_url=serve("echo").url("openai"))


def posted() -> Messages:
    """Return the messages of the request."""
    try:
        return question(request.get_json())
    except RecursionError:  # Flask refuses invalid JSON, but not JSON that is nested too deeply
        abort(400)


@app.post("/recipe")
def recipe() -> Response:
    """Return one object."""
    messages = posted()
    return jsonify(provider().complete(messages, into=Recipe).value.model_dump())


@app.post("/recipe-events")
def recipe_events() -> Response:
    """Stream the text of one object; ``done`` has the object."""
    answer = provider().prepare(posted(), into=Recipe)
    return Response(sse(answer), headers=SSE_HEADERS)


@app.post("/recipes")
def recipes() -> Response:
    """Return a line of JSON for each item; a broken answer breaks off the body, too."""
    messages = posted()
    stream = provider().stream(messages, into=list[Recipe], skip_invalid=True)
    return Response(lines(stream), headers=PLAIN_HEADERS, mimetype="application/x-ndjson")


def lines(stream: TypedStream[list[Recipe]]) -> Iterator[str]:
    with stream:
        for item in stream.items():
            yield item.model_dump_json() + "\n"


@app.errorhandler(ProviderError)
def refuse(error: ProviderError) -> tuple[dict[str, object], int]:
    """Return a 400 for an invalid question, otherwise a 502."""
    return {"error": error_data(error)}, 400 if isinstance(error, QuestionError) else 502


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
