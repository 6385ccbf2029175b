"""``ListsModels``: the base of providers whose servers list their models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from .. import decoding
from ..clock import monotonic
from ..config import NOT_GIVEN, NotGiven, Timeouts
from ..errors import APIStatusError, APITimeoutError, MalformedStream
from ..stream import CancelToken
from .base import Provider

_PAGES = 100
"""How many pages a list may have; real ones have one or two."""


class ListsModels(Provider):
    """A provider with ``list_models``."""

    models_endpoint: ClassVar[str]
    """The path of the list, after ``base_url``."""

    models_note: str = ""
    """What to know of the list, or where the names are if the server has none: for errors."""

    @staticmethod
    def model_names(listed: Any) -> Iterable[str]:
        """Return the names in the JSON that the server sent.

        Together sends the list without an object around it; Cohere calls it ``models`` and the
        model's id ``name``.

        Args:
            listed: The JSON.
        """
        if isinstance(listed, dict):
            listed = listed["data"] if "data" in listed else listed["models"]
        return [str(model["name"] if model.get("id") is None else model["id"]) for model in listed]

    @staticmethod
    def next_page(listed: Any) -> str:
        """Return what is added to the path for the next page; empty after the last one.

        Args:
            listed: The JSON of the page before.
        """
        return ""

    def list_models(
        self,
        *,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        cancel: CancelToken | None = None,
    ) -> list[str]:
        """Return the names of the models that the server lists, each once.

        Args:
            timeouts: As for ``stream``, in seconds; ``total`` covers all pages of the list
                together.
            retry: As for ``stream``.
            cancel: A token whose ``cancel()`` stops the call from any thread.

        Raises:
            ProviderError: What ``stream`` raises.
        """
        try:
            return self._all_names(self._call_timeouts(timeouts), retry, cancel)
        except (APIStatusError, MalformedStream) as error:
            if self.models_note:
                error.args = (f"{error}; {self.models_note}",)
            raise

    def _all_names(self, limits: Timeouts, retry: Any, cancel: CancelToken | None) -> list[str]:
        """Read the list page by page."""
        end = None if limits.total is None else monotonic() + limits.total
        names: list[str] = []
        page = ""
        for _ in range(_PAGES):
            text = self._get(self.models_endpoint + page, limits, retry, cancel, self._read_page)
            found, following = json.loads(text)
            names += found
            if not following or following == page:
                return list(dict.fromkeys(names))
            page = following
            if end is not None:
                remaining = end - monotonic()
                if remaining <= 0:
                    raise APITimeoutError(
                        "the list of models took longer than the total timeout", clock="total"
                    )
                limits = replace(limits, total=remaining)
        raise MalformedStream(f"the list of models has more than {_PAGES} pages")

    def _read_page(self, body: bytes) -> str:
        """Return the model names of the response and what leads to the next page, as JSON."""
        try:
            listed = decoding.parse_json(body.decode("utf-8-sig", "replace"))
            names = [decoding.join_surrogates(name) for name in self.model_names(listed)]
            page = self.next_page(listed)
        except (MalformedStream, *decoding.WRONG_SHAPE) as error:
            raise MalformedStream("the list of models does not follow the protocol") from error
        return json.dumps([names, page])
