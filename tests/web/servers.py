"""Helpers of the web tests: the servers on which the apps run, and nginx in front of them."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import ROOT, Upstream, env, free_port, needs, running

CLIENTS = 100
FOLDER = Path(__file__).parent
SETTINGS = {"UNREACHABLE_URL": "http://127.0.0.1:9"}


def run_on(
    name: str,
    upstream: Upstream,
    app: str = "flask_test_app",
    folder: Path = FOLDER,
    threads: int | None = None,
    **settings: str,
) -> contextlib.AbstractContextManager[str]:
    """Run a Flask app on a server: by default the example chat."""
    program, _, worker = name.partition(" ")
    if program == "uwsgi":
        return run_on_uwsgi(upstream, app, folder, threads or 4, **settings)
    port = free_port()
    address = f"127.0.0.1:{port}"
    if program == "waitress":
        options = [f"--listen={address}", f"--threads={threads or 4}"]
    else:
        options = ["-b", address, "-k", worker, "--threads", str(threads or CLIENTS)]
        options = options[: 6 if worker == "gthread" else 4]
    for module in {program, worker if worker == "gevent" else program, "flask"}:
        pytest.importorskip(module)
    command = [sys.executable, "-m", program, *options, f"{app}:app"]
    return running(command, port, folder, **SETTINGS, **settings, **env(upstream.url))


def run_on_uwsgi(
    upstream: Upstream,
    app: str = "flask_test_app",
    folder: Path = FOLDER,
    threads: int = 4,
    protocol: str = "http-socket",
    **settings: str,
) -> contextlib.AbstractContextManager[str]:
    """Run a Flask app on uWSGI."""
    pytest.importorskip("pyuwsgi")
    port = free_port()
    options = [f"--{protocol}", f"127.0.0.1:{port}", "--master", "--need-app", "--die-on-term"]
    options += ["--enable-threads", f"--threads={threads}", "--lazy-apps", f"--module={app}:app"]
    options += ["--add-header=Connection: close"]
    command = [Path(sys.executable).with_name("uwsgi"), *options]
    return running(command, port, folder, **SETTINGS, **settings, **env(upstream.url))


@contextlib.contextmanager
def nginx(*locations: str, settings: str = "") -> Iterator[str]:
    """Run nginx, with default settings, in front of another server."""
    program, port = needs("nginx"), free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        temp_paths = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid {folder}/pid; error_log stderr;
            events {{ }}
            http {{
                access_log off; {temp_paths} {settings}
                server {{ listen 127.0.0.1:{port}; {" ".join(locations)} }}
            }}
            """
        )
        command = [program, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
        with running(command, port, ROOT) as url:
            yield url
