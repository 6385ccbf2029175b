"""Stop an answer from another thread: a button, a signal handler, a timer."""

import threading

from providers_sync import CancelToken, CodeLinkAva, StreamCancelled
from providers_sync.testing import pause, repeat, serve, text

button = CancelToken()

with serve(repeat(text("tick "), pause(0.1))) as server:  # it never ends by itself
    provider = CodeLinkAva(base_url=server.url)
    threading.Timer(1, button.cancel).start()
    try:
        for chunk in provider.stream("What does a clock say?", cancel=button):
            print(chunk, end="", flush=True)
    except StreamCancelled as error:
        print(f"\n{error.outcome}; what had arrived: {error.partial!r}")
