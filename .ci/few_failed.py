"""Fail if the last run of pytest had more than a few failed tests, or none that it knows."""

import json
import sys
from pathlib import Path

MOST = 3

cache = Path(".pytest_cache/v/cache/lastfailed")
failed = list(json.loads(cache.read_text())) if cache.exists() else []
print(*failed, sep="\n")
sys.exit(not 0 < len(failed) <= MOST)
