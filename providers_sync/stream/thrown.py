"""Recognizes an exception that another thread has thrown into this one, amid any other code.

``PyThreadState_SetAsyncExc`` does that; libraries such as stopit limit the time of a call with it.
"""

from __future__ import annotations

import opcode

_RAISE = opcode.opmap["RAISE_VARARGS"]
_ALSO_WITHOUT_RAISE = (MemoryError, StopIteration, StopAsyncIteration)
"""The interpreter itself raises these without arguments."""


def find_thrown(error: BaseException | None) -> BaseException | None:
    """Return what is meant for the thread itself: ``error``, one of its causes, or ``None``.

    That is any exception but an ``Exception``, and one that was thrown in. The causes count because
    the code that was running may have converted it, as a ``TimeoutError`` amid a read.
    """
    while error is not None:
        if not isinstance(error, Exception) or _was_thrown(error):
            return error
        error = error.__cause__
    return None


def _was_thrown(error: Exception) -> bool:
    """Return whether no ``raise`` statement made the error, and nothing but its class did.

    Code in C gives the errors it raises a message or another argument.
    """
    traceback = error.__traceback__
    if traceback is None or isinstance(error, _ALSO_WITHOUT_RAISE):
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code, at = traceback.tb_frame.f_code.co_code, traceback.tb_lasti
    if not 0 <= at < len(code) or code[at] == _RAISE:
        return False
    try:
        return type(error)().args == error.args
    except Exception:  # noqa: BLE001 (the class needs arguments)
        return False
