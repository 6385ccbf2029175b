"""Compare all clients side by side, and write the results to ``results/``.

    python benchmarks/run.py                   # everything: some 35 minutes
    python benchmarks/run.py chunks imports    # some parts; the results of the others stay
    python benchmarks/run.py --quick           # one small round of each, written nowhere

Every client, and the server, runs in its own process and virtual environment
(``.venv-bench/PYTHON/NAME``). CPU time counts most: it depends least on other load. Remove
``.venv-bench`` to measure the newest versions. The Python that runs this file is the one that is
measured; each has its own page. Linux only, as memory is read from ``/proc``.
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
    }


def raise_limit() -> None:
    """Allow the clients the sockets of 800 streams, if this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def measure(names: list[str], quick: bool) -> dict[str, Any]:
    """Run the parts and return their measurements, and when and how long each was measured."""
    raise_limit()
    missing = environments.make_all()
    results: dict[str, Any] = {"machine": machine(), "missing": missing, "measured": {}}
    with tempfile.TemporaryDirectory() as scratch:
        bench = parts.Bench(Path(scratch), quick, missing)
        for name in names:
            print(f"{time.strftime('%H:%M:%S')}  {name}", flush=True)
            load, started = round(os.getloadavg()[0], 2), time.monotonic()
            results[name] = parts.PARTS[name](bench)
            results["measured"][name] = {
                "date": time.strftime("%Y-%m-%d"),
                "seconds": round(time.monotonic() - started),
                "load_before": load,
            }
        bench.server.close()
    return results


def write(results: dict[str, Any]) -> dict[str, Any]:
    """Write the results and the pages; return them with the earlier results of other parts."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{environments.PYTHON}.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    measured = {**before.get("measured", {}), **results["measured"]}
    results = {**before, **results, "measured": measured}
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(report.markdown(results, file.stem))
    command = [environments.python("tools"), str(Path(__file__).parent / "peers" / "chart.py")]
    subprocess.run([*command, str(file)], check=True)
    pages = sorted(RESULTS.glob("python*.json"), key=lambda page: int(page.stem.split(".")[1]))
    every = {page.stem: json.loads(page.read_text()) for page in pages}
    (RESULTS / "README.md").write_text(report.overview(every))
    return results


def main() -> int:
    """Parse the arguments, measure, write; return 1 if a requirement is not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(parts.PARTS)}")
    parser.add_argument(
        "--quick", action="store_true", help="one small round of each, written nowhere"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts.PARTS):
        parser.error(f"unknown: {', '.join(unknown)}; the parts are {', '.join(parts.PARTS)}")
    results = measure(options.parts or list(parts.PARTS), options.quick)
    print(report.markdown(results))
    if options.quick:
        return 0
    return any(not met for *_, met in report.requirements(write(results)))


if __name__ == "__main__":
    sys.exit(main())
