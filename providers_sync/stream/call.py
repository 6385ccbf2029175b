"""``Call``: runs the source of one answer on worker threads and reads its responses."""

from __future__ import annotations

import contextlib
import itertools
import math
from contextvars import Context
from typing import TypeVar

from .. import call_log
from ..config import DRAIN_S, IDLE_THREAD_S
from ..errors import ProviderError, StreamCancelled, StreamCut, StreamTruncated
from .channel import NOW, CallEnded, Channel, nobody
from .deadlines import timeout_error
from .reading import Reading, ResponseBody, Source

T = TypeVar("T")
READS_AT_TIMEOUT = 16
"""Reads of 64 KiB that may show, when ``total`` expires, that an unread answer is whole."""


_numbers = itertools.count()


class Call:
    """One call that runs: its source, the response that is read now, and who reads it."""

    def __init__(self, channel: Channel, source: Source, context: Context) -> None:
        self.number = next(_numbers)
        self.channel = channel
        self.reading: Reading | None = None
        self.failure: BaseException | None = None
        """Why reading the response has ended, unless it has ended well."""
        self.is_draining = False
        """Whether the answer is complete, and only the end of the body is missing."""
        self._is_decoded = False
        """Whether the decoder has been told the end of the body."""
        self._end_failure: BaseException | None = None
        """What was wrong with the end of an answer that seemed to be whole."""
        self.belongs_to_reader = False
        """Whether the reader thread reads the response, and closes it."""
        self.is_registered = False
        """Whether the reader thread's selector waits for its socket."""
        self.scheduled_at = math.inf
        """When the reader thread looks at the call by itself."""
        self.known_at = math.inf
        """When it looks at the call at the latest, also because it was told to."""
        self._context = context
        observer = channel.observer
        if observer is not None:
            context.run(observer.enter)
        self._steps = context.run(source, channel)

    # --- in a worker thread

    def advance(self, error: BaseException | None = None) -> None:
        """Run the source up to its next response, and read what came with it.

        ``error`` is why reading the previous response failed.
        """
        self.reading = self.failure = None
        try:
            if error is None:
                self.reading = self._context.run(next, self._steps)
            else:
                self.reading = self._context.run(self._steps.throw, error)
        except StopIteration:
            self._finish(None)
        except CallEnded:
            self._finish(StreamCancelled("the stream was stopped"))
        except ProviderError as failure:
            self._finish(failure)
        except BaseException as failure:  # noqa: BLE001 (the caller must never wait forever)
            self._finish(unexpected(failure))
        else:
            self._begin(self.reading.body)

    def _begin(self, body: ResponseBody) -> None:
        """Read what came with the headers; then let the reader thread go on, if it can."""
        self.is_draining = self._is_decoded = False
        self._end_failure = None
        going = True
        if body.socket is None:
            self.channel.notify()  # the headers have arrived; the first read may wait for long
            while going:
                going = self._turn_waiting()
        while going and body.at_hand and not self.channel.is_full:
            going = self.turn()
        if not (going and self._give_to_reader()):
            self.settle()

    def _give_to_reader(self) -> bool:
        with self.channel.lock:
            if self.channel.ended:
                self.failure = CallEnded()
                return False
            self.belongs_to_reader = True
            self.channel.notify()
            self.channel.attend(NOW)
            return True

    # --- in the thread that reads the response

    def turn(self) -> bool:
        """Read the response once, decode what came, and hand it over; return whether it goes on.

        Under the lock from the read to the end, so that everybody else sees whole turns.
        """
        reading = self.reading
        assert reading is not None
        with self.channel.lock:
            try:
                data = reading.body.receive()
                return data is None or self._decode(data, reading)
            except BaseException as error:  # noqa: BLE001 (passed on to the source)
                self.failure = self._cause(error)
                return False

    def _turn_waiting(self) -> bool:
        """Do what ``turn`` does for a body whose reads wait: without the lock."""
        reading = self.reading
        assert reading is not None
        try:
            data = reading.body.receive()
            with self.channel.lock:
                going = self._decode(data or b"", reading)
        except BaseException as error:  # noqa: BLE001 (passed on to the source)
            self.failure = self._cause(error)
            going = False
        self.channel.notify()
        self.channel.wait_for_space()
        return going

    def _cause(self, failure: BaseException) -> BaseException | None:
        """Return why reading really failed; ``None`` if the answer was complete before."""
        channel = self.channel
        if channel.expired or channel.ended:  # stopping the attempt looks like a broken connection
            return channel.interruption()
        if self.is_draining:
            return None
        if isinstance(failure, (StreamCut, StreamTruncated)) and channel.has_end_marker:
            return self._end_whole_answer(failure, is_cut=True)
        return failure

    def times_out(self, timeout: str) -> bool:
        """Handle an expired timeout; return whether the reader thread ends the response now."""
        channel = self.channel
        if self.is_draining:
            if not self.belongs_to_reader:
                channel.interrupt()
            return True
        after_finish = channel.idle_s if channel.has_end_marker and timeout == "idle" else None
        error = timeout_error(timeout, channel.timeouts, after_finish)
        with channel.lock:
            if channel.is_full and self.belongs_to_reader and not self._read_unread():
                return True
            is_whole = channel.has_end_marker and self.reading is not None and self.failure is None
            if is_whole and not channel.ended:
                failure = None if self._is_decoded else self._end_whole_answer(error)
                if not self.belongs_to_reader:  # its worker may wait for long
                    channel.expire(timeout, is_whole=failure is None)
                    return False
                self.failure = failure
                return True
            channel.expire(timeout)
            if channel.ended or not self.belongs_to_reader:
                return False
            self.failure = error
            return True

    def _read_unread(self) -> bool:
        """Read what a slow caller has left in the socket, if it may be the end of the answer.

        Return whether the response goes on. Under the lock.
        """
        channel = self.channel
        for _ in range(READS_AT_TIMEOUT):
            before = channel.bytes
            if not channel.has_end_marker:
                return True
            if not self.turn():
                return False
            if channel.bytes == before:
                return True
        channel.set_whole(False)
        return True

    def _end_whole_answer(
        self, failure: BaseException, *, is_cut: bool = False
    ) -> BaseException | None:
        """End an answer that is whole, although its body is not; return what is wrong with it.

        That is ``failure`` if its last bytes say more; or, if the connection broke, when anything
        has been said after a finish reason. Under the lock.
        """
        reading = self.reading
        if reading is None or self._end_failure is not None:
            return self._end_failure
        decoder = reading.decoder
        try:
            if not self._is_decoded:
                self._end_decoding(reading)
            elif hasattr(decoder, "finished"):  # it has seen the end
                self._end_failure = failure
        except (StreamCut, StreamTruncated):
            self._end_failure = failure if hasattr(decoder, "finished") else None
        except BaseException as error:  # noqa: BLE001 (passed on to the source)
            self._end_failure = error
        if is_cut and getattr(decoder, "resumed", False):
            self._end_failure = failure
        return self._end_failure

    def _decode(self, data: bytes, reading: Reading) -> bool:
        """Decode what a read has brought, under the lock; return whether the response goes on."""
        body, decoder, context = reading
        channel = self.channel
        if channel.ended or channel.expired:
            raise CallEnded
        if self.is_draining:
            return not body.ended
        if data:
            deltas = context.run(decoder.feed, data)
            channel.deliver(deltas, len(data))
            finished = getattr(decoder, "finished", None)
            if finished is not channel.has_end_marker and finished is not None:
                channel.set_whole(finished)
        if not (body.ended or getattr(decoder, "ended", False)):
            return True
        self._end_decoding(reading)
        if body.ended or not body.can_be_reused:
            return False
        self.is_draining = True
        channel.is_full = False  # nothing more comes; ``resume`` would replace the deadline
        channel.deadlines.set("drain", DRAIN_S)
        channel.attend(channel.deadlines.next_due[0])
        return True

    def _end_decoding(self, reading: Reading) -> None:
        self._is_decoded = True
        try:
            deltas = reading.context.run(reading.decoder.end)
        except BaseException as error:
            self.channel.deliver(vars(error).pop("deltas", []), 0)
            raise
        self.channel.deliver(deltas, 0)

    @property
    def settles_at_once(self) -> bool:
        """Whether ``settle`` takes no time: no other request follows, and nothing is written."""
        channel = self.channel
        has_begun = channel.started and not channel.may_continue
        is_last = self.failure is None or has_begun or channel.ended
        return is_last and channel.tape is None and not call_log.is_on(call_log.DEBUG)

    def settle(self) -> None:
        """Release the response; end the call, or let the source go on after a failure."""
        assert self.reading is not None
        if self.failure is None:
            self.reading.body.release()
            self.channel.before_good_end()
            self._finish(None)
            self._close_source()
            return
        self.reading.body.close()
        if self.channel.has_news:
            self.channel.notify()
        if self.channel.ended:
            self._finish(StreamCancelled("the stream was stopped"))
            self._close_source()
        else:
            self.advance(self.failure)

    def give_up(self, error: ProviderError) -> None:
        """End the call with ``error``, and let the source do no more."""
        if self.reading is not None:
            self.reading.body.close()
        self._finish(error)
        self._close_source()

    def _close_source(self) -> None:
        with contextlib.suppress(Exception):  # the answer has ended; nobody waits for this
            self._context.run(self._steps.close)

    def _finish(self, error: ProviderError | None) -> None:
        self.reading = None
        with self.channel.lock:
            self.channel.end(error)
            # The reader thread need not look after this call any longer, and may end soon.
            self.channel.attend((self.channel.ended_at or 0) + IDLE_THREAD_S)
            self.channel.attend = nobody


def unexpected(error: BaseException) -> ProviderError:
    """Return the error to raise for an exception that no code of ours expects."""
    failure = ProviderError(f"unexpected {type(error).__name__} in a thread of the call")
    failure.__cause__ = error
    return failure
