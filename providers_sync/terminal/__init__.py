"""The ``ask`` and ``chat`` commands: one answer or a conversation, rendered as it streams.

``chat_command`` and ``session`` run a conversation, ``answer`` shows one answer, ``screens`` holds
the output formats (plain text, JSON events, Markdown), and ``input`` reads what the user types.
"""

from .answer import ask
from .chat_command import chat, check_chat_options
from .input import question

__all__ = ["ask", "chat", "check_chat_options", "question"]
