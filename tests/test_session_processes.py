"""``session=`` and ``cert=`` across processes, gevent and proxies."""

from __future__ import annotations

import multiprocessing
import os
import ssl
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from test_tunnel import TunnelProxy

from providers_sync import APIConnectionError, InvalidRequestError, OpenAICompatible, batch
from providers_sync.testing import answer, serve, stall


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_process_has_lost_the_session(session: requests.Session) -> None:
    """Its connections are the parent's; the child is told, and sends nothing."""
    with serve() as server:
        provider = OpenAICompatible("m", base_url=server.url, session=session)
        provider.complete("Hi")
        if not (child := os.fork()):
            try:
                provider.stream("Hi")
            except InvalidRequestError as error:
                os._exit(7 if "session= stays in the process" in str(error) else 1)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert provider.complete("Hi").text == "Hello!"
        assert len(server.requests) == 2


def test_process_pool_tells_each_row(session: requests.Session) -> None:
    """The rows fail with the remedy; no row hangs."""
    spawn = multiprocessing.get_context("spawn")
    with serve() as server, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        provider = OpenAICompatible("m", base_url=server.url, session=session)
        rows = list(batch.map(provider, ["one", "two"], executor=pool))
        assert all("make the provider again here" in str(row.error) for row in rows)
        assert len(rows) == 2
        assert not server.requests


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent, requests
from providers_sync import OpenAICompatible, StreamCancelled
with requests.Session() as session:
    provider = OpenAICompatible("m", base_url=sys.argv[1], session=session, timeouts=10)
    jobs = [gevent.spawn(provider.complete, "Hi") for _ in range(20)]
    gevent.joinall(jobs, raise_error=True)
    assert {job.value.text for job in jobs} == {"Hello"}
    stream = OpenAICompatible("m", base_url=sys.argv[2], session=session).stream("Hi")
    gevent.spawn_later(0.1, stream.cancel)
    start = time.monotonic()
    try:
        stream.read()
    except StreamCancelled:
        assert stream.text == "Hel"
    assert time.monotonic() - start < 1
"""


def test_gevent() -> None:
    """Patched sockets work, and a silent stream is stopped at once."""
    with serve(answer("Hello", framing="length")) as good, serve(answer("Hel", stall())) as silent:
        command = [sys.executable, "-c", GEVENT, good.url, silent.url]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (ran.returncode, ran.stderr) == (0, "")
        silent.wait_closed()


@pytest.mark.parametrize("how", ["cert=", "session"])
def test_client_certificate_through_a_tunnel(
    session: requests.Session, authority: Any, ca: str, tmp_path: Path, how: str
) -> None:
    """The proxy passes the handshake on; the connection is reused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    path = str(tmp_path / "me.pem")
    authority.issue_cert("me@x.test").private_key_and_cert_chain_pem.write_to_path(path)
    proxy = TunnelProxy(None)
    try:
        settings: dict[str, Any] = {"cert": path, "verify": ca, "proxy": proxy.url}
        if how == "session":
            session.cert, session.verify, session.proxies = path, ca, {"https": proxy.url}
            settings = {"session": session}
        with serve(answer("Hello", framing="length"), tls=context) as server:
            with OpenAICompatible("m", base_url=server.url, **settings) as provider:
                assert [provider.complete("Hi").text for _ in range(2)] == ["Hello"] * 2
                assert len(server.connections) == 1
            session.close()
        assert proxy.targets == [f"127.0.0.1:{server.port}"]
    finally:
        session.close()
        proxy.close()


def test_unreachable_proxy_of_a_session_is_named(
    session: requests.Session, refused: tuple[str, int]
) -> None:
    """Its password is not."""
    session.proxies = {"http": f"http://me:s3cret-word@127.0.0.1:{refused[1]}"}
    provider = OpenAICompatible("m", base_url="http://x.test/v1", session=session, retry=None)
    with pytest.raises(APIConnectionError, match="through the proxy") as caught:
        provider.complete("Hi")
    assert "s3cret-word" not in repr(caught.value) + repr(caught.value.__cause__)
