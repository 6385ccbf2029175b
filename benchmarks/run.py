"""Measure all clients in one run: writes a table, a chart and the raw data to ``results/``.

    python benchmarks/run.py            # some 25 minutes, once the environments exist
    python benchmarks/run.py --quick    # one small round of each, for a quick look
    python benchmarks/run.py chunks imports    # some parts only, not written to results/

Every client, and the server, runs in its own process and virtual environment
(``.venv-bench/NAME``). CPU time counts most: it depends least on other load. Remove
``.venv-bench`` to measure the newest versions. Linux only, as memory is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
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
    """Return a description of the machine."""
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


def raise_limit() -> None:
    """Allow the clients the sockets of 800 streams, if this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def measure(names: list[str], quick: bool) -> dict[str, Any]:
    """Run the parts and return all measurements."""
    raise_limit()
    missing = environments.make_all()
    results: dict[str, Any] = {"machine": machine(), "quick": quick, "missing": missing}
    with tempfile.TemporaryDirectory() as scratch:
        bench = parts.Bench(Path(scratch), quick, missing)
        started = time.monotonic()
        for name in names:
            print(f"{time.monotonic() - started:4.0f} s  {name}", flush=True)
            results[name] = parts.PARTS[name](bench)
        results["seconds"] = round(time.monotonic() - started)
        bench.server.close()
    return results


def main() -> int:
    """Parse the arguments, measure, write; return 1 if a requirement is not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(parts.PARTS)}")
    parser.add_argument(
        "--quick", action="store_true", help="one small round, not written to results/"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts.PARTS):
        parser.error(f"unknown: {', '.join(unknown)}; the parts are {', '.join(parts.PARTS)}")
    results = measure(options.parts or list(parts.PARTS), options.quick)
    table = report.markdown(results)
    print(table)
    folder = RESULTS
    if options.quick or options.parts:
        folder = environments.FOLDER / "results"
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "README.md").write_text(table)
    if not options.parts:
        command = [
            environments.python("tools"),
            str(Path(__file__).parent / "peers" / "chart.py"),
        ]
        subprocess.run([*command, str(folder)], check=True)
    print(f"Written to {folder}.")
    return any(not met for *_, met in report.requirements(results))


if __name__ == "__main__":
    sys.exit(main())
