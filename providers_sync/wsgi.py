"""The gateway's WSGI application: checks access, reads requests and streams the engine's answers.

It runs on any WSGI server; one that sets ``waitress.client_disconnected`` lets it notice at once
that a client has disconnected.
"""

from __future__ import annotations

import functools
import hmac
import json
import logging
import math
import re
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from . import gateway_page
from .dialects import (
    DIALECTS,
    MODEL_ENDPOINTS,
    AnswerInfo,
    Delta,
    Dialect,
    ModelEndpoint,
    RequestError,
    Writer,
    error_body,
)
from .engines import AbortConnection, DisconnectWatcher, Engine, EngineAnswer
from .error_words import body_message
from .errors import APIStatusError, InvalidRequestError, ProviderError, ServerError
from .printable import visible

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Limit for a request body; long conversations with images take a few MB."""
KEY_HEADERS = ("x-api-key", "x-goog-api-key")
"""Headers of Anthropic's and of Google's clients; OpenAI's send ``Authorization: Bearer``."""
OVERLOADED = 529
FORWARDED_STATUSES = {400, 413, 422, 429, 503, OVERLOADED}
"""Statuses that are passed on from the server behind an engine: they tell the client what to do."""
log = logging.getLogger(__name__)


class App:
    """The WSGI application. It holds no state besides its engine, so it is thread-safe.

    ``hosts``: the names allowed in a ``Host`` header; ``None``: any.
    ``watcher`` cancels the answers of disconnected clients.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        token: str | None,
        hosts: Collection[str] | None,
        watcher: DisconnectWatcher,
    ) -> None:
        self._engine = engine
        # A token from an environment variable may hold bytes that are not valid UTF-8.
        self._token = None if token is None else token.encode("utf-8", "surrogateescape")
        self._hosts = hosts
        self._watcher = watcher
        rules = [
            Rule(path, methods=["POST"], endpoint=functools.partial(self._chat, d))
            for d in DIALECTS
            for path in (d.path, *d.same_paths)
        ]
        rules += [
            Rule(m.path, methods=[m.method], endpoint=functools.partial(self._models, m))
            for m in MODEL_ENDPOINTS
        ]
        rules.append(Rule("/", methods=["GET"], endpoint=self._index))
        self._routes = Map(rules, strict_slashes=False, merge_slashes=False).bind("gateway")

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request; every failure becomes an error response in the request's protocol."""
        request = Request(environ)
        request.max_content_length = MAX_BODY_BYTES
        key = uuid.uuid4().hex
        try:
            response = self._respond(request, key)
        except HTTPException as error:
            response = _error_response(_from_http_error(error), request.path)
            response.headers.update(
                [h for h in error.get_headers() if h[0].lower() != "content-type"]
            )
        except Exception as error:  # noqa: BLE001 - a client never sees a traceback
            response = _error_response(_from_exception(error), request.path)
        for name in ("x-request-id", "request-id"):  # OpenAI's and Anthropic's header
            response.headers[name] = f"req_{key}"
        return response(environ, start_response)

    def _respond(self, request: Request, key: str) -> Response:
        self._check_host(request.headers.get("Host", ""))
        self._check_token(request)
        endpoint, values = self._routes.match(request.path, request.method)
        answer: Response = endpoint(request, key=key, **values)
        return answer

    def _check_host(self, header: str) -> None:
        name = re.sub(r":\d*$", "", header).lower()
        if self._hosts is not None and name not in self._hosts:
            raise RequestError(
                f"this gateway does not accept the host name {name!r}; use 127.0.0.1",
                status=403,
                code="host_not_allowed",
            )

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        headers = (request.headers.get(name) for name in KEY_HEADERS)
        token = bearer.strip() if scheme.lower() == "bearer" else next(filter(None, headers), "")
        # Header bytes are decoded as latin-1; this restores the bytes that the client sent.
        sent = token.encode("latin-1", "replace")
        if not hmac.compare_digest(sent, self._token):
            raise RequestError(
                "a valid token is required, as Authorization: Bearer, x-api-key or x-goog-api-key",
                status=401,
                code="invalid_api_key",
            )

    def _index(self, request: Request, key: str) -> Response:
        # The host name is one of this machine's, or the client has sent the token.
        told = (request.host_url.rstrip("/"), self._engine.models[0])
        if request.accept_mimetypes.best_match(["text/plain", "text/html"]) == "text/html":
            content = gateway_page.page(*told)
            return Response(content, mimetype="text/html", headers=gateway_page.SECURITY)
        return Response(gateway_page.plain_text(*told), mimetype="text/plain")

    def _models(
        self, endpoint: ModelEndpoint, request: Request, key: str, **values: Any
    ) -> Response:
        if endpoint.method == "POST":
            values["body"] = _read_json(request)
        return _json_response(endpoint.answer(self._engine.models, **values))

    def _chat(self, dialect: Dialect, request: Request, key: str, **values: str) -> Response:
        query = {name: request.args.get(name) for name in dialect.query}
        chat = dialect.read(_read_json(request), **values, **query)
        models = self._engine.models
        model = chat.model if chat.model in models else models[0]
        info = AnswerInfo(key, int(time.time()), str(model), chat)
        writer = dialect.writer(info)
        disconnected = request.environ.get("waitress.client_disconnected", _never)
        answer = EngineAnswer(self._engine, chat, self._watcher, disconnected)
        try:
            if chat.stream:
                response = _stream_response(answer, writer)
            else:
                body = writer.complete(list(answer), answer.ending)
                response = Response(body, content_type="application/json")
        except BaseException:
            answer.close()
            raise
        response.call_on_close(answer.close)
        return response


def _stream_response(answer: EngineAnswer, writer: Writer) -> Response:
    """Wait for the first delta and return the response: an earlier failure gets a status."""
    first = next(answer, None)
    return Response(_stream_body(first, answer, writer), content_type=writer.content_type)


def _stream_body(first: Delta | None, answer: EngineAnswer, writer: Writer) -> Iterator[bytes]:
    try:
        yield writer.start(answer.usage) + (writer.delta(first) if first else b"")
        for delta in answer:
            yield writer.delta(delta)
        yield writer.end(answer.ending)
    except AbortConnection:
        raise
    except Exception as error:
        event = writer.error(_from_exception(error))
        if event is None:
            # Without the last chunk the HTTP framing shows that the answer is incomplete.
            raise AbortConnection("the answer is incomplete") from error
        yield event


def _never() -> bool:
    return False


def _read_json(request: Request) -> Any:
    if request.mimetype != "application/json":
        # A web page can post forms and plain text to any address, but not JSON.
        raise RequestError("the Content-Type must be application/json", status=415, code="not_json")
    try:
        return json.loads(
            request.get_data(), parse_constant=_reject_constant, parse_float=_finite_float
        )
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from None


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _from_http_error(error: HTTPException) -> RequestError:
    message = error.description or error.name
    if error.code == 404:
        message = "nothing is served at this path; GET / lists the paths"
    code = error.name.lower().replace(" ", "_")
    return RequestError(message, status=error.code or 500, code=code)


def _from_exception(error: Exception) -> RequestError:
    """Return the error to send to the client; log it if it is not the client's fault."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InvalidRequestError):
        return RequestError(str(error))
    if isinstance(error, AbortConnection):
        return RequestError(str(error), status=499)
    if (status := _status_behind(error)) in FORWARDED_STATUSES:
        return RequestError(_words(error), status=status)
    if isinstance(error, RecursionError):
        return RequestError("the request is nested too deeply")
    trace = "".join(traceback.format_exception(error))
    # The trace may quote a server's text; escaped, it is safe to print on a terminal.
    log.error("the engine failed\n%s", visible(trace))
    known = isinstance(error, ProviderError)
    message = _words(error) if known else "the engine failed; see the gateway's log"
    return RequestError(message, status=500, code="engine_failed")


def _words(error: Exception) -> str:
    """Return an error's text; of a status the server's own words, without the server's address."""
    if not isinstance(error, APIStatusError):
        return str(error)
    return body_message(error.body) or re.sub(r" from https?://\S+", "", str(error))


def _status_behind(error: Exception) -> int:
    """Return the status of the server behind the engine, also one that its stream names; or 0."""
    if not isinstance(error, (APIStatusError, ServerError)):
        return 0
    is_busy = isinstance(error, ServerError) and error.overloaded
    return error.status_code or (OVERLOADED if is_busy else 0)


def _error_response(error: RequestError, path: str) -> Response:
    body = error_body(error, path)
    response = Response(body, status=error.status, content_type="application/json")
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json_response(value: Any) -> Response:
    return Response(json.dumps(value), content_type="application/json")
