"""Draw the results of one Python as a chart, with matplotlib: ``python chart.py FILE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

OURS, LIMITS = "providers_sync", ("naive loop", "bare socket", "its dependencies")
COLOURS = {"ours": "#0b6e4f", "peer": "#52606d", "limit": "#b8c1cb"}
INK, FAINT = "#1f2933", "#7b8794"
PANELS = (  # part, case, measurement, title, logarithmic
    ("chunks", "one HTTP chunk an event", "cpu_us", "CPU per streamed chunk, µs", True),
    ("requests", "one-chunk request", "cpu_us", "CPU of a one-chunk request, µs", True),
    ("at_once", "200 streams", "late_p99", "200 streams at once: p99 of delay, ms", True),
    ("at_once", "200 streams", "peak", "200 streams at once: peak memory, MB", False),
    ("imports", "import", "wall_ms", "Import, ms", True),
    ("sizes", "installed", "megabytes", "Installed, MB", True),
)
SHOWN = (OURS, "anthropic", "g4f", "aisuite", "openai", "llm", "litellm", *LIMITS)


def kind(name: str) -> str:
    """Return the kind of a client, which decides its colour."""
    return "ours" if name == OURS else "limit" if name in LIMITS else "peer"


def number(value: float) -> str:
    """Format a number with its significant digits only."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def panel(axes: Any, clients: dict[str, Any], key: str, logarithmic: bool) -> None:
    """Draw one measurement of all clients, the least first; dots, as a log scale has no zero."""
    measured = [n for n in SHOWN if clients.get(n, {}).get(key) is not None]
    names = sorted(measured, key=lambda name: clients[name][key], reverse=True)
    for position, name in enumerate(names):
        value, colour = clients[name][key], COLOURS[kind(name)]
        low, high = clients[name].get(f"{key}_spread", (value, value))
        axes.axhline(position, color="#edf0f3", lw=6, zorder=0)
        axes.plot([low, high], [position, position], color=colour, lw=3, alpha=0.5)
        axes.plot(value, position, "o", color=colour, ms=11 if name == OURS else 9)
        axes.annotate(number(value), (max(high, value), position), (9, 0), va="center", fontsize=9,
                      textcoords="offset points", color=INK,
                      fontweight="bold" if name == OURS else "normal")  # fmt: skip
    axes.set_yticks(range(len(names)), names, fontsize=9.5)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(COLOURS["ours"] if name == OURS else FAINT if name in LIMITS else INK)
        label.set_fontweight("bold" if name == OURS else "normal")
    values = [clients[name][key] for name in names]
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 2, max(values) * 6)
        axes.xaxis.set_major_formatter("{x:,g}")
    else:
        axes.set_xlim(0, max(values) * 1.2)


def style(axes: Any, logarithmic: bool) -> None:
    """Remove ticks and lines that carry no information."""
    axes.tick_params(axis="x", labelsize=8, colors=FAINT, length=2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e7eb", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#cbd2d9")
    if logarithmic:
        axes.minorticks_off()
        axes.text(1, -0.105, "log scale", transform=axes.transAxes, ha="right", va="top",
                  fontsize=7.5, color=FAINT)  # fmt: skip


def main() -> None:
    """Read a JSON file of results and write a picture next to it."""
    file = Path(sys.argv[1])
    results = json.loads(file.read_text())
    mpl.rcParams["font.family"] = "DejaVu Sans"
    figure, grid = pyplot.subplots(2, 3, figsize=(14, 7.6), dpi=110)
    for axes, (part, case, key, title, logarithmic) in zip(grid.flat, PANELS, strict=True):
        if part not in results:
            axes.set_axis_off()
            continue
        axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8)
        panel(axes, results[part][case], key, logarithmic)
        style(axes, logarithmic)
    machine = results["machine"]
    figure.text(0.012, 0.965, "Blocking clients side by side: less is better", fontsize=15,
                color=INK, fontweight="bold", va="center")  # fmt: skip
    figure.text(
        0.012, 0.018,
        f"Medians: {machine['processors']} × "
        f"{machine['processor']}, Python {machine['python']}; a line is the lowest and highest "
        "round. Light dots are limits, not clients: the naive loop is requests + sseclient, the "
        "bare socket checks nothing.",
        fontsize=8, color=FAINT,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.035, 1, 0.94), w_pad=2.5, h_pad=2)
    figure.savefig(file.with_suffix(".png"))


if __name__ == "__main__":
    main()
