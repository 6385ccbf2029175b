"""docs/faults.md, written from the fault table itself.

PYTHONPATH=tests:. python -m faults.page      # writes the page
"""

from __future__ import annotations

from pathlib import Path

from .phases import PHASES
from .row import ALL, ANTHROPIC, ATTEMPTS, EVENTS, MARGIN_S, PLAIN, Row
from .table import ROWS, TABLE

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

HEAD = """# What happens when things go wrong

The tests put every fault below to a real server on a raw socket, {rows} in all, and check what a
reader sees of it. This page is written from their table by `python -m faults.page`, and a test
fails when the two differ.

How to read it:

- **raised** is the exact class; – means that the answer reads to its end. Where it is *in italics*,
  `stream()` itself raised it; otherwise `stream()` had returned and `next()` raised it.
- **outcome** is `.outcome` of the stream, and of the error.
- **text** is `.partial` of the error and `.text` of the stream: every character that had arrived.
- **requests** is what the server saw, under a policy of {attempts} attempts.
- **for** says which protocols: *OpenAI* is the event stream of OpenAI and Vitalentum, which ends
  with `[DONE]` or a finish reason; *Anthropic* is Anthropic's, which only `message_stop` ends;
  *events* are both. *plain* is AI365VIP's plain text, which has no end marker. *TLS* means that it
  was tried over TLS as well.

Every verdict is there within {margin} s: after the clock that is named, where one is, and after the
last byte elsewhere. After every row no thread and no socket is left.
"""

OURS = """
## On our side

- **Stopping**: `cancel()` and a `CancelToken`, from another thread, from a signal handler, from a
  finalizer in another thread and from one in the waiting thread, and Ctrl-C. The reader is free
  within 50 ms (median of 20), 250 ms at worst. Each of them while the call is
{phases}.
- **At any moment of a busy stream**, Ctrl-C and a handler that cancels lose no text and leave no
  thread behind.
- **A slow reader** holds a fast server back; memory stays flat however long it pauses.
- **A reader that leaves** (out of the loop, by an exception, `close()`, `with`, dropping the
  stream, in a reference cycle): the server sees the connection close within a second.
- **The interpreter exits** with streams open: at once, with status 0, and silently.
- **Forks, process pools, copies, 64 threads, gevent**: one provider serves them all; a forked child
  leaves its parent's streams alone.
"""


def page() -> str:
    """Return the whole page."""
    head = HEAD.format(rows=len(ROWS), attempts=ATTEMPTS, margin=MARGIN_S)
    phases = ",\n".join(f"  - {_phrase(phase)}" for phase in PHASES)
    tables = [_table(title, rows) for title, rows in TABLE.items()]
    return "\n".join([head, *tables]) + OURS.format(phases=phases)


def _phrase(phase: str) -> str:
    """Say a phase so that it can follow "while the call is"."""
    return {
        "TLS handshake": "in its TLS handshake",
        "back-off": "waiting for its next attempt",
        "back-off from a cut": "waiting for it again, cut off before its first event",
        "buffer full": "held back by its reader",
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
    return " or ".join(dict.fromkeys(row.verdict(kind) for kind in row.kinds))


def _text(row: Row) -> str:
    if not isinstance(row.text, str):
        return "all of it"
    if len(row.text) > 40:
        return f"{len(row.text):,} characters"
    shown = row.text.encode("unicode_escape").decode() if not row.text.isprintable() else row.text
    return f"`{shown}`" if shown else "–"


def _for(row: Row) -> str:
    names = {ALL: "all", EVENTS: "events", PLAIN: "plain", ANTHROPIC: "Anthropic"}
    kinds = names.get(row.kinds, "OpenAI")  # Vitalentum speaks the same
    wires = {("http",): "", ("https",): ", only TLS"}.get(row.wires, ", TLS")
    return kinds + wires


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
