"""The figures as a picture; runs where matplotlib is: ``python picture.py FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

OURS, LIMITS = "providers_sync", ("naive loop", "bare socket", "its dependencies")
COLOURS = {"ours": "#0b6e4f", "peer": "#9aa5b1", "limit": "#d9dee4"}
INK, FAINT = "#1f2933", "#7b8794"
PANELS = (  # part, case, figure, title, logarithmic, form
    ("chunks", "one HTTP chunk an event", "cpu_us", "CPU per streamed chunk, µs", True, "{:.3g}"),
    ("requests", "one-chunk request", "cpu_us", "CPU of a one-chunk request, ms", True, "{:.2g}"),
    ("at_once", "200 streams", "late_p99", "200 streams at once: p99 delay of a chunk, ms", True,
     "{:.3g}"),
    ("at_once", "200 streams", "peak", "200 streams at once: peak memory, MB", False, "{:.0f}"),
    ("imports", "import", "wall_ms", "Import, ms", True, "{:.0f}"),
    ("sizes", "installed", "megabytes", "Installed, MB", True, "{:.3g}"),
)  # fmt: skip
SHOWN = (OURS, "anthropic", "g4f", "aisuite", "openai", "llm", "litellm", *LIMITS)


def kind(name: str) -> str:
    """Return which colour a client has."""
    return "ours" if name == OURS else "limit" if name in LIMITS else "peer"


def panel(axes: Any, clients: dict[str, Any], key: str, logarithmic: bool, form: str) -> None:
    """Draw one figure of all clients, the least first."""
    scale = 1e-3 if "ms" in axes.get_title() and key.endswith("_us") else 1
    values = {
        name: clients[name][key] * scale
        for name in SHOWN
        if name in clients and clients[name].get(key) is not None
    }
    names = sorted(values, key=values.__getitem__, reverse=True)
    spots = range(len(names))
    bars = axes.barh(spots, [values[name] for name in names], height=0.66,
                     color=[COLOURS[kind(name)] for name in names])  # fmt: skip
    for name, spot, bar in zip(names, spots, bars, strict=True):
        spread = clients[name].get(f"{key}_spread")
        if spread and spread[1] > spread[0]:
            axes.plot([each * scale for each in spread], [spot, spot], color=INK, lw=1, alpha=0.55)
        end = max(bar.get_width(), spread[1] * scale if spread else 0)
        axes.annotate(form.format(values[name]), (end, spot), (4, 0), textcoords="offset points",
                      va="center", fontsize=9, color=INK,
                      fontweight="bold" if name == OURS else "normal")  # fmt: skip
    axes.set_yticks(spots, names, fontsize=9)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(COLOURS["ours"] if name == OURS else FAINT if name in LIMITS else INK)
        label.set_fontweight("bold" if name == OURS else "normal")
    if logarithmic:
        axes.set_xscale("log")
        low, high = min(values.values()), max(values.values())
        axes.set_xlim(10 ** (len(str(int(low))) - 1.5) if low >= 1 else low / 3, high * 4)
    else:
        axes.set_xlim(0, max(values.values()) * 1.18)


def dress(axes: Any, logarithmic: bool) -> None:
    """Take away what says nothing."""
    axes.tick_params(axis="x", labelsize=8, colors=FAINT, length=2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#edf0f3", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#cbd2d9")
    if logarithmic:
        axes.minorticks_off()
        axes.text(1, -0.105, "log scale", transform=axes.transAxes, ha="right", va="top",
                  fontsize=7.5, color=FAINT)  # fmt: skip


def main() -> None:
    """Read ``results.json`` and write ``results.png`` beside it."""
    folder = Path(sys.argv[1])
    found = json.loads((folder / "results.json").read_text())
    mpl.rcParams["font.family"] = "DejaVu Sans"
    figure, grid = pyplot.subplots(2, 3, figsize=(14, 7.6), dpi=110)
    for axes, (part, case, key, title, logarithmic, form) in zip(grid.flat, PANELS, strict=True):
        axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8)
        panel(axes, found[part][case], key, logarithmic, form)
        dress(axes, logarithmic)
    machine = found["machine"]
    figure.text(0.012, 0.965, "Blocking clients side by side: less is better", fontsize=15,
                color=INK, fontweight="bold", va="center")  # fmt: skip
    figure.text(
        0.012, 0.018,
        f"Medians of one run on {machine['date']}: {machine['processors']} × "
        f"{machine['processor']}, Python {machine['python']}; the line is the lowest and highest "
        "round. Light bars are limits, not clients: the naive loop is requests + sseclient, the "
        "bare socket has no checks.",
        fontsize=8, color=FAINT,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.035, 1, 0.94), w_pad=2.5, h_pad=2)
    figure.savefig(folder / "results.png")


if __name__ == "__main__":
    main()
