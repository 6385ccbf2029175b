"""The terminal: one answer (``ask``) or a conversation (``chat``), rendered as it streams.

The rooms below: ``session`` talks, ``answering`` shows one answer on a ``screens`` screen (plain
text, JSON events or Markdown), ``keyboard`` reads what the user types.
"""

from .keyboard import question
from .render import ask
from .session import chat

__all__ = ["ask", "chat", "question"]
