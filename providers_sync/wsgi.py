"""The gateway's WSGI application: who may ask, what is asked, and the answer as it is made.

It runs on any WSGI server; one that sets ``waitress.client_disconnected`` lets it notice at once
that a client has gone.
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

from .dialects import (
    DIALECTS,
    MODEL_LISTS,
    AnswerInfo,
    Dialect,
    ModelList,
    Piece,
    RequestError,
    Writer,
    error_body,
)
from .engines import AbortConnection, DisconnectWatcher, Engine, EngineAnswer
from .errors import APIStatusError, InvalidRequestError, ProviderError
from .printable import visible

MAX_BODY_BYTES = 16 * 1024 * 1024
"""A request; long conversations with images take a few MB."""
PASSED_ON = {400, 413, 422, 429, 503, 529}
"""Statuses of the server behind an engine that tell the client what to do next."""
log = logging.getLogger(__name__)


class App:
    """The WSGI application. It holds no state beyond its engine, so it serves many threads.

    ``hosts``: the names that a ``Host`` header may carry; ``None``: any.
    ``watch`` cancels the answers whose clients have gone.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        token: str | None,
        hosts: Collection[str] | None,
        watch: DisconnectWatcher,
    ) -> None:
        self._engine = engine
        # As an environment variable may hold bytes that are no text.
        self._token = None if token is None else token.encode("utf-8", "surrogateescape")
        self._hosts = hosts
        self._watch = watch
        rules = [
            Rule(d.path, methods=["POST"], endpoint=functools.partial(self._chat, d))
            for d in DIALECTS
        ]
        for c in MODEL_LISTS:
            listed = functools.partial(self._models, c)
            rules.append(Rule(c.path, methods=["GET"], endpoint=listed))
            rules.append(Rule(f"{c.path}/<path:name>", methods=["GET"], endpoint=listed))
        rules.append(Rule("/", methods=["GET"], endpoint=self._page))
        self._routes = Map(rules, strict_slashes=False, merge_slashes=False).bind("gateway")

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request; every failure becomes an error of its protocol, with its status."""
        request = Request(environ)
        request.max_content_length = MAX_BODY_BYTES
        key = uuid.uuid4().hex
        try:
            response = self._respond(request, key)
        except HTTPException as error:
            response = _refusal(_of_http(error), request.path)
            response.headers.update(
                [h for h in error.get_headers() if h[0].lower() != "content-type"]
            )
        except Exception as error:  # noqa: BLE001 - a client never sees a traceback
            response = _refusal(_of_failure(error), request.path)
        for name in ("x-request-id", "request-id"):  # OpenAI's and Anthropic's word
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
                f"this gateway does not answer to the host name {name!r}; use 127.0.0.1",
                status=403,
                code="host_not_allowed",
            )

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")
        # Header bytes arrive as latin-1; this gives back what the client sent.
        sent = (given or "").encode("latin-1", "replace")
        if not hmac.compare_digest(sent, self._token):
            raise RequestError(
                "a token is wanted, as Authorization: Bearer or as x-api-key",
                status=401,
                code="invalid_api_key",
            )

    def _page(self, request: Request, key: str) -> Response:
        posts = "".join(f"  POST {dialect.path}\n" for dialect in DIALECTS)
        gets = "".join(f"  GET  {catalogue.path}\n" for catalogue in MODEL_LISTS)
        return Response(
            f"providers_sync gateway, answering with {self._engine.models[0]}\n\n{posts}{gets}",
            content_type="text/plain; charset=utf-8",
        )

    def _models(
        self, catalogue: ModelList, request: Request, key: str, name: str | None = None
    ) -> Response:
        models = self._engine.models
        if name is None:
            return _json_response(catalogue.many([catalogue.one(each) for each in models]))
        if name not in models:
            raise RequestError(
                f"there is no model {name!r}; there are {', '.join(models)}",
                status=404,
                code="model_not_found",
            )
        return _json_response(catalogue.one(name))

    def _chat(self, dialect: Dialect, request: Request, key: str) -> Response:
        if request.mimetype != "application/json":
            # A web page may post a form or plain text to any address; JSON it may not.
            raise RequestError(
                "the Content-Type must be application/json", status=415, code="not_json"
            )
        asked = dialect.read(_parse(request.get_data()))
        models = self._engine.models
        model = asked.model if asked.model in models else models[0]
        about = AnswerInfo(key, int(time.time()), str(model), asked.include_usage)
        writer = dialect.writer(about)
        gone = request.environ.get("waitress.client_disconnected", _never)
        answer = EngineAnswer(self._engine, asked, self._watch, gone)
        try:
            if asked.stream:
                response = _streamed(answer, writer)
            else:
                whole = writer.whole(list(answer), answer.ending)
                response = Response(whole, content_type="application/json")
        except BaseException:
            answer.close()
            raise
        response.call_on_close(answer.close)
        return response


def _streamed(answer: EngineAnswer, writer: Writer) -> Response:
    """Return the response once the first piece is here: until then a status can tell a failure."""
    first = next(answer, None)
    return Response(_body(first, answer, writer), content_type=writer.content_type)


def _body(first: Piece | None, answer: EngineAnswer, writer: Writer) -> Iterator[bytes]:
    try:
        yield writer.start(answer.usage) + (writer.piece(first) if first else b"")
        for piece in answer:
            yield writer.piece(piece)
        yield writer.end(answer.ending)
    except AbortConnection:
        raise
    except Exception as error:
        event = writer.error(_of_failure(error))
        if event is None:
            # No last chunk: the framing shows the cut.
            raise AbortConnection("the answer broke off") from error
        yield event


def _never() -> bool:
    return False


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


def _of_http(error: HTTPException) -> RequestError:
    message = error.description or error.name
    if error.code == 404:
        message = "nothing is served here; GET / lists what is"
    code = error.name.lower().replace(" ", "_")
    return RequestError(message, status=error.code or 500, code=code)


def _of_failure(error: Exception) -> RequestError:
    """Return what the client is told; what is not the client's fault goes to the log."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InvalidRequestError):
        return RequestError(str(error))
    if isinstance(error, AbortConnection):
        return RequestError(str(error), status=499)
    if isinstance(error, APIStatusError) and error.status_code in PASSED_ON:
        return RequestError(str(error), status=error.status_code)
    if isinstance(error, RecursionError):
        return RequestError("the request is nested too deeply")
    trace = "".join(traceback.format_exception(error))
    log.error("the engine failed\n%s", visible(trace))  # it may quote a server, on a terminal
    known = isinstance(error, ProviderError)
    message = str(error) if known else "the engine failed; the gateway's log says why"
    return RequestError(message, status=500, code="engine_failed")


def _refusal(error: RequestError, path: str) -> Response:
    body = error_body(error, path)
    response = Response(body, status=error.status, content_type="application/json")
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json_response(value: Any) -> Response:
    return Response(json.dumps(value), content_type="application/json")
