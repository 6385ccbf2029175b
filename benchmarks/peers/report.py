"""Format the results as Markdown tables, and check the requirements for our client."""

from __future__ import annotations

from typing import Any

Results = dict[str, Any]
OURS, NAIVE = "providers_sync", "naive loop"
LIMITS = (NAIVE, "bare socket")
"""Rows that are no clients."""
ONE_EACH = "one HTTP chunk an event"


def requirements(results: Results) -> list[tuple[str, str, str, bool]]:
    """Return each requirement: its name, the measured value, the limit, whether it is met."""
    checked: list[tuple[str, str, str, bool]] = []

    def require(what: str, value: float, limit: float, unit: str = "×") -> None:
        checked.append((what, f"{value:.3g} {unit}", f"{limit:.3g} {unit}", value <= limit))

    for case, naive, openai in (
        ("coalesced", 0.6, 15), ("close-delimited", 0.45, 15), (ONE_EACH, 0.75, 10),
    ):  # fmt: skip
        for other, limit in ((NAIVE, naive), ("openai", 1 / openai)):
            if (value := ratio(results, "chunks", case, other, "cpu_us")) is not None:
                require(f"CPU per chunk, {case}, relative to {other}", value, limit)
    value = ratio(results, "requests", "one-chunk request", "openai", "cpu_us")
    if value is not None:
        require("CPU of a one-chunk request relative to openai", value, 1)
    checked += at_once_requirements(results.get("at_once", {}))
    if len(sizes := [each[OURS] for each in results.get("long", {}).values()]) == 2 and all(
        "wall" in each for each in sizes
    ):
        require("an answer 10 times as long: CPU", sizes[1]["cpu"] / sizes[0]["cpu"], 11)
        require("the longest answer: peak memory relative to its text", sizes[1]["times_text"], 2.5)
    checked += typed_requirements(list(results.get("typed", {}).values()))
    value = ratio(results, "imports", "import", "its dependencies", "wall_ms")
    if value is not None:
        require("import relative to requests, sseclient, tenacity", value, 1.4)
    if mine := results.get("sizes", {}).get("installed", {}).get(OURS):
        require("installed size", mine["megabytes"], 9, "MB")
        require("installed packages", mine["packages"], 8, "")
    return checked


TYPED_PEERS = ("openai", "instructor", "pydantic-ai", "mirascope")


def typed_requirements(sizes: list[Results]) -> list[tuple[str, str, str, bool]]:
    """Return the requirements of typed answers; they need all three sizes."""
    cpu = [each.get(OURS, {}).get("cpu") for each in sizes]
    if len(sizes) < 3:  # in a quick run
        return []
    if None in cpu:
        return [("typed answers of all sizes", "failed", "", False)]
    others = [sizes[0][name]["cpu"] for name in TYPED_PEERS if "cpu" in sizes[0][name]]
    if not others:
        return [("typed answers of any other client", "failed", "", False)]
    parts = cpu[0] / min(others)
    growth = cpu[-1] / cpu[0]
    return [
        ("typed answer: CPU relative to the best other client", f"{parts:.3g} ×", "0.02 ×",
         parts <= 0.02),
        ("typed answer 100 times as long: CPU", f"{growth:.3g} ×", "125 ×", growth <= 125),
    ]  # fmt: skip


AT_ONCE = (  # streams, measurement, its name, limit in ms
    ("200 streams", "settled_p99", "p99 of a chunk's delay after the tenth chunk", 5),
    ("800 streams", "late_median", "median of a chunk's delay", 30),
    ("800 streams", "late_p99", "p99 of a chunk's delay", 250),
)


def at_once_requirements(cases: Results) -> list[tuple[str, str, str, bool]]:
    """Return the requirements of many streams at once.

    CPU time is compared with the best other client; ``many_streams.py`` compares it with the naive
    loop.
    """
    checked = []
    few = cases.get("200 streams", {})
    others = [name for name in few if not name.startswith(OURS) and name not in LIMITS]
    for key, what in (("cpu", "CPU"), ("peak", "memory")):
        values = [few[name][key] for name in others if key in few[name]]
        if values and key in few[OURS]:
            value = few[OURS][key] / min(values)
            what = f"200 streams: {what} relative to the best other client"
            checked.append((what, f"{value:.3g} ×", "0.8 ×", value <= 0.8))
    for case, key, what, limit in AT_ONCE:
        if (value := cases.get(case, {}).get(OURS, {}).get(key)) is not None:
            checked.append((f"{case}: {what}", f"{value:.3g} ms", f"{limit} ms", value <= limit))
    return checked


def ratio(results: Results, part: str, case: str, other: str, key: str) -> float | None:
    """Return our measurement divided by another client's, or ``None`` if one is missing."""
    clients = results.get(part, {}).get(case, {})
    if key in clients.get(OURS, {}) and key in clients.get(other, {}):
        return float(clients[OURS][key] / clients[other][key])
    return None


def markdown(results: Results, page: str = "") -> str:
    """Return the full report on one Python as Markdown; ``page`` is the name of its files."""
    machine = results["machine"]
    version = machine["python"]
    lines = [
        f"# Comparison of all clients on Python {version}",
        "",
        f"{machine['processors']} × {machine['processor']}, {machine['system']}. Medians over the "
        "rounds, lowest and highest in brackets.",
        "",
    ]
    if met := requirements(results):
        rows = [(what, value, limit, "yes" if ok else "**no**") for what, value, limit, ok in met]
        lines += table(["requirement", "measured", "at most", "met"], rows)
    lines += [f"![The clients compared]({page}.png)", ""] if page else []
    for part, title, note, columns in TABLES:
        if part in results:
            when = results["measured"][part]
            lines += [f"## {title}", "", f"{note} Measured on {when['date']}, in "
                      f"{when['seconds']} s.", ""]  # fmt: skip
            for case, clients in results[part].items():
                if len(results[part]) > 1 and columns:
                    lines += [f"**{case}**", ""]
                if columns:
                    rows = [row(name, each, columns) for name, each in clients.items()]
                    lines += table(["", *(head for head, *_ in columns)], rows)
            if part == "faults":
                lines += fault_table(results[part])
            if part == "chunks":
                lines += chunk_table(results[part], "CPU", "cpu_us")
                lines += chunk_table(results[part], "wall", "wall_us")
    return "\n".join(lines).rstrip() + "\n"


OVERVIEW = (  # what, part, case, measurement, format
    ("CPU per chunk, µs", "chunks", ONE_EACH, "cpu_us", ".3g"),
    ("CPU of a one-chunk request, µs", "requests", "one-chunk request", "cpu_us", ".3g"),
    ("200 streams: peak memory, MB", "at_once", "200 streams", "peak", ".0f"),
    ("import, ms of CPU", "imports", "import", "cpu_ms", ".3g"),
)


def overview(every: dict[str, Results]) -> str:
    """Return a page that compares the Pythons; ``every`` has the results by Python."""
    links = [f"[{each['machine']['python']}]({page}.md)" for page, each in every.items()]
    lines = [
        "# Benchmark results",
        "",
        f"From `python benchmarks/run.py` with each Python: {', '.join(links)}. The raw data is "
        "beside these pages.",
        "",
    ]
    for what, part, case, key, form in OVERVIEW:
        has = {page: results[part][case] for page, results in every.items() if part in results}
        if not has:
            continue
        names = dict.fromkeys(name for clients in has.values() for name in clients)
        rows = [
            (name, *(row(name, clients.get(name, {}), [("", key, form)])[1]
                     for clients in has.values()))
            for name in names
        ]  # fmt: skip
        lines += [f"## {what}", "", *table(["", *has], rows)]
    return "\n".join(lines).rstrip() + "\n"


def fault_table(cases: Results) -> list[str]:
    """Return what each client does, by fault."""
    head = ["", *(FAULTS[case] for case in cases)]
    names = list(next(iter(cases.values())))
    says = [(n, *(each[n]["says"].replace("|", "/") for each in cases.values())) for n in names]
    return table(head, says)


FAULTS = {
    "truncated": "the answer is cut off: raised",
    "reset": "the connection is reset: raised",
    "stopped": "another thread stops it: the reader is free",
    "silent": "the server falls silent: raised",
}


def chunk_table(cases: Results, what: str, key: str) -> list[str]:
    """Return a table of all framings."""
    names = list(next(iter(cases.values())))
    column = ("", key, ".3g")
    rows = [
        (name, *(row(name, clients[name], [column])[1] for clients in cases.values()))
        for name in names
    ]
    return table([f"{what}, µs per chunk", *cases], rows)


def row(name: str, measured: Results, columns: Any) -> tuple[str, ...]:
    """Return a client's table row."""
    if "error" in measured:
        return (name, f"failed: {measured['error']}".replace("|", "/").replace("\n", " "),
                *[""] * (len(columns) - 1))  # fmt: skip
    cells = []
    for _, key, form in columns:
        value = measured.get(key)
        cell = "" if value is None else number(value, form)
        if low_high := measured.get(f"{key}_spread"):
            cell += " ({}–{})".format(*(number(each, form) for each in low_high))
        cells.append(cell)
    return (name, *cells)


def number(value: Any, form: str) -> str:
    """Format a number with its significant digits only, never as 1e+03."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if form == ".3g" and value >= 100 else f"{value:{form}}"


def table(head: list[str], rows: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a Markdown table, and an empty line."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|---" + "|--:" * (len(head) - 1) + "|", *lines[1:], ""]


TABLES: Any = (
    (
        "faults",
        "Answers that break",
        "After 20 chunks, with each client's default settings. *Cut off*: the body ends properly, "
        "but without a finish reason and without the protocol's end marker. *Stopped*: another "
        "thread calls the answer's `cancel()` or `close()` while the reader waits for a silent "
        "server; a reader that is not free after 5 s is blocked.",
        [],
    ),
    (
        "chunks",
        "CPU per chunk",
        "One answer of 20,000 chunks, some 230 bytes each. The naive loop is requests, sseclient "
        "and json; the bare socket loop with orjson has no timeouts, no checks and no retries.",
        [],
    ),
    (
        "requests",
        "A warm request with a one-chunk answer",
        "300 requests, one after another. Added latency is a client's median minus "
        "that of the bare socket.",
        [("CPU, µs", "cpu_us", ".3g"), ("median, µs", "wall_us", ".3g"),
         ("p99, µs", "wall_p99_us", ".3g"), ("added latency, µs", "added_us", ".3g")],
    ),
    (
        "at_once",
        "Many streams at once",
        "50 chunks each, 20 ms apart, which takes 1 s once all requests are sent; one thread per "
        "stream, or one task if the client is asynchronous. A chunk's delay is the time from the "
        "server's sending it to the caller's receiving it.",
        [("wall, s", "wall", ".2f"), ("CPU, s", "cpu", ".3g"), ("peak memory, MB", "peak", ".0f"),
         ("median delay, ms", "late_median", ".3g"), ("p99 of delay, ms", "late_p99", ".3g"),
         ("p99 after 10 chunks, ms", "settled_p99", ".3g")],
    ),
    (
        "long",
        "Long answers",
        "Text of 1000 characters per event, read as one string.",
        [("wall, s", "wall", ".3g"), ("CPU, s", "cpu", ".3g"), ("peak memory, MB", "peak", ".0f"),
         ("memory / text", "times_text", ".2f")],
    ),
    (
        "typed",
        "Typed answers",
        "A list of records, each event four characters of it; the answer is read as a growing "
        "object to the end and checked against a pydantic model. `values` is how often the client "
        "handed over the object so far (pydantic-ai also as it does by default, grouped over "
        "0.1 s; `items` hands over whole records, `complete` the whole list). `jiter at the end` "
        "is the naive loop that parses the text once, when it is complete. A client that has not "
        "finished after 120 s is ended; one that used 12 s of CPU for a tenth does not try.",
        [("CPU, s", "cpu", ".3g"), ("wall, s", "wall", ".3g"), ("values", "values", ",.0f"),
         ("peak memory, MB", "peak", ".0f")],
    ),
    (
        "imports",
        "Import",
        "In a new process each time, with byte code already compiled.",
        [("wall, ms", "wall_ms", ".3g"), ("CPU, ms", "cpu_ms", ".3g"),
         ("memory, MB", "memory", ".1f"), ("modules", "modules", ".0f")],
    ),
    (
        "sizes",
        "Installed",
        "Without Python and pip, with byte code.",
        [("version", "version", ""), ("MB", "megabytes", ".1f"), ("packages", "packages", ".0f")],
    ),
    (
        "batch",
        "A batch",
        "Rows per second over 64 threads, 0.2 s per answer: `batch.map` with its ledger, and as "
        "many threads with plain requests.",
        [("rows per second", "rows_per_s", ".0f"), ("peak memory, MB", "peak", ".0f")],
    ),
)  # fmt: skip
