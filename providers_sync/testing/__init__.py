"""Scripted servers and providers for testing programs that read streamed answers.

A script lists what to send and how to fail::

    from providers_sync import OpenAICompatible, StreamCut
    from providers_sync.testing import cut, serve, text

    def test_cut_answer_keeps_its_text():
        with serve([text("Hel"), text("lo"), cut()]) as server:
            stream = OpenAICompatible("m", base_url=server.url, retry=1).stream("Hi")
            with pytest.raises(StreamCut) as caught:
                stream.read()
        assert caught.value.partial == "Hello"
        assert len(server.requests) == 1

The steps of one answer: what is sent (``text``, ``reasoning``, ``refusal``, ``tool_call``,
``event``, ``error``, ``garbage``, ``comment``, ``ping``, ``usage``, ``finish``, ``done``, ``raw``,
``wire``), how (``part``, ``drip``, ``repeat``), when (``pause``, ``wait``, ``signal``), and how it
breaks off (``cut``, ``reset``, ``stall``). ``answer`` adds status, headers and framing to them;
``status``, ``redirect``, ``html``, ``json_body``, ``whole`` and ``empty`` are ready-made answers,
and ``recorded_answer`` is one that ``providers_sync.recording`` stored. ``FAULTS`` holds canned
scripts by name.

A few recipes::

    serve(["Hel", reset()])                            # a reset after some text
    serve(["Hel", pause(1), "lo"])                     # slow; the proper ending is added
    serve(["Hel", part("lo"), cut()])                  # cut inside an event
    serve(answer("Hello", end=False))                  # a clean end without an end marker
    serve(answer("Hel", cut(), framing="length"))      # short of its Content-Length
    serve([status(503), answer("Hello")])              # 503 once, then a good answer
    serve(answer(before=[stall()]))                    # headers that never come
    serve(answer(connect=[stall()]), tls=context)      # a TLS handshake that never comes
    serve(lambda request: [request.json()["model"]])   # an answer that depends on the request
    serve(read_recordings("answers.jsonl"))            # what real servers have answered

``ScriptedProvider(script)`` plays the same scripts without a socket. The pytest fixtures
``scripted_provider``, ``fault_server`` and ``no_open_streams`` are available automatically.
"""

from ..stream import open_streams
from .answers import (
    Answer,
    Fault,
    Script,
    answer,
    empty,
    html,
    json_body,
    recorded_answer,
    redirect,
    status,
    whole,
)
from .base_encoders import ScriptError
from .faults import FAULTS
from .records import Connection, Headers, Request
from .scripted import Asked, ScriptedProvider
from .server import Server, serve
from .step_types import Step
from .steps import (
    comment,
    cut,
    done,
    drip,
    error,
    event,
    finish,
    garbage,
    part,
    pause,
    ping,
    raw,
    reasoning,
    refusal,
    repeat,
    reset,
    signal,
    stall,
    text,
    tool_call,
    usage,
    wait,
    wire,
)

__all__ = [
    "FAULTS",
    "Answer",
    "Asked",
    "Connection",
    "Fault",
    "Headers",
    "Request",
    "Script",
    "ScriptError",
    "ScriptedProvider",
    "Server",
    "Step",
    "answer",
    "comment",
    "cut",
    "done",
    "drip",
    "empty",
    "error",
    "event",
    "finish",
    "garbage",
    "html",
    "json_body",
    "open_streams",
    "part",
    "pause",
    "ping",
    "raw",
    "reasoning",
    "recorded_answer",
    "redirect",
    "refusal",
    "repeat",
    "reset",
    "serve",
    "signal",
    "stall",
    "status",
    "text",
    "tool_call",
    "usage",
    "wait",
    "whole",
    "wire",
]
