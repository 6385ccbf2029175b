"""The ``ask`` and ``chat`` commands: one answer or a conversation, rendered as it streams.

``session`` runs the conversation, ``answer`` shows one answer, ``screens`` holds the output formats
(plain text, JSON events, Markdown), and ``input`` reads what the user types.
"""

from .answer import ask
from .input import question
from .session import chat

__all__ = ["ask", "chat", "question"]
