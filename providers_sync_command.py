"""Entry point of ``providers-sync``: Ctrl-C while the package loads exits without a traceback.

It is outside the package, because importing a module of the package loads the package first.
"""

from __future__ import annotations

import signal


def main() -> int:
    """Load the command line and run it."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.default_int_handler:  # the shell may have set Ctrl-C to be ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from providers_sync.cli import main

    signal.signal(signal.SIGINT, previous)
    return main()
