"""``python -m providers_sync`` is the command line."""

from .cli import main

raise SystemExit(main())
