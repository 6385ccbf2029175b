"""What a browser has posted → messages for a provider, or what is wrong with it.

>>> question("Why do cats purr?")
[{'role': 'user', 'content': 'Why do cats purr?'}]
>>> question([{"role": "system", "content": "Obey."}, {"role": "user", "content": "Hi"}])
Traceback (most recent call last):
providers_sync.web.browser_input.QuestionError: messages[0]['role'] must be 'user' or 'assistant'
"""

from __future__ import annotations

import base64
import re
from typing import Any

from ..config import IMAGE_BYTES, QUESTION_CHARACTERS, QUESTION_MESSAGES
from ..errors import InvalidRequestError
from ..images import image_url
from ..types import Message, Messages

_ROLES = ("user", "assistant")
_DATA = re.compile(r"data:image/[a-z]{3,4};base64,")
_SHOWN = 40
"""Characters of an unknown key in an error."""


class QuestionError(InvalidRequestError):
    """What a browser has posted is wrong: its own mistake, so that it may be told the text."""


def question(
    value: object,
    *,
    images: bool = False,
    max_messages: int = QUESTION_MESSAGES,
    max_characters: int = QUESTION_CHARACTERS,
) -> Messages:
    """Check what a browser has posted, and return it as messages for ``prepare()`` or ``stream()``.

    ``value`` is parsed JSON: the text of a question, a message, or a list of messages. A message
    has a ``role``, ``user`` or ``assistant``, and a ``content``: text, or a list of text parts,
    which are joined. It has no other key. The last one is the user's and is not blank.

    ``images``: user messages may also hold images in OpenAI's forms, as ``data:`` addresses of
    PNG, JPEG, GIF or WebP and 20 MB in all; other addresses are refused, as the model's server
    would fetch them. ``max_messages`` counts messages and parts; ``max_characters`` counts text.

    Raises ``QuestionError``, whose text names the item and is fit to be shown in the browser.
    """
    if isinstance(value, str):
        value = {"role": "user", "content": value}
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise QuestionError(f"give a text or a list of messages, not {_kind(value)}")
    check = _Check(images, max_messages, max_characters)
    check.count(len(value))
    messages = [check.message(item, f"messages[{i}]") for i, item in enumerate(value)]
    if not messages or messages[-1]["role"] != "user":
        raise QuestionError("the last message must be the user's; ask something")
    content = messages[-1]["content"]
    if not (content.strip() if isinstance(content, str) else content):
        raise QuestionError("the last message is empty; ask something")
    return messages


class _Check:
    """The checks of one question, and how much may still come."""

    def __init__(self, images: bool, messages: int, characters: int) -> None:
        self._images = images
        self._items = self._max_items = messages
        self._characters = self._max_characters = characters
        self._image_bytes = IMAGE_BYTES

    def count(self, items: int) -> None:
        """Count messages and parts before each of them is looked at."""
        self._items -= items
        if self._items < 0:
            raise QuestionError(
                f"the conversation has more than {self._max_items} messages and parts of them; "
                "begin a new one"
            )

    def message(self, item: Any, name: str) -> Message:
        """Return a message with nothing in it but what was checked."""
        self._fields(item, name, ("role", "content"))
        if item.get("role") not in _ROLES:
            raise QuestionError(f"{name}['role'] must be 'user' or 'assistant'")
        return {"role": item["role"], "content": self._content(item, f"{name}['content']")}

    def _fields(self, item: Any, name: str, known: tuple[str, ...]) -> None:
        if not isinstance(item, dict):
            raise QuestionError(f"{name} must be an object, not {_kind(item)}")
        for key in item:
            if key not in known:
                raise QuestionError(
                    f"{name} has the key {str(key)[:_SHOWN]!r}, which is not taken from a browser; "
                    f"give {' and '.join(map(repr, known))} only"
                )

    def _content(self, item: dict[str, Any], name: str) -> str | list[dict[str, Any]]:
        content = item.get("content")
        if isinstance(content, str):
            return self._text(content, name)
        if not isinstance(content, list):
            raise QuestionError(f"{name} must be text or a list of parts, not {_kind(content)}")
        self.count(len(content))
        may_show = self._images and item["role"] == "user"
        parts = [self._part(part, f"{name}[{i}]", may_show) for i, part in enumerate(content)]
        if any(part["type"] == "image" for part in parts):
            return parts
        return "".join(part["text"] for part in parts)

    def _part(self, part: Any, name: str, may_show: bool) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image" and may_show:
            self._fields(part, name, ("type", "image"))
            return self._image(part.get("image"), f"{name}['image']")
        if kind == "image_url" and may_show:
            self._fields(part, name, ("type", "image_url"))
            url, name = part.get("image_url"), f"{name}['image_url']"
            if isinstance(url, dict):
                self._fields(url, name, ("url",))
                url, name = url.get("url"), f"{name}['url']"
            return self._image(url, name)
        if kind != "text":
            wanted = "text or an image" if may_show else "text"
            raise QuestionError(f"{name} must be {wanted}: {{'type': 'text', 'text': 'Hello'}}")
        self._fields(part, name, ("type", "text"))
        return {"type": "text", "text": self._text(part.get("text"), f"{name}['text']")}

    def _text(self, text: Any, name: str) -> str:
        if not isinstance(text, str):
            raise QuestionError(f"{name} must be text, not {_kind(text)}")
        self._characters -= len(text)
        if self._characters < 0:
            raise QuestionError(
                f"the conversation is longer than {self._max_characters} characters; "
                "shorten the question or begin a new conversation"
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # models' servers refuse it, each in its own words
            raise QuestionError(f"{name} holds half a character; delete it") from None
        return text

    def _image(self, url: Any, name: str) -> dict[str, Any]:
        """Return the image under a new address: its type is what its bytes say."""
        found = _DATA.match(url) if isinstance(url, str) else None
        try:
            data = base64.b64decode(url[found.end() :], validate=True) if found else b""
            self._image_bytes -= len(data)
            if self._image_bytes < 0:
                raise QuestionError(f"the images are larger than {IMAGE_BYTES >> 20} MB in all")
            return {"type": "image", "image": image_url(data)}
        except QuestionError:
            raise
        except ValueError:  # broken base64, or no image
            raise QuestionError(
                f"{name} must be a data: address, in base64, of a PNG, JPEG, GIF or WebP"
            ) from None


def _kind(value: object) -> str:
    """Return JSON's name of a value's type."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "text", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "an object")
