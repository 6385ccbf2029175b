"""``Recorded``: a provider whose answers are kept in a file, and played from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from ..config import Timeouts, seconds
from ..errors import InvalidRequestError
from ..providers.attempts import Readings
from ..providers.base import Provider
from ..providers.settings import retry_policy_of
from ..stream import Channel, Source
from ..types import Prompt
from .file import RecordingError, RecordingFile
from .tape import Tape, finder

MODES = ("auto", "record", "replay")
_PUBLISHED = (
    *("url", "working", "supports_gpt_35_turbo", "default_model", "models", "model_aliases"),
    *("api_endpoint", "protocol", "takes_prefix", "get_model", "get_models"),
)


class Recorded(Provider):
    """A provider that records the answers of another provider, or plays recorded ones:

        provider = Recorded(OpenAICompatible("gpt-6-luna"), "answers.jsonl")
        print(provider.complete("Why do cats purr?"))

    A recording belongs to a request: its address and its body, with messages, model and options,
    but not its key and headers. A played answer goes through the same decoders as one from the
    network, and has the same chunks, outcome, error and partial text. It comes at once, or at the
    recorded pace.

    - ``mode="auto"``: plays answers that are whole (``is_whole``), and requests and records all
      others: a cache for scripts and notebooks. The second equal request of this object gets the
      second recording, and so on.
    - ``mode="replay"``: nothing is sent. The n-th equal request gets the n-th recording, failed
      ones too; a request without one raises ``RecordingError``, which shows what differs.
    - ``mode="record"``: everything is sent, and replaces what the file has for the request.

    Only its owner can read the file. It holds no key; several processes may append to it.

    Args:
        provider: The provider whose answers are recorded.
        path: The file, in JSON Lines format.
        mode: ``auto``, ``record`` or ``replay``.
        max_age: Seconds after which an answer is requested again in ``auto``.
        paced: Whether to play at the pace of the recording.

    Raises:
        InvalidRequestError: For invalid settings.
        RecordingError: For a file that cannot be used.
    """

    url = api_endpoint = default_base_url = base_url_variable = ""
    instance_example = "Recorded(provider, path)"
    remedy = 'use mode="auto"'
    """How a request without a recording gets one, for errors."""

    def __init__(
        self,
        provider: Provider,
        path: str | os.PathLike[str],
        mode: Literal["auto", "record", "replay"] = "auto",
        *,
        max_age: float | None = None,
        paced: bool = False,
    ) -> None:
        if not isinstance(provider, Provider) or isinstance(provider, Recorded):
            raise InvalidRequestError(f"Recorded needs a provider to record, not {provider!r}")
        if mode not in MODES:
            raise InvalidRequestError(f"mode must be one of {MODES}, not {mode!r}")
        name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
        if not isinstance(name, str) or not name or "\0" in name:
            raise InvalidRequestError(f"path must be the path of a file, not {path!r}")
        if not isinstance(paced, bool):
            raise InvalidRequestError("paced must be True or False")
        self.provider = provider
        self.path = name
        self._absolute_path = os.path.abspath(name)  # a program may change its folder
        self.mode = mode
        self.model, self.base_url = provider.model, provider.base_url
        self._retry = retry_policy_of(provider)  # for a batch, which retries by itself
        self._max_age = None if max_age is None else seconds(max_age, "max_age")
        self._paced = paced
        self._files: dict[int, RecordingFile] = {}
        self.errors: list[RecordingError] = []
        """What ``replay`` has raised, because the program may have handled it."""
        vars(self).update(
            {name: getattr(provider, name) for name in _PUBLISHED if hasattr(provider, name)}
        )
        if mode != "replay":
            self._file().check()
        if mode != "record":
            self._file().load()  # a large file takes time, which is not that of a call

    @property
    def supports_tools(self) -> bool:  # type: ignore[override]
        """Whether the protocol of the provider has tools."""
        return self.provider.supports_tools

    def _plan_call(
        self,
        messages: Prompt,
        model: str | None,
        options: dict[str, Any],
        **settings: Any,
    ) -> tuple[Source, Timeouts, str]:
        source, effective_timeouts, resolved_model = self.provider._plan_call(
            messages, model, options, **settings
        )

        def recorded(channel: Channel) -> Readings:
            outer, channel.tape = channel.tape, self._tape()
            try:
                yield from source(channel)
            finally:
                channel.tape = outer

        return recorded, effective_timeouts, resolved_model

    def _has_tools(self, options: Mapping[str, Any]) -> bool:
        return self.provider._has_tools(options)

    def _tape(self) -> Tape:
        file = self._file()
        find = finder(file, self.mode, self._max_age, self._unknown)
        return Tape(
            file,
            find,
            paced=self._paced,
            waits=self._paced or self.mode != "replay",
        )

    def _unknown(self, reason: str) -> RecordingError:
        error = RecordingError(f"{self.path!r} {reason}; to record it, {self.remedy}")
        self.errors.append(RecordingError(str(error)))  # without the traceback, and what it holds
        return error

    def _file(self) -> RecordingFile:
        """Return the file of this process: a lock that was held during a fork stays locked."""
        pid = os.getpid()
        if pid not in self._files:
            self._files.setdefault(pid, RecordingFile(self._absolute_path))
        return self._files[pid]

    def list_models(self, **settings: Any) -> list[str]:
        """Return what the provider's ``list_models`` returns: the list is not recorded.

        Args:
            **settings: Those of the provider's ``list_models``.

        Raises:
            InvalidRequestError: In ``replay``, where nothing is sent.
        """
        if self.mode == "replay":
            raise InvalidRequestError(
                "the list of models is not recorded; for the server's, call .provider.list_models()"
            )
        names: list[str] = self.provider.list_models(**settings)  # type: ignore[attr-defined]
        return names

    def close(self) -> None:
        """Close the idle connections of the provider."""
        self.provider.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "errors": []}

    def __getattr__(self, name: str) -> Any:
        """Return an attribute that only the provider has."""
        if name.startswith("_") or name == "provider":
            raise AttributeError(name)
        return getattr(self.provider, name)

    def __repr__(self) -> str:
        return f"Recorded({self.provider!r}, {self.path!r}, mode={self.mode!r})"
