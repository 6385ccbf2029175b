"""The thread behind a stream, its bounded buffer, its clocks and its verdict; knows no HTTP.

A source is a callable that takes the ``Pipe``, yields the deltas of one answer and tells the pipe
where it stands: ``attempt`` (with a callable that stops it), ``connected``, ``sent``, ``opened``,
``received`` after every read, ``flush`` before the next. It runs in a daemon thread, which holds
the pipe and never the ``Stream``: when the last reference to the ``Stream`` goes, so does all else.
A reader outside the main thread that waits word by word may borrow it (``direct``).
"""

from .answer import Stream, open_streams
from .opening import Opening
from .pipe import Ended, Pipe, Source
from .token import CancelToken

__all__ = ["CancelToken", "Ended", "Opening", "Pipe", "Source", "Stream", "open_streams"]
