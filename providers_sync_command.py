"""What ``providers-sync`` runs: Ctrl-C while Python still loads us ends it without a traceback.

It stands beside the package, as whatever is in there is loaded after the package itself.
"""

from __future__ import annotations

import signal


def main() -> int:
    """Load the command line and run it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where the shell has Ctrl-C ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from providers_sync.cli import main

    signal.signal(signal.SIGINT, before)
    return main()
