"""Runs the command line: ``python -m providers_sync``."""

from .cli import main

raise SystemExit(main())
