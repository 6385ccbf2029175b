"""Run prompts through a provider with a ledger; a second run sends only new prompts."""

import tempfile
from pathlib import Path

from providers_sync import OpenAICompatible, batch
from providers_sync.gateway import serve

prompts = ["Why is the sky blue?", "Why is the sea salty?", "Why do cats purr?"]


def run(provider, prompts, ledger):
    """Print the answers; return how many prompts were sent and how many answers were recorded."""
    sent = recorded = 0
    for result in batch.map(provider, prompts, concurrency=2, ledger=ledger, ordered=True):
        print(f"{result.custom_id} {result.outcome}: {result.error or result.text}")
        sent += not result.recorded
        recorded += result.recorded
    return f"{sent} sent, {recorded} from the ledger."


with serve(engine="echo") as gateway, tempfile.TemporaryDirectory() as folder:
    provider = OpenAICompatible("echo", base_url=gateway.url("openai"))
    ledger = Path(folder) / "answers.jsonl"
    first = run(provider, prompts, ledger)
    second = run(provider, [*prompts, "And dogs?"], ledger)
    print(f"First run: {first}\nSecond run: {second}")
