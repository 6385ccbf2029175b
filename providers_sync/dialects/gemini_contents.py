"""Reads the contents of Gemini's requests into messages in OpenAI's form.

Source: Gemini API reference, ``Content`` and ``Part``; guide "Function calling".
"""

from __future__ import annotations

import json
from typing import Any

from ..types import Message, Messages
from . import validation
from .gemini_fields import as_list, read_fields
from .open_calls import OpenCalls
from .types import RequestError

DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
"""What a part may hold; each part holds one of them."""
BESIDE_DATA = ("thought", "thoughtSignature", "partMetadata")
"""Signatures mean something only to the service that has made them."""
UNSUPPORTED = (
    *("executableCode", "codeExecutionResult", "videoMetadata", "mediaResolution", "toolCall"),
    *("toolResponse", "audioTranscription", "mediaProcessing", "speechMetadata"),
    "documentMetadata",
)
ALLOWED = {
    "system": ("text",),
    "user": ("text", "inlineData", "fileData", "functionResponse"),
    "model": ("text", "functionCall"),
}
"""The kinds of parts by context."""
RESULT_KEYS = ("output", "result", "error")
"""An object with nothing else wraps a function's result: the first is the reference's name, the
second the official client's."""


def read_instruction(value: Any) -> Messages:
    """Return the system message, if there is one."""
    if value is None:
        return []
    parts = _parts(value, "systemInstruction", "system")
    text = "\n\n".join(part["text"] for part in parts if part["text"])
    return [{"role": "system", "content": text}] if text else []


def read_contents(value: Any) -> Messages:
    """Return the contents as messages: each function response becomes a message of its own."""
    contents = validation.check_list(as_list(value), "contents")
    if not contents:
        raise RequestError("contents must be a list with at least one content")
    reader = _ContentReader()
    return [message for i, each in enumerate(contents) for message in reader.read(each, i)]


class _ContentReader:
    """Reads contents in their order."""

    def __init__(self) -> None:
        self._calls = OpenCalls()

    def read(self, value: Any, index: int) -> Messages:
        name = f"contents[{index}]"
        role = validation.check_object(value, name).get("role") or "user"
        if role not in ("user", "model", "function"):
            raise RequestError(f"{name}.role must be user or model")
        context = "model" if role == "model" else "user"
        parts = _parts(value, name, context)
        return [self._model_turn(parts, name)] if role == "model" else self._user_turn(parts, name)

    def _model_turn(self, parts: list[dict[str, Any]], name: str) -> Message:
        texts = [part["text"] for part in parts if "text" in part and not part.get("thought")]
        thoughts = "".join(part["text"] for part in parts if "text" in part and part.get("thought"))
        calls = [
            self._call(part["functionCall"], f"{name}.parts[{i}].functionCall")
            for i, part in enumerate(parts)
            if "functionCall" in part
        ]
        text = "".join(texts)
        message: Message = {"role": "assistant", "content": text if text or not calls else None}
        if calls:
            message["tool_calls"] = calls
        if thoughts:
            message["reasoning_content"] = thoughts
        return message

    def _user_turn(self, parts: list[dict[str, Any]], name: str) -> Messages:
        messages: Messages = []
        content: list[dict[str, Any]] = []
        for i, part in enumerate(parts):
            place = f"{name}.parts[{i}]"
            if "functionResponse" in part:
                messages.append(
                    self._response(part["functionResponse"], f"{place}.functionResponse")
                )
            elif "text" in part:
                content.append({"type": "text", "text": part["text"]})
            else:
                content.append(_file(part, place))
        if len(content) == 1 and content[0]["type"] == "text":
            return [*messages, {"role": "user", "content": content[0]["text"]}]
        return [*messages, {"role": "user", "content": content}] if content else messages

    def _call(self, value: Any, name: str) -> dict[str, Any]:
        """Return a call in OpenAI's form, with an id if it has none."""
        call = read_fields(value, name, ("id", "name", "args"), ("partialArgs", "willContinue"))
        function = validation.check_name(call.get("name"), f"{name}.name", "a function")
        arguments = validation.check_object(call.get("args", {}), f"{name}.args")
        call_id = validation.check_text(call.get("id", ""), f"{name}.id")
        as_text = json.dumps(arguments, ensure_ascii=False)
        return {
            "id": self._calls.add(call_id, function),
            "type": "function",
            "function": {"name": function, "arguments": as_text},
        }

    def _response(self, value: Any, name: str) -> Message:
        known = ("id", "name", "response", "parts")
        response = read_fields(value, name, known, ("willContinue", "scheduling"))
        function = validation.check_name(response.get("name"), f"{name}.name", "a function")
        call_id = validation.check_text(response.get("id", ""), f"{name}.id")
        call_id = self._calls.take(call_id, function)
        if not call_id:
            raise RequestError(
                f"{name} does not match any call: the contents before it must have a functionCall "
                f"named {function!r} for each response"
            )
        result = validation.check_object(response.get("response", {}), f"{name}.response")
        message = {"role": "tool", "tool_call_id": call_id, **_result(result)}
        if "parts" in response:
            files = validation.check_list(response["parts"], f"{name}.parts")
            message["content"] = [
                {"type": "text", "text": message["content"]},
                *(_result_file(each, f"{name}.parts[{i}]") for i, each in enumerate(files)),
            ]
        return message


def _result(value: dict[str, Any]) -> dict[str, Any]:
    """Return a function's result as the content of a message; an error is marked as one.

    >>> _result({"output": "2"}), _result({"result": [1]}), _result({"a": 1, "b": 2})
    ({'content': '2'}, {'content': '[1]'}, {'content': '{"a": 1, "b": 2}'})
    >>> _result({"error": "no"})
    {'content': 'no', 'is_error': True}
    """
    inner: Any = value
    is_error = False
    if len(value) == 1 and (key := next(iter(value))) in RESULT_KEYS:
        inner, is_error = value[key], key == "error"
    content = inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
    # OpenAI's protocol does not have this field; an engine that knows it may use it.
    return {"content": content, "is_error": True} if is_error else {"content": content}


def _parts(value: Any, name: str, context: str) -> list[dict[str, Any]]:
    fields = read_fields(value, name, ("role", "parts"))
    parts = as_list(fields.get("parts"))
    if not isinstance(parts, list) or not parts:
        raise RequestError(f"{name}.parts must be a list with at least one part")
    return [_part(each, f"{name}.parts[{i}]", context) for i, each in enumerate(parts)]


def _part(value: Any, name: str, context: str) -> dict[str, Any]:
    part = read_fields(value, name, (*DATA, *BESIDE_DATA), UNSUPPORTED)
    kinds = [kind for kind in DATA if kind in part]
    if len(kinds) != 1:
        raise RequestError(f"{name} must have exactly one of {', '.join(DATA)}")
    if kinds[0] not in ALLOWED[context]:
        allowed = ", ".join(ALLOWED[context])
        raise RequestError(f"{name}.{kinds[0]} is not supported here: use {allowed}")
    validation.check_flag(part, "thought")
    if "text" in part:
        validation.check_text(part["text"], f"{name}.text")
    return part


def _result_file(value: Any, name: str) -> dict[str, Any]:
    part = read_fields(value, name, ("inlineData", "fileData"))
    if len(part) != 1:
        raise RequestError(f"{name} must have exactly one of inlineData, fileData")
    return _file(part, name)


def _file(part: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an image in OpenAI's form."""
    (kind,) = part.keys() & {"inlineData", "fileData"}
    name = f"{name}.{kind}"
    source = "data" if kind == "inlineData" else "fileUri"
    fields = read_fields(part[kind], name, ("mimeType", source, "displayName"))
    mime_type = validation.check_text(fields.get("mimeType", ""), f"{name}.mimeType")
    text = validation.check_text(fields.get(source), f"{name}.{source}")
    is_image = mime_type.startswith("image/") or (kind == "fileData" and not mime_type)
    if not is_image:
        raise RequestError(
            f"{name}.mimeType must be an image type: this gateway accepts no other files"
        )
    if kind == "inlineData":
        # Google's own clients send the alphabet for URLs, and the service takes both.
        text = f"data:{mime_type};base64,{text.replace('-', '+').replace('_', '/')}"
    elif not text.startswith(("http://", "https://")):
        raise RequestError(f"{name}.fileUri must begin with http:// or https://")
    return {"type": "image_url", "image_url": {"url": text}}
