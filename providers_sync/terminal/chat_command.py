"""The ``chat`` command: makes or loads the conversation, and runs a session with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..chat import Chat
from ..errors import InvalidRequestError
from ..providers.base import Provider
from .answer import tool_options
from .input import Keyboard
from .screens import choose_screen
from .session import Session, describe

if TYPE_CHECKING:
    from ..tools import Tool

_OF_CHAT = ("provider", "history", "budget", "path", "cls", "into", "repairs", "skip_invalid")
"""Names of settings of ``Chat``, which are not options of a request."""


def check_chat_options(options: Mapping[str, Any]) -> None:
    """Raise ``InvalidRequestError`` for an option that would be a setting of ``Chat``."""
    for name in _OF_CHAT:
        if name in options:
            raise InvalidRequestError(
                f"-o {name}: this is not a chat option; -o extra_body=JSON sends any other key"
            )


def chat(
    provider: Provider,
    *,
    system: str | None = None,
    options: Mapping[str, Any] | None = None,
    load: str | None = None,
    is_local: bool = False,
    tools: Sequence[Tool] = (),
    yes: bool = False,
    as_json: bool = False,
    plain: bool = False,
    stats: bool = False,
) -> int:
    """Run a chat until the input ends and return the exit code.

    It is 1 if the input is not a terminal and an answer or a command failed, otherwise 0.
    ``load`` names the file of a saved conversation to continue; ``is_local`` says that the one
    local model answers, whatever name is sent; the other arguments are those of ``ask``. Raise
    ``InvalidRequestError`` if that file cannot be loaded.
    """
    screen = choose_screen(as_json=as_json, plain=plain)
    settings = {**(options or {}), **tool_options(tools, screen, yes=yes)}
    try:
        conversation = (
            Chat.load(load, provider, system=system, **settings)
            if load
            else Chat(provider, system=system, **settings)
        )
    except OSError as error:
        raise InvalidRequestError(
            f"the conversation cannot be loaded: {describe(error)}"
        ) from error
    session = Session(conversation, screen, Keyboard(), stats=stats, is_local=is_local, file=load)
    return session.run()
