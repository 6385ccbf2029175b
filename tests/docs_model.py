"""The model that answers the questions of the documentation, and what its pages presuppose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from providers_sync import Finish, OpenAICompatible
from providers_sync.recording import Recorded
from providers_sync.testing import (
    Request,
    cut,
    finish,
    json_body,
    reasoning,
    serve,
    stall,
    text,
    tool_call,
)

CATS = "Cats purr when they are content."
SAYS: dict[str, list[list[Any]]] = {
    "Why do cats purr?": [["Cats purr ", "when they ", "are content."]],
    "Do I need an umbrella in Oslo?": [
        [tool_call("weather", {"city": "Oslo"})],
        [text("Yes, "), text("it rains in Oslo.")],
    ],
}
"""What the model says to a question, round by round."""
SAYS["Summarize this text:"] = [["Cats are ", "content."]]
SAYS["Delete the old report"] = [[tool_call("delete", {"name": "report.pdf"})], [text("Done.")]]
SAYS["And dogs?"] = [["They wag ", "their tails."]]
SAYS["Count forever"] = [["1 2 3 4 5 ", stall()]]
SAYS["Tell me a story"] = [["Once upon ", "a ", cut()]]
SAYS["What failed?"] = [["The variable x is not defined."]]
SAYS["What is in this picture?"] = [["A cat."]]
SAYS["Is 91 a prime?"] = [[reasoning("Let me see. 91 is"), finish("length")]]
SAYS["Invent a dog"] = [['{"name": "Rex", "age": 3}']]
SAYS["Invent a person"] = [['{"name": "Mara", "age": 41, "bio": "She repairs clocks."}']]
ENVIRONMENT = {
    **dict.fromkeys(
        (
            *("VITALENTUM_BASE_URL", "CODELINKAVA_BASE_URL", "AI365VIP_BASE_URL"),
            *("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GEMINI_BASE_URL", "OLLAMA_BASE_URL"),
        ),
        "URL",
    ),
    **dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "key"),
    "LLM_USER_PATH": ".",
    "LLM_LOAD_PLUGINS": "",
    "SECRET_KEY": "signs nothing here",
    "PROVIDERS_SYNC_PROVIDER": "openai",
    "PROVIDERS_SYNC_MODEL": "qwen3",
}
"""The environment of the reader; ``URL`` is the address of the server of the tests."""
PIXEL = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def model(request: Request) -> Any:
    """Answer the last known question of a request, or give the list of models."""
    if request.method == "GET":
        is_ollama = request.path == "/api/tags"
        models = {"name": "qwen3", "model": "qwen3"} if is_ollama else {"id": "qwen3"}
        return json_body({"models" if is_ollama else "data": [models]})
    body = json.dumps(request.json(), ensure_ascii=False)
    places = {body.rfind(json.dumps(question)[1:-1]): question for question in SAYS}
    last = max(places, default=-1)
    if last < 0:
        return ["Hello!"]
    rounds = SAYS[places[last]]
    results = body.count('"tool_call_id"', last)
    return rounds[min(results, len(rounds) - 1)]


class LocalEngine:
    """Takes the place of the local model, whose words differ between processors."""

    models = ("smollm2",)

    def answer(self, messages: Any, options: Any, cancel: Any) -> Iterator[Any]:
        """Yield the answer to the last question."""
        yield from SAYS.get(messages[-1]["content"], [["Hello!"]])[0]
        yield Finish("stop")

    def close(self) -> None:
        """Nothing to release."""


def _provider(url: str) -> dict[str, Any]:
    return {"provider": OpenAICompatible("qwen3", base_url=url)}


def _batch(url: str) -> dict[str, Any]:
    Path("prompts.txt").write_text("Why do cats purr?\n", encoding="utf-8")
    return {}


def _terminal(url: str) -> dict[str, Any]:
    Path("build.log").write_text("error: x is undefined\n", encoding="utf-8")
    Path("photo.jpg").write_bytes(PIXEL)
    return {}


def _testing(url: str) -> dict[str, Any]:
    with Recorded(OpenAICompatible("qwen3", base_url=url), "answers.jsonl") as provider:
        for question in ("Why do cats purr?", "Why do dogs bark?", "Hello"):
            provider.complete(question)
    return {}


def _security(url: str) -> dict[str, Any]:
    Path("key.txt").write_text("k", encoding="utf-8")
    return {}


def _web(url: str) -> dict[str, Any]:
    saved: list[Any] = []
    return {
        "book": lambda: "booked",
        "store": lambda *values: saved.append(values),
        "conversation": 1,
        "saved": saved,
    }


def _check_testing(names: dict[str, Any]) -> None:
    with serve() as server:
        names["test_recorded_answers"](server)


def _check_web(names: dict[str, Any]) -> None:
    client = names["app"].test_client()
    for path in ("/chat", "/stored-chat"):
        body = client.post(path, json="Why do cats purr?").get_data(as_text=True)
        assert '"outcome":"complete"' in body
    assert names["saved"][0][1][-1]["content"] == CATS
    assert client.post("/chat", json={"role": "system"}).status_code == 400


GIVEN: dict[str, Callable[[str], dict[str, Any]]] = {
    "batch.md": _batch,
    "scripts.md": _terminal,
    "security.md": _security,
    "terminal.md": _terminal,
    "testing.md": _testing,
    "web.md": _web,
}
"""Names and files that a page presupposes."""
CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "testing.md": _check_testing,
    "web.md": _check_web,
}
"""What must hold after the blocks of a page have run."""
