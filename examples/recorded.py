"""Ask once, then answer from a file: for notebooks that are run again, and for tests."""

import tempfile
from pathlib import Path

from providers_sync import OpenAICompatible
from providers_sync.recording import Recorded, read_recordings
from providers_sync.testing import serve

with tempfile.TemporaryDirectory() as folder, serve("Cats purr when they are content.") as server:
    path = Path(folder, "answers.jsonl")
    model = OpenAICompatible("qwen3", base_url=server.url)

    for run in ("First", "Second"):  # each with a new object, as in a new process
        before = len(server.requests)
        text = Recorded(model, path).complete("Why do cats purr?").text
        print(f"{run} run: {text} (requests sent: {len(server.requests) - before})")

    for exchange in read_recordings(path):
        print(f"In the file: status {exchange.status}, {len(exchange.body)} bytes, {exchange.how}")
