"""Find out why an answer is not streamed: `providers-sync doctor`, from Python."""

from providers_sync.doctor import examine
from providers_sync.testing import answer, pause, serve, status

words = " ".join(str(number) for number in range(1, 101))
held_back = answer(pause(1), words, headers={"Via": "1.1 office-proxy"})


def script(request):
    """Play a server behind a proxy that buffers the complete answer before it forwards it."""
    return status(405) if request.method == "GET" else held_back


with serve(script, protocol="ai365vip") as server:
    for finding in examine("ai365vip", base_url=server.url):
        print(finding)
