"""Ask before each call, pause, and go on later from what was saved; a journal repeats no call."""

import json
import tempfile
from pathlib import Path

from providers_sync import OpenAICompatible, Pause
from providers_sync.testing import serve, text, tool_call


def pay(to: str, euros: int) -> str:
    """Pay money."""
    print(f"(paying {to} {euros} €)")
    return "paid"


def ask_first(call):
    print(f"{call.name} {call.arguments}? Not now.")
    return Pause


model = [
    [tool_call("pay", {"to": "Ann", "euros": 20})],
    [text("Ann has got her 20 €.")],
]
with serve(model) as server, tempfile.TemporaryDirectory() as folder:
    provider = OpenAICompatible("scripted", base_url=server.url)
    journal = Path(folder, "payments.jsonl")
    run = provider.run("Pay Ann 20 €", tools=[pay], approve=ask_first, journal=journal)
    print(run.read(), run.outcome)
    saved = json.dumps(run.messages)  # to a file, or a database: another process may go on
    run = provider.run(json.loads(saved), tools=[pay], approve=lambda call: True, journal=journal)
    print(run.read())
    print(*journal.read_text(encoding="ascii").splitlines(), sep="\n")
    provider.close()
