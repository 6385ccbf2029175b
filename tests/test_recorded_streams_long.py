"""The streams of ``test_recorded_streams.py``, cut after every byte and damaged in every place."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from decode_kit import decode
from naive_reader import DONE, read
from test_recorded_streams import (
    DECODERS,
    STREAMS,
    decoded,
    end,
    protocol_of,
    summary,
    texts,
    values_of,
)

from providers_sync.errors import (
    InvalidRequestError,
    ProviderError,
    ServerError,
    StreamCut,
    StreamError,
    StreamTruncated,
)
from providers_sync.providers import get_provider
from providers_sync.testing import answer, raw, serve

NEWER = [name for name in STREAMS if protocol_of(name) in ("responses", "gemini", "ollama")]
STEP = 7
"""Long streams are cut after every seventh byte, from a start that differs."""
EVERY_BYTE = 2500
ODD: list[Any] = [
    *(None, 0, -1, 1.5, True, "", "x", "\ud83d", 2**70, [], {}, [[]], [None], ["x"], [0]),
    *([{}], {"a": {}}, {"type": 5}, [{"type": None}], {"text": 5}, {"message": "m"}),
]
"""What servers put where something else belongs."""
ROUNDS = 150


@pytest.mark.parametrize("name", NEWER)
def test_stream_without_its_rest_says_what_came(name: str) -> None:
    """Wherever it is cut; it is complete only with its end marker."""
    protocol, body = protocol_of(name), STREAMS[name]
    values = values_of(protocol, body)
    is_short = len(body) <= EVERY_BYTE
    for cut_at in range(0 if is_short else len(name) % STEP, len(body), 1 if is_short else STEP):
        plain = read(protocol, [event for event_end, event in values if event_end <= cut_at])
        deltas, error = decoded(protocol, [body[:cut_at]])
        saw = summary(deltas)
        assert texts(saw) == texts(plain), cut_at
        assert (error is None) == plain.is_complete, cut_at
        assert error is not None or end(saw) == end(plain), cut_at
        tells_an_error = plain.error or b"event: error" in body[:cut_at]
        assert tells_an_error or isinstance(error, (StreamTruncated, StreamCut, type(None))), cut_at


@pytest.mark.parametrize("name", [name for name in STREAMS if "error" not in name])
def test_message_of_every_stream_can_be_sent_to_every_protocol(name: str) -> None:
    """To its own with all that it wants back, to others without; it is JSON.

    Protocols that name the call of a result take no call without an id.
    """
    protocol = protocol_of(name)
    script = answer(raw(STREAMS[name]), end=False, framing="close", protocol=protocol)
    with serve(script) as server:
        provider = get_provider(protocol, "m", base_url=server.url, api_key="k", retry=None)
        try:
            completion = provider.complete("Hi")
        except (StreamTruncated, ServerError):
            return
    message = json.loads(json.dumps(completion.message))
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "2"} for call in completion.tool_calls
    ]
    messages = [{"role": "user", "content": "Hi"}, message, *results]
    messages += [] if results else [{"role": "user", "content": "Go on"}]
    has_ids = all(call.id for call in completion.tool_calls)
    for other in DECODERS:
        with serve("ok") as server:
            other_provider = get_provider(other, "m", base_url=server.url, api_key="k")
            if not has_ids and other in ("anthropic", "responses"):
                with pytest.raises(InvalidRequestError, match="must be the id of"):
                    other_provider.complete(messages)
                continue
            assert other_provider.complete(messages).text == "ok"
            sent = json.dumps(server.requests[0].json(), ensure_ascii=False)
        assert json.dumps(completion.text, ensure_ascii=False)[1:-1] in sent
        assert "providers_sync" not in sent
        assert all(call.name in sent for call in completion.tool_calls)


def places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every object or list within a value, with each of its keys or indexes."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)) and value[key]:
            yield from places_of(value[key])


def damaged(events: list[Any], chance: random.Random) -> list[Any]:
    """Return the events with another value in one or two places, or one of them lost or twice."""
    events = json.loads(json.dumps(events))
    how = chance.random()
    if how < 0.15:
        del events[chance.randrange(len(events))]
    elif how < 0.3:
        event = copy.deepcopy(chance.choice(events))
        events.insert(chance.randrange(len(events) + 1), event)
    else:
        for _ in range(chance.choice([1, 1, 2])):
            where, key = chance.choice(list(places_of(events)))
            if isinstance(where, dict) and chance.random() < 0.2:
                del where[key]
            else:
                where[key] = copy.deepcopy(chance.choice(ODD))
    return events


@pytest.mark.parametrize("name", STREAMS)
def test_damaged_stream_is_read_or_refused(name: str) -> None:
    """With an error of this package; what is read can be printed, and calls have names."""
    protocol, chance = protocol_of(name), random.Random(name)
    events = [event for _, event in values_of(protocol, STREAMS[name]) if event != DONE]
    content_type = "application/x-ndjson" if protocol == "ollama" else "text/event-stream"
    for _ in range(ROUNDS):
        values = damaged(events, chance)
        form = "%s\n" if protocol == "ollama" else "data: %s\n\n"
        body = "".join(form % json.dumps(value) for value in values).encode()
        deltas: list[Any] = []
        try:
            deltas += decode(DECODERS[protocol](content_type), [body])
        except StreamError:
            continue
        except ProviderError as error:  # pragma: no cover
            pytest.fail(f"{error!r} is no StreamError: {values}")
        saw = summary(deltas)
        for said in texts(saw):
            assert said.encode() is not None
        assert all(call_name for _, call_name, _ in saw.calls), values
