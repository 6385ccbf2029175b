"""Cancel an answer from another thread: a button, a signal handler, a timer."""

import threading

from providers_sync import CancelToken, CodeLinkAva, StreamCancelled
from providers_sync.testing import pause, repeat, serve, text

token = CancelToken()

with serve(repeat(text("tick "), pause(0.1))) as server:  # an endless answer
    provider = CodeLinkAva(base_url=server.url)
    threading.Timer(1, token.cancel).start()
    try:
        for chunk in provider.stream("What does a clock say?", cancel=token):
            print(chunk, end="", flush=True)
    except StreamCancelled as error:
        print(f"\n{error.outcome}; received so far: {error.partial!r}")
