"""All clients side by side in one run: a table, a picture and the figures in ``results/``.

    python benchmarks/run.py            # some ten minutes, once the environments are made
    python benchmarks/run.py --quick    # one small round of each, for a look
    python benchmarks/run.py chunks imports    # some parts only, printed and not kept

Every client runs in a process and a virtual environment (``.venv-bench/NAME``) of its own; so does
the server. CPU time counts most: it does not depend on who else uses the machine. Remove
``.venv-bench`` to measure the newest versions. Linux only, as memory is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from peers import environments, parts, report

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    return {
        "processor": names[0] if names else platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def measure(names: list[str], quick: bool) -> dict[str, Any]:
    """Run the parts and return all figures."""
    missing = environments.make_all()
    found: dict[str, Any] = {"machine": machine(), "quick": quick, "missing": missing}
    with tempfile.TemporaryDirectory() as scratch:
        bench = parts.Bench(Path(scratch), quick, missing)
        began = time.monotonic()
        for name in names:
            print(f"{time.monotonic() - began:4.0f} s  {name}", flush=True)
            found[name] = parts.PARTS[name](bench)
        found["seconds"] = round(time.monotonic() - began)
        bench.server.close()
    return found


def main() -> int:
    """Parse, measure, write; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(parts.PARTS)}")
    parser.add_argument("--quick", action="store_true", help="one small round, nothing is kept")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts.PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(parts.PARTS)}")
    found = measure(options.parts or list(parts.PARTS), options.quick)
    table = report.markdown(found)
    print(table)
    folder = RESULTS
    if options.quick or options.parts:
        folder = environments.FOLDER / "results"
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "README.md").write_text(table)
    if not options.parts:
        picture = [
            environments.python("tools"),
            str(Path(__file__).parent / "peers" / "picture.py"),
        ]
        subprocess.run([*picture, str(folder)], check=True)
    print(f"In {folder}.")
    return any(not held for *_, held in report.bars(found))


if __name__ == "__main__":
    sys.exit(main())
