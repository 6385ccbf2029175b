"""The thread behind a stream, its bounded buffer, its clocks and its verdict; knows no HTTP.

A source is a callable that takes the ``Pipe``, yields the deltas of one answer and tells the pipe
where it stands: ``attempt`` (with a callable that stops it), ``connected``, ``sent``, ``opened``,
``received`` after every read, ``flush`` before the next. It runs in a daemon thread, which holds
the pipe and never the ``Stream``: when the last reference to the ``Stream`` goes, so does all else.
A reader outside the main thread that waits word by word may borrow it (``direct``).
"""

from .cancel import CancelToken
from .channel import Ended, Pipe, Source
from .prepared import Opening
from .stream import Stream, open_streams

__all__ = ["CancelToken", "Ended", "Opening", "Pipe", "Source", "Stream", "open_streams"]
