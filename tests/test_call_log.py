"""The logger ``providers_sync``: what it says, what it never says, and that it disturbs no call."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tenacity
from faults.phases import wait_until

from providers_sync import (
    AI365VIP,
    CancelToken,
    Failover,
    OpenAICompatible,
    Provider,
    ProviderError,
    RateLimitError,
    batch,
    call_log,
)
from providers_sync.stream import channel_of
from providers_sync.testing import (
    Request,
    answer,
    cut,
    error,
    pause,
    serve,
    stall,
    status,
    text,
    usage,
    wait,
)

KEY = "sk-0123456789abcdef"
PROMPT = "my secret prompt"
GOOD = answer("Hel", "lo")
AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
LOGGER = logging.getLogger("providers_sync")


def openai(url: str, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=url, **{"retry": AT_ONCE, **settings})


@pytest.fixture
def add_handler() -> Iterator[Callable[[logging.Handler], None]]:
    """Add handlers to the logger, at DEBUG, for one test."""
    handlers: list[logging.Handler] = []

    def add(handler: logging.Handler) -> None:
        handlers.append(handler)
        LOGGER.addHandler(handler)

    LOGGER.setLevel(logging.DEBUG)
    yield add
    LOGGER.setLevel(logging.NOTSET)
    for handler in handlers:
        LOGGER.removeHandler(handler)


class Calls(logging.Handler):
    """A handler that calls a function, without a lock of its own."""

    def __init__(self, function: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._function = function

    def handle(self, record: logging.LogRecord) -> bool:
        self._function(record)
        return True


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Return what our logger said at this level."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "providers_sync" and record.levelno == level
    ]


# --- what is logged


def test_each_retry_is_logged_with_its_reason_and_wait(caplog: pytest.LogCaptureFixture) -> None:
    """One INFO record a retry."""
    caplog.set_level(logging.INFO)
    script = [status(503, headers={"Retry-After": "0.01"}), answer(error("No", "api_error")), GOOD]
    with serve(script) as server:
        assert openai(server.url).complete(PROMPT).text == "Hello"
        name = f"POST {server.url}/chat/completions for OpenAICompatible m"
    assert messages(caplog, logging.INFO) == [
        f"retrying {name} in 0.01 s after attempt 1: APIStatusError, status 503",
        f"retrying {name} in 0.00 s after attempt 2: ServerError, type api_error",
    ]
    assert messages(caplog, logging.DEBUG) == []


def test_each_failover_is_logged_with_both_providers(caplog: pytest.LogCaptureFixture) -> None:
    """Which one failed, why, and which one is next; nothing if there is none."""
    caplog.set_level(logging.INFO)
    with serve(status(429)) as bad, serve(GOOD) as good:
        providers = [OpenAICompatible("m", base_url=bad.url), AI365VIP(base_url=good.url)]
        assert Failover(providers).complete(PROMPT).text == "Hello"
        with pytest.raises(ProviderError):
            Failover(providers[:1]).complete(PROMPT)
        hosts = [server.url.partition("//")[2] for server in (bad, good)]
    [message] = messages(caplog, logging.INFO)
    assert re.sub(r"\d\.\d\d s", "T", message) == (
        f"OpenAICompatible m at {hosts[0]} failed after T: RateLimitError, status 429; "
        f"trying AI365VIP at {hosts[1]}"
    )


def test_each_retry_of_a_batch_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With the number of its row."""
    caplog.set_level(logging.INFO)
    with serve([status(503), GOOD]) as server:
        [_] = batch.map(openai(server.url), [PROMPT])
        host = server.url.partition("//")[2]
    [message] = messages(caplog, logging.INFO)
    assert message == (
        f"retrying row 1 with OpenAICompatible m at {host} in 0.00 s after attempt 1: "
        "APIStatusError, status 503"
    )


def test_requests_and_outcomes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG: each request before it is sent, and the outcome of the call."""
    caplog.set_level(logging.DEBUG)
    good = answer("Hel", "lo", usage(7, 5), headers={"x-request-id": "req_1"})
    with serve([status(503), good]) as server:
        assert openai(server.url).complete(PROMPT).text == "Hello"
        name = f"POST {server.url}/chat/completions for OpenAICompatible m"
    logged = [re.sub(r"\d\.\d{3} s", "T", each) for each in messages(caplog, logging.DEBUG)]
    assert logged == [
        f"sending {name}, attempt 1",
        f"sending {name}, attempt 2",
        f"{name}: outcome complete, status 200, T, chunks 2, attempts 2, tokens 7 in, 5 out, "
        "request id req_1, error -",
    ]


def test_outcome_is_logged_before_the_caller_has_the_end(
    add_handler: Callable[[logging.Handler], None],
) -> None:
    """A script that ends with its answer has the line, although another thread writes it."""
    go, ended = threading.Event(), []

    def note(record: logging.LogRecord) -> None:
        if vars(record)["providers_sync"]["event"] == "outcome":
            ended.append(channel_of(stream).ended)

    add_handler(Calls(note))
    with serve(answer("Hel", wait(go), "lo")) as server, openai(server.url) as provider:
        stream = provider.stream("Hi")
        go.set()
        assert stream.read() == "Hello"
        assert ended == [False]


def test_records_have_their_facts_as_fields(caplog: pytest.LogCaptureFixture) -> None:
    """For handlers that write JSON: what is in the line, and what is not known as ``None``."""
    caplog.set_level(logging.DEBUG, "providers_sync")
    with serve([status(503), answer("Hel", cut())]) as server, pytest.raises(ProviderError):
        openai(server.url).complete(PROMPT)
    _, retry, _, outcome = (vars(each)["providers_sync"] for each in caplog.records)
    request = f"POST {server.url}/chat/completions"
    common = {"request": request, "provider": "OpenAICompatible m"}
    failed = {"attempt": 1, "error": "APIStatusError, status 503"}
    assert {**retry, "delay": 0} == {"event": "retry", "delay": 0, **common, **failed}
    assert outcome.pop("seconds") > 0
    counts = {"chunks": 1, "attempts": 2, "input_tokens": None, "output_tokens": None}
    end = {"outcome": "cut", "status": 200, "request_id": None, "error": "StreamCut"}
    assert outcome == {"event": "outcome", **common, **counts, **end}


def test_request_id_that_is_none_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A server may send a prompt in its place, or the key."""
    caplog.set_level(logging.DEBUG, "providers_sync")
    for sent, settings in (
        (PROMPT, {}),
        (KEY, {"api_key": KEY}),
        (KEY, {"query": {"key": KEY}}),
        ("x" * 1000, {}),
    ):
        with serve(answer("Hi", headers={"x-request-id": sent})) as server:
            openai(server.url, **settings).complete(PROMPT)
        assert sent not in caplog.text


def cancelled(provider: Provider) -> None:
    stream = provider.stream("Hi")
    next(stream)
    stream.cancel()


def closed(provider: Provider) -> None:
    stream = provider.stream("Hi")
    next(stream)
    stream.close()


def completed(provider: Provider) -> None:
    provider.complete("Hi")


ENDS: dict[str, tuple[Any, Callable[[Provider], None], str]] = {
    "complete": (GOOD, completed, "complete, status 200"),
    "bad status": (status(404), completed, "failed, status 404"),
    "cut": (answer("Hel", end=False), completed, "truncated, status 200"),
    "deadline": (answer("Hel", stall()), completed, "deadline, status 200"),
    "cancelled": (answer("Hel", stall()), cancelled, "cancelled, status 200"),
    "closed": (answer("Hel", stall()), closed, "cancelled, status 200"),
    "deadline before the headers": (answer(before=[pause(5)]), completed, "deadline, status -"),
}


@pytest.mark.parametrize("end", ENDS)
def test_outcome_is_the_one_that_the_caller_sees(
    end: str, add_handler: Callable[[logging.Handler], None]
) -> None:
    """Whoever ends the call."""
    script, call, expected = ENDS[end]
    outcomes: list[str] = []
    logged = threading.Event()

    def note(record: logging.LogRecord) -> None:
        if "outcome" in record.getMessage():
            outcomes.append(record.getMessage())
            logged.set()

    add_handler(Calls(note))
    with serve(script) as server:
        with contextlib.suppress(ProviderError):
            call(openai(server.url, timeouts=0.3))
        assert logged.wait(5)
    assert len(outcomes) == 1
    assert f"outcome {expected}" in outcomes[0]


# --- what is never logged


def test_neither_key_nor_prompt_nor_query_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Not even if a server quotes them, or the key is a part of the address."""
    caplog.set_level(logging.DEBUG, "providers_sync")
    quoted = f"{PROMPT} with {KEY} at https://x.example/?q={KEY}"
    script = [
        status(503, quoted, type=KEY, error_code=KEY),
        answer(error(quoted, f"server_error {PROMPT}", code=KEY)),
        answer(error(quoted, "server_error")),
    ]
    with serve(script) as server:
        provider = OpenAICompatible(
            "m",
            base_url=f"{server.url}/{KEY}",
            api_key=KEY,
            headers={"X-Token": "t0ken-0123456789"},
            query={"api-version": "preview-7", "key": KEY},
            retry=AT_ONCE,
        )
        with pytest.raises(ProviderError):
            provider.complete(PROMPT)
        with pytest.raises(ProviderError):
            Failover([provider, provider]).complete(PROMPT)
    logged = [record for record in caplog.records if record.name == "providers_sync"]
    assert len(logged) > 8
    for record in logged:
        shown = f"{record.getMessage()} {record.args!r}"
        for secret in (KEY, PROMPT, "secret", "t0ken", "api-version", "preview-7", "?"):
            assert secret not in shown


def test_reason_names_an_error_without_its_text() -> None:
    """The class, the status, the timeout and the type; a type that is a sentence is left out."""
    failed = RateLimitError(PROMPT, status_code=429)
    assert call_log.reason(failed) == "RateLimitError, status 429"
    for url in ("http://u:p@h/v1?k=1", "http://u:p@h/v1#k", "http://h/v1"):
        assert call_log.without_query(url) == "http://h/v1"


# --- a handler disturbs nothing


def test_handler_or_filter_that_raises_does_not_end_a_call(
    add_handler: Callable[[logging.Handler], None],
) -> None:
    """Its fault is no reason to lose an answer."""
    called = []

    def fail(record: logging.LogRecord) -> bool:
        called.append(record)
        raise ValueError("no")

    add_handler(Calls(fail))  # type: ignore[arg-type]
    with serve([status(503), GOOD, status(503), GOOD]) as server:
        assert openai(server.url).complete("Hi").text == "Hello"
        LOGGER.addFilter(fail)
        try:
            assert openai(server.url).complete("Hi").text == "Hello"
            wait_until(lambda: len(called) == 8)  # the last is written after the end
        finally:
            LOGGER.removeFilter(fail)


def test_handler_may_cancel_the_call_from_another_thread(
    add_handler: Callable[[logging.Handler], None],
) -> None:
    """No lock of the call is held while a record is handled."""
    token, joined, handled = CancelToken(), [], threading.Event()

    def cancel(record: logging.LogRecord) -> None:
        thread = threading.Thread(target=token.cancel)
        thread.start()
        thread.join(5)
        joined.append(not thread.is_alive())
        handled.set()

    add_handler(Calls(cancel))
    with serve([status(503), GOOD]) as server, pytest.raises(ProviderError):
        openai(server.url).complete("Hi", cancel=token)
    assert handled.wait(5)  # the call ends before the handler does
    assert all(joined)


def test_handler_of_a_batch_may_wait_for_another_row(
    add_handler: Callable[[logging.Handler], None],
) -> None:
    """No lock of the batch is held while a retry is logged: other rows start."""
    failed, second_row, seen = threading.Event(), threading.Event(), []

    def wait(record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            failed.set()
            seen.append(second_row.wait(5))

    def inputs() -> Iterator[str]:
        yield "first"
        assert failed.wait(5)
        yield "second"

    def script(request: Request) -> Any:
        if request.number == 1:
            return status(503)
        if "second" in str(request.json()):
            second_row.set()
        return GOOD

    add_handler(Calls(wait))
    with serve(script) as server:
        assert len(list(batch.map(openai(server.url), inputs(), concurrency=2))) == 2
    assert seen == [True]


def test_handler_with_the_usual_lock_may_call_us(
    add_handler: Callable[[logging.Handler], None],
) -> None:
    """The worker thread of its call does not log, or it would wait for the handler's lock."""
    texts = []
    with serve([GOOD]) as server:

        class Asks(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                texts.append(openai(server.url).complete("Hi", timeouts=5).text)

        add_handler(Asks())
        assert openai(server.url).complete("Hi", timeouts=5).text == "Hello"
    assert set(texts) == {"Hello"}


def test_call_of_a_handler_is_not_logged(add_handler: Callable[[logging.Handler], None]) -> None:
    """Or its records would call the handler for ever, in whichever thread the call runs."""
    depth = []

    def write(error: str) -> None:
        call_log.write("not_recorded", error=error)

    def call(record: logging.LogRecord) -> None:
        depth.append(record)
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(write, "again"))
        thread.start()
        thread.join()

    add_handler(Calls(call))
    write("once")
    write("twice")
    assert [vars(record)["providers_sync"]["error"] for record in depth] == ["once", "twice"]


def test_nothing_is_wrapped_while_nobody_listens() -> None:
    """An answer costs the same as without logging."""
    with serve(answer(*map(text, "abc"))) as server:
        prepared = openai(server.url).prepare("Hi")
        stream = prepared.open()
        assert prepared.source(stream._channel).__qualname__ == "AttemptLoop._attempts"
        stream.read()
