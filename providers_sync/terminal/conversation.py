"""What a chat in the terminal knows of its conversation: the last question, what is unfinished."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from ..chat import Chat
from ..chat_file import InterruptedAnswer
from ..chat_history import exchanges
from ..types import Messages


def has_words(interrupted: InterruptedAnswer | None) -> bool:
    """Return whether the model has said something in it, in an earlier round of a run, too."""
    return interrupted is not None and bool(
        interrupted.text or any(turn["role"] == "assistant" for turn in interrupted.question)
    )


def last_question(chat: Chat) -> Messages:
    """Return the last question that is in the chat, answered or not."""
    interrupted = chat.interrupted
    last = interrupted.question if interrupted else [[], *exchanges(chat.history)][-1]
    return list(takewhile(lambda message: message["role"] != "assistant", last))


def shown_words(content: Any) -> str:
    """Return the text of a message; of its other parts, what they are."""
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text") or f"[{part['type']}]") for part in content)
