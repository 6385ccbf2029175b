"""Generates docs/faults.md from the fault table.

PYTHONPATH=tests:. python -m faults.page
"""

from __future__ import annotations

from pathlib import Path

from .phases import PHASES
from .row import (
    ALL,
    ANTHROPIC,
    ATTEMPTS,
    EVENTS,
    GEMINI,
    MARGIN_S,
    OLLAMA,
    OPENAI,
    PLAIN,
    RESPONSES,
    Row,
)
from .table import ROWS, TABLE

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

HEAD = """# What happens when things go wrong

The tests produce each of the {rows} faults below with a real server on a raw socket and check what
the caller gets. `PYTHONPATH=tests:. python -m faults.page` generates this page from the table of
the tests, and a test fails if the two differ.

The columns:

- **raised** is the exact class; – means that the answer can be read to its end. If it is *in
  italics*, `stream()` itself raises it; otherwise `stream()` returns and `next()` raises it. The
  timeout that expires is in parentheses.
- **outcome** is `.outcome` of the stream and of the error.
- **text** is `.partial` of the error and `.text` of the stream: every character that arrived.
- **requests** is the number of requests that the server receives, with at most {attempts} attempts.
- **for** lists the protocols: *OpenAI* is the event stream of OpenAI, Vitalentum and CodeLinkAva,
  which ends with `[DONE]` or a finish reason; *Anthropic* is Anthropic's, which ends with
  `message_stop` or a stop reason; *Responses* is OpenAI's Responses API, which ends only with
  `response.completed` or `response.incomplete`; *Gemini* is Gemini's, which ends only with a finish
  reason; *Ollama* is Ollama's lines of JSON, which end only with `"done": true`; *events* are all
  of these. *plain* is AI365VIP's plain text, which has no end marker. *TLS* means that the fault
  is tested over TLS as well.

Every call ends within {margin} s after the named timeout expires or, where none is named, after
the last byte. No thread and no socket is left behind.
"""

CLIENT_SIDE = """
## On the client side

- **Cancellation**: `cancel()` and a `CancelToken`, from another thread, from a signal handler, from
  a finalizer in another thread and from one in the waiting thread, and Ctrl-C. The call ends
  within 50 ms (median of 20), 250 ms at worst. All of this is tested while the call is
{phases}.
- **At any moment of a fast stream**, Ctrl-C and a signal handler that cancels lose no text and
  leave no thread behind.
- **A slow caller** slows a fast server down; memory use stays constant however long it pauses.
- **A caller that stops reading** (`break`, an exception, `close()`, `with`, dropping the stream,
  also in a reference cycle): the server sees the connection close within a second.
- **Interpreter exit** with open streams: immediate, with status 0, and without output.
- **Forks, process pools, copies, 64 threads, gevent**: one provider works in all of them; a forked
  child does not touch its parent's streams.
"""


def page() -> str:
    """Return the text of docs/faults.md."""
    head = HEAD.format(rows=len(ROWS), attempts=ATTEMPTS, margin=MARGIN_S)
    phases = ",\n".join(f"    - {_phrase(phase)}" for phase in PHASES)
    tables = [_table(title, rows) for title, rows in TABLE.items()]
    return "\n".join([head, *tables]) + CLIENT_SIDE.format(phases=phases)


def _phrase(phase: str) -> str:
    """Return the phase in a form that fits after "while the call is"."""
    return {
        "resolving": "resolving the host name",
        "TLS handshake": "in its TLS handshake",
        "back-off": "waiting for its next attempt",
        "back-off from a cut": "waiting for its next attempt after a cut before the first event",
        "in the middle": "in the middle of the answer",
        "buffer full": "paused because its buffer is full",
    }.get(phase, phase)


def _table(title: str, rows: list[Row]) -> str:
    lines = [
        f"## {title}\n",
        "| what happens | raised | outcome | text | requests | for |",
        "|---|---|---|---|---|---|",
        *map(_line, rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    cells = [row.name, _raised(row), _outcome(row), _text(row), str(row.requests), _for(row)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _raised(row: Row) -> str:
    if row.raises is None:
        return "–"
    name = f"`{row.raises.__name__}`"
    if row.clock:
        name += f" ({row.clock})"
    return name if row.opens else f"*{name}*"


def _outcome(row: Row) -> str:
    return " or ".join(dict.fromkeys(row.expected_outcome(kind) for kind in row.kinds))


def _text(row: Row) -> str:
    if not isinstance(row.text, str):
        return "all text that arrived"
    if len(row.text) > 40:
        return f"{len(row.text):,} characters"
    shown = row.text.encode("unicode_escape").decode() if not row.text.isprintable() else row.text
    return f"`{shown}`" if shown else "–"


LABELS = {
    "OpenAI": OPENAI,  # Vitalentum uses the same protocol
    "Anthropic": ANTHROPIC,
    "Responses": RESPONSES,
    "Gemini": GEMINI,
    "Ollama": OLLAMA,
    "plain": PLAIN,
}


def _for(row: Row) -> str:
    whole = {ALL: "all", EVENTS: "events"}
    kinds = whole.get(row.kinds) or ", ".join(
        label for label, (first, *_) in LABELS.items() if first in row.kinds
    )
    schemes = {("http",): "", ("https",): ", only TLS"}.get(row.schemes, ", TLS")
    return kinds + schemes


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
