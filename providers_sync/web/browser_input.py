"""``question()``: validates what a browser posts and returns it as messages for a provider.

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
from ..files import image_url
from ..types import Message, Messages

_ROLES = ("user", "assistant")
_DATA_URL = re.compile(r"data:image/[a-z]{3,4};base64,")
_MAX_SHOWN = 40
"""Maximum characters of an unknown key in an error."""


class QuestionError(InvalidRequestError):
    """The browser posted invalid input. The text is only about that input: safe to show there."""


def question(
    value: object,
    *,
    images: bool = False,
    max_messages: int = QUESTION_MESSAGES,
    max_characters: int = QUESTION_CHARACTERS,
) -> Messages:
    """Check what a browser posted; return it as messages for ``prepare()`` or ``stream()``.

    A message has a ``role``, ``user`` or ``assistant``, and a ``content``: text, or a list of text
    parts, which are joined. No other key is allowed. The last message is the user's and is not
    blank.

    Args:
        value: Parsed JSON: the text of a question, a message, or a list of messages.
        images: Whether user messages may also contain images: parts of type ``image``, or of type
            ``image_url`` as in OpenAI's API. They are ``data:`` URLs of PNG, JPEG, GIF or WebP, up
            to 20 MB in total; other URLs are refused, since the model's server would fetch them.
        max_messages: The maximum number of messages and parts (200).
        max_characters: The maximum number of characters of text (200,000).

    Raises:
        QuestionError: Its text names the item and can be shown in the browser.
    """
    if isinstance(value, str):
        value = {"role": "user", "content": value}
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise QuestionError(f"send text or a list of messages, not {_json_type(value)}")
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
    """Checks one request; tracks how much of its limits remains."""

    def __init__(self, images: bool, messages: int, characters: int) -> None:
        self._images = images
        self._remaining_items = self._max_items = messages
        self._remaining_characters = self._max_characters = characters
        self._remaining_image_bytes = IMAGE_BYTES

    def count(self, items: int) -> None:
        """Count messages and parts before any of them is checked."""
        self._remaining_items -= items
        if self._remaining_items < 0:
            raise QuestionError(
                f"the conversation has more than {self._max_items} messages and content parts; "
                "start a new one"
            )

    def message(self, item: Any, name: str) -> Message:
        """Return a new message that contains only what was checked."""
        self._check_keys(item, name, ("role", "content"))
        if item.get("role") not in _ROLES:
            raise QuestionError(f"{name}['role'] must be 'user' or 'assistant'")
        return {"role": item["role"], "content": self._content(item, f"{name}['content']")}

    def _check_keys(self, item: Any, name: str, allowed: tuple[str, ...]) -> None:
        if not isinstance(item, dict):
            raise QuestionError(f"{name} must be an object, not {_json_type(item)}")
        for key in item:
            if key not in allowed:
                raise QuestionError(
                    f"{name} has the key {str(key)[:_MAX_SHOWN]!r}, which a browser may not send; "
                    f"send only {' and '.join(map(repr, allowed))}"
                )

    def _content(self, item: dict[str, Any], name: str) -> str | list[dict[str, Any]]:
        content = item.get("content")
        if isinstance(content, str):
            return self._text(content, name)
        if not isinstance(content, list):
            raise QuestionError(
                f"{name} must be text or a list of parts, not {_json_type(content)}"
            )
        self.count(len(content))
        allow_images = self._images and item["role"] == "user"
        parts = [self._part(part, f"{name}[{i}]", allow_images) for i, part in enumerate(content)]
        if any(part["type"] == "image" for part in parts):
            return parts
        return "".join(part["text"] for part in parts)

    def _part(self, part: Any, name: str, allow_images: bool) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image" and allow_images:
            self._check_keys(part, name, ("type", "image"))
            return self._image(part.get("image"), f"{name}['image']")
        if kind == "image_url" and allow_images:
            self._check_keys(part, name, ("type", "image_url"))
            url, name = part.get("image_url"), f"{name}['image_url']"
            if isinstance(url, dict):
                self._check_keys(url, name, ("url",))
                url, name = url.get("url"), f"{name}['url']"
            return self._image(url, name)
        if kind != "text":
            expected = "text or an image" if allow_images else "text"
            raise QuestionError(f"{name} must be {expected}: {{'type': 'text', 'text': 'Hello'}}")
        self._check_keys(part, name, ("type", "text"))
        return {"type": "text", "text": self._text(part.get("text"), f"{name}['text']")}

    def _text(self, text: Any, name: str) -> str:
        if not isinstance(text, str):
            raise QuestionError(f"{name} must be text, not {_json_type(text)}")
        self._remaining_characters -= len(text)
        if self._remaining_characters < 0:
            raise QuestionError(
                f"the conversation is longer than {self._max_characters} characters; "
                "shorten the question or start a new conversation"
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # each model server refuses it with a different error
            raise QuestionError(
                f"{name} contains half a character (a lone surrogate); delete it"
            ) from None
        return text

    def _image(self, url: Any, name: str) -> dict[str, Any]:
        """Return the image with a new ``data:`` URL, whose type is detected from the bytes."""
        match = _DATA_URL.match(url) if isinstance(url, str) else None
        try:
            data = base64.b64decode(url[match.end() :], validate=True) if match else b""
            self._remaining_image_bytes -= len(data)
            if self._remaining_image_bytes < 0:
                raise QuestionError(f"the images are larger than {IMAGE_BYTES >> 20} MB in total")
            return {"type": "image", "image": image_url(data)}
        except QuestionError:
            raise
        except ValueError:  # invalid base64, or not an image
            raise QuestionError(
                f"{name} must be a data: URL, in base64, of a PNG, JPEG, GIF or WebP"
            ) from None


def _json_type(value: object) -> str:
    """Return the JSON type of a value, for an error text."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "text", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "an object")
