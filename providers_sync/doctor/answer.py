"""The check that sends a question: whether an answer comes, and comes as a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..clock import monotonic
from ..config import Timeouts
from ..errors import APIStatusError, APITimeoutError, ProviderError
from ..providers import OpenAICompatible, Provider
from ..types import Extra, Finish, Usage
from .base_urls import find_base_url
from .buffering import detect_buffering, is_sudden
from .causes import clean, explain_error
from .examination import Examination
from .finding import Finding, note, ok, wrong
from .model_list import corrected

QUESTION = "Write the numbers from 1 to 20 in digits, separated by spaces, and nothing else."
ANSWER_TOKENS = 20
"""The limit of the answer: enough chunks to judge the stream. The Responses API takes no less
than 16."""
ENOUGH_CHUNKS = 25
"""The answer is closed after so many: the server ignores the limit of tokens."""
READ_S = 3.0
"""The answer is closed so long after its first chunk."""
SILENCE_S = 4.0
"""Without a byte in the middle of an answer, not even a ping: the stream has stalled."""
SHORTEST_S = 0.5
"""A question with less time left is not sent."""
_LIMIT_NAMES = re.compile(r"max_(completion_|output_)?tokens|maxOutputTokens|num_predict")
_USED_UP = re.compile(r"output limit was reached")
"""OpenAI's 400 for a reasoning model that has used the limit before its first word."""
_SLOW_ADVICE = "a model that is being loaded, or thinks first, takes longer: try again in a minute"


@dataclass
class Arrivals:
    """What has arrived of the answer, and when."""

    started: float
    times: list[float] = field(default_factory=list)
    """When each chunk arrived."""
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    summary: str = ""
    finish_reason: str | None = None


def check_answer(examination: Examination) -> Iterator[Finding]:
    """Send a short question; report whether it is answered, and the chunks' arrival times."""
    if examination.time_left() < SHORTEST_S:
        yield note("answer", "no question was sent: the checks before it took too long")
        return
    arrivals = Arrivals(monotonic())
    try:
        yield from _ask_models(examination, arrivals)
    except ProviderError as error:
        yield _explain_failure(error, arrivals, examination)
    else:
        yield _describe_answer(arrivals)
        yield _describe_stream(arrivals, examination)


def _ask_models(examination: Examination, arrivals: Arrivals) -> Iterator[Finding]:
    """Ask the model; if it was not given and is rejected, report that and ask the next ones."""
    while True:
        try:
            return _ask(examination, arrivals)
        except APIStatusError as error:
            if error.status_code not in (400, 404, 422) or not examination.other_models:
                raise
            text = f"{examination.model}: {clean(str(error), examination)}"
            examination.model = examination.other_models.pop(0)
            yield note("model", text, f"trying {examination.model} instead")


def _ask(examination: Examination, arrivals: Arrivals) -> None:
    """Ask with a limit of tokens, by the names that servers know it by, or else without one.

    Mistral and others know ``max_tokens`` only; OpenAI's reasoning models reject that name with
    status 400, which tells the new one.
    """
    *limits, last = _limits(examination.provider)
    for limit in limits:
        try:
            return _read(examination, arrivals, limit)
        except APIStatusError as error:
            is_named = error.status_code in (400, 422) and _LIMIT_NAMES.search(error.body)
            if not is_named or _USED_UP.search(error.body):
                raise
    return _read(examination, arrivals, last)


def _limits(provider: Provider) -> list[dict[str, Any]]:
    names = ["max_tokens"]
    if isinstance(provider, OpenAICompatible):
        names.append("max_completion_tokens")
    return [*({name: ANSWER_TOKENS} for name in names), {}]


def _read(examination: Examination, arrivals: Arrivals, limit: dict[str, Any]) -> None:
    left = examination.time_left()
    # Connecting, TLS included, ends first, so that the error tells which of them took the time.
    timeouts = Timeouts(connect=0.9 * left, first_token=left, idle=SILENCE_S, total=left)
    arrivals.started = monotonic()
    with examination.provider.stream(
        QUESTION, examination.model, timeouts=timeouts, retry=1, **limit
    ) as stream:
        arrivals.headers = stream.headers
        for event in stream.events():
            if isinstance(event, (Finish, Usage, Extra)):
                continue
            arrivals.times.append(monotonic())
            if (
                len(arrivals.times) >= ENOUGH_CHUNKS
                or arrivals.times[-1] - arrivals.times[0] > READ_S
            ):
                arrivals.summary = "it streams"
                break
        arrivals.text, arrivals.finish_reason = stream.text, stream.finish_reason
        arrivals.summary = arrivals.summary or str(stream.outcome)


def _describe_answer(arrivals: Arrivals) -> Finding:
    if not arrivals.times:
        reason = f" (finish reason: {arrivals.finish_reason})" if arrivals.finish_reason else ""
        return note(
            "answer",
            f"{arrivals.summary}, but empty{reason}",
            f"a model may need more than the {ANSWER_TOKENS} tokens that this question allows",
        )
    return ok("answer", f"{arrivals.summary}: {len(arrivals.text)} characters")


def _describe_stream(arrivals: Arrivals, examination: Examination) -> Finding:
    kind = {name.lower(): value for name, value in arrivals.headers.items()}.get("content-type", "")
    if kind.partition(";")[0].strip() == "application/json" and is_sudden(arrivals.times):
        return note(
            "stream",
            "the server sent the complete answer as one JSON document",
            "it works, but does not stream: check the server's settings, or use another server",
        )
    network_s = 4 * examination.connect_s  # round trips of a new connection: TCP, TLS, request
    return detect_buffering(
        arrivals.started, arrivals.times, arrivals.headers, len(arrivals.text), network_s
    )


def _explain_failure(error: ProviderError, arrivals: Arrivals, examination: Examination) -> Finding:
    if isinstance(error, APITimeoutError):
        return _explain_timeout(error, arrivals, examination)
    if isinstance(error, APIStatusError) and _USED_UP.search(error.body):
        return note("answer", f"the model used its {ANSWER_TOKENS} tokens before the first word")
    if arrivals.times:
        finding = explain_error(error, examination)
        text = f"after {len(arrivals.times)} chunks: {finding.text}"
        return Finding(finding.about, text, finding.advice, finding.level)
    if found := find_base_url(examination, error):
        return corrected(found, examination)
    return explain_error(error, examination)


def _explain_timeout(
    error: APITimeoutError, arrivals: Arrivals, examination: Examination
) -> Finding:
    seconds = f"{monotonic() - arrivals.started:.1f} s"
    chunks = len(arrivals.times)
    if error.clock == "idle":
        text = f"it stalls after {chunks} chunks: no data for {SILENCE_S:g} s"
        return wrong("stream", text, "check for a proxy with a time limit, and the server's log")
    if chunks:
        text = f"it streams, but slowly: {chunks} chunks, and not finished after {seconds}"
        return note("answer", text, "give your calls enough time (timeouts=), or use another model")
    if error.clock == "connect":
        return explain_error(error, examination)
    if examination.has_responded or arrivals.headers:
        return note(
            "answer",
            f"the server is running, but has not answered within {seconds}",
            _SLOW_ADVICE,
        )
    return wrong(
        "server",
        f"it accepts connections, but answered neither a GET nor the question within {seconds}",
        "check that it is the API's port, and whether the server is overloaded or stuck",
    )
