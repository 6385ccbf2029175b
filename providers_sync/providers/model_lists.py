"""``ListsModels``: the base of providers whose servers list their models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from .. import decoding
from ..config import NOT_GIVEN, NotGiven, Timeouts
from ..errors import MalformedStream
from ..stream import CancelToken
from .base import Provider


class ListsModels(Provider):
    """A provider with ``list_models``."""

    models_endpoint: ClassVar[str]
    """The path of the list, after ``base_url``."""

    @staticmethod
    def model_names(listed: Any) -> Iterable[str]:
        """Return the names in the JSON that the server sent."""
        return [str(model["id"]) for model in listed["data"]]

    def list_models(
        self,
        *,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        cancel: CancelToken | None = None,
    ) -> list[str]:
        """Return the names of the models that the server lists; raise like ``stream``.

        ``timeouts`` (in seconds), ``retry`` and ``cancel`` are those of ``stream``.
        """
        text = self._get(self.models_endpoint, timeouts, retry, cancel, self._names)
        names: list[str] = json.loads(text)
        return names

    def _names(self, body: bytes) -> str:
        """Return the model names of the response, as a JSON list."""
        try:
            listed = decoding.parse_json(body.decode("utf-8-sig", "replace"))
            names = [decoding.join_surrogates(name) for name in self.model_names(listed)]
        except (MalformedStream, *decoding.WRONG_SHAPE) as error:
            raise MalformedStream("the list of models does not follow the protocol") from error
        return json.dumps(names)
