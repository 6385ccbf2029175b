"""The figures as tables in Markdown, and the bars that ours have to clear."""

from __future__ import annotations

from typing import Any

Found = dict[str, Any]
OURS, NAIVE = "providers_sync", "naive loop"
EACH = "one HTTP chunk an event"


def bars(found: Found) -> list[tuple[str, str, str, bool]]:
    """Return what has to hold, the measured value, the limit, and whether it holds."""
    made: list[tuple[str, str, str, bool]] = []

    def bar(what: str, value: float, limit: float, unit: str = "×") -> None:
        made.append((what, f"{value:.3g} {unit}", f"{limit:.3g} {unit}", value <= limit))

    for case, naive, openai in (
        ("coalesced", 0.9, 15), ("close-delimited", 0.9, 15), (EACH, 1.3, 10),
    ):  # fmt: skip
        for other, limit in ((NAIVE, naive), ("openai", 1 / openai)):
            if (value := ratio(found, "chunks", case, other, "cpu_us")) is not None:
                bar(f"CPU per chunk, {case}, beside {other}", value, limit)
    for other, limit in (("bare requests", 1.15), ("openai", 1.0)):
        value = ratio(found, "requests", "one-chunk request", other, "cpu_us")
        if value is not None:
            bar(f"CPU of a one-chunk request beside {other}", value, limit)
    streams = found.get("at_once", {}).get("200 streams", {})
    if "late_p99" in (mine := streams.get(OURS, {})):
        bar("200 streams: p99 of a chunk's delay", mine["late_p99"], 20, "ms")
        rest = [each for name, each in streams.items() if is_sdk(name) and "cpu" in each]
        for what, key, unit in (("CPU", "cpu", "s"), ("memory", "peak", "MB")):
            least = min((each[key] for each in rest), default=float("inf"))
            bar(f"200 streams: {what}, beside the best SDK", mine[key], least, unit)
    if len(sizes := [each[OURS] for each in found.get("long", {}).values()]) == 2 and all(
        "wall" in each for each in sizes
    ):
        bar("an answer 10 times as long: time", sizes[1]["wall"] / sizes[0]["wall"], 11)
        bar("the longest answer: peak memory beside its text", sizes[1]["times_text"], 2.5)
    value = ratio(found, "imports", "import", "its dependencies", "wall_ms")
    if value is not None:
        bar("import beside requests, sseclient, tenacity", value, 1.05)
    if mine := found.get("sizes", {}).get("installed", {}).get(OURS):
        bar("installed size", mine["megabytes"], 6, "MB")
        bar("installed packages", mine["packages"], 8, "")
    return made


def is_sdk(name: str) -> bool:
    """Tell whether a row is another's SDK, and blocking."""
    return not name.startswith(OURS) and name not in (NAIVE, "bare socket", "openai (async)")


def ratio(found: Found, part: str, case: str, other: str, key: str) -> float | None:
    """Return our figure beside another's, where both are there."""
    clients = found.get(part, {}).get(case, {})
    if key in clients.get(OURS, {}) and key in clients.get(other, {}):
        return float(clients[OURS][key] / clients[other][key])
    return None


def markdown(found: Found) -> str:
    """Return all of it as one page."""
    machine = found["machine"]
    lines = [
        "# All clients side by side",
        "",
        f"Measured on {machine['date']} in one run of `python benchmarks/run.py`, "
        f"{found['seconds']} s: {machine['processors']} × {machine['processor']}, "
        f"{machine['system']}, Python {machine['python']}. Medians over the rounds, "
        "lowest and highest in brackets; figures of all rounds: `results.json`.",
        "",
    ]
    if held := bars(found):
        rows = [(what, value, limit, "yes" if ok else "**no**") for what, value, limit, ok in held]
        lines += table(["what has to hold", "measured", "at most", "holds"], rows)
    for part, title, note, columns in TABLES:
        if part in found:
            lines += [f"## {title}", "", note, ""]
            for case, clients in found[part].items():
                if len(found[part]) > 1 and part != "chunks":
                    lines += [f"**{case}**", ""]
                if part != "chunks":
                    rows = [row(name, each, columns) for name, each in clients.items()]
                    lines += table(["", *(head for head, *_ in columns)], rows)
            if part == "chunks":
                lines += chunk_table(found[part], "CPU", "cpu_us")
                lines += chunk_table(found[part], "wall", "wall_us")
    return "\n".join(lines).rstrip() + "\n"


def chunk_table(cases: Found, what: str, key: str) -> list[str]:
    """Return one table of all framings."""
    names = list(next(iter(cases.values())))
    column = ("", key, ".3g")
    rows = [
        (name, *(row(name, clients[name], [column])[1] for clients in cases.values()))
        for name in names
    ]
    return table([f"{what}, µs per chunk", *cases], rows)


def row(name: str, figures: Found, columns: Any) -> tuple[str, ...]:
    """Return a client's row."""
    if "error" in figures:
        return (name, f"failed: {figures['error']}".replace("|", "/").replace("\n", " "),
                *[""] * (len(columns) - 1))  # fmt: skip
    cells = []
    for _, key, form in columns:
        value = figures.get(key)
        cell = "" if value is None else number(value, form)
        if low_high := figures.get(f"{key}_spread"):
            cell += " ({}–{})".format(*(number(each, form) for each in low_high))
        cells.append(cell)
    return (name, *cells)


def number(value: Any, form: str) -> str:
    """Return a figure in as many digits as mean something, never as 1e+03."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if form == ".3g" and value >= 100 else f"{value:{form}}"


def table(head: list[str], rows: list[tuple[str, ...]]) -> list[str]:
    """Return a table and an empty line."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|---" + "|--:" * (len(head) - 1) + "|", *lines[1:], ""]


TABLES: Any = (
    (
        "chunks",
        "CPU per chunk",
        "One answer of 20,000 chunks, some 230 bytes each. The naive loop is requests, sseclient "
        "and json; the bare socket loop with orjson has no clock, no check and no retry.",
        [],
    ),
    (
        "requests",
        "A warm request with a one-chunk answer",
        "300 requests, one after another. Added latency is what a client's median has more than "
        "the bare socket's.",
        [("CPU, µs", "cpu_us", ".3g"), ("median, µs", "wall_us", ".3g"),
         ("p99, µs", "wall_p99_us", ".3g"), ("added latency, µs", "added_us", ".3g")],
    ),
    (
        "at_once",
        "200 streams at once",
        "50 chunks each, 20 ms apart, which takes 1 s once all have asked; a thread a stream, or a "
        "task where the client is asynchronous. A chunk's delay is the time from the server's "
        "sending it to the reader's having it.",
        [("wall, s", "wall", ".2f"), ("CPU, s", "cpu", ".3g"), ("peak memory, MB", "peak", ".0f"),
         ("median delay, ms", "late_median", ".3g"), ("p99 of delay, ms", "late_p99", ".3g")],
    ),
    (
        "long",
        "Long answers",
        "Text of 1000 characters an event, read as one string.",
        [("wall, s", "wall", ".3g"), ("CPU, s", "cpu", ".3g"), ("peak memory, MB", "peak", ".0f"),
         ("memory / text", "times_text", ".2f")],
    ),
    (
        "imports",
        "Import",
        "In a new process each time, byte code made before.",
        [("wall, ms", "wall_ms", ".3g"), ("CPU, ms", "cpu_ms", ".3g"),
         ("memory, MB", "memory", ".1f"), ("modules", "modules", ".0f")],
    ),
    (
        "sizes",
        "Installed",
        "Beyond Python and pip, with byte code.",
        [("version", "version", ""), ("MB", "megabytes", ".1f"), ("packages", "packages", ".0f")],
    ),
    (
        "batch",
        "A batch",
        "Rows a second over 64 threads, 0.2 s an answer: `batch.map` with its ledger beside as "
        "many threads with bare requests.",
        [("rows a second", "rows_per_s", ".0f"), ("peak memory, MB", "peak", ".0f")],
    ),
)  # fmt: skip
