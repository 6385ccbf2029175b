"""Recordings: the answers of servers with their timing, stored in a file and played again.

::

    provider = Recorded(OpenAICompatible("gpt-6-luna"), "answers.jsonl")
    print(provider.complete("Why do cats purr?"))  # asked once; from the file after that

A file holds a line of JSON for each request; docs/recordings.md describes it.
"""

from .exchange import Exchange
from .file import RecordingError, read_recordings
from .recorded import Recorded

__all__ = ["Exchange", "Recorded", "RecordingError", "read_recordings"]
