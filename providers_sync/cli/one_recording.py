"""``OneRecording``: a provider that plays one recording, whatever it is asked."""

from __future__ import annotations

from .. import PROVIDERS, InvalidRequestError, Provider
from ..providers.model_lists import ListsModels
from ..recording import Exchange, Recorded
from ..recording.file import RecordingFile
from .recording_list import model_of

ADDRESS = "http://recording.invalid"


class OneRecording(Recorded):
    """Plays a recording through the decoder that has read it; nothing is sent.

    Raises ``InvalidRequestError`` for a recording that a class of another program has decoded.
    """

    def __init__(self, exchange: Exchange, path: str, *, paced: bool) -> None:
        self._only = _OneExchange(path, exchange)
        super().__init__(_provider_of(exchange), path, "replay", paced=paced)

    def _file(self) -> RecordingFile:
        return self._only


class _OneExchange(RecordingFile):
    """A file that has the same exchange for every request."""

    def __init__(self, path: str, exchange: Exchange) -> None:
        super().__init__(path)
        self._exchange = exchange

    def load(self) -> None:
        """Do nothing: it is loaded."""

    def nth(self, fingerprint: str) -> tuple[Exchange | None, int]:
        """Return the exchange."""
        return self._exchange, 1


def _provider_of(exchange: Exchange) -> Provider:
    """Return a provider whose decoder is that of the recording."""
    for kind in PROVIDERS.values():
        model = model_of(exchange) or "recorded" if issubclass(kind, ListsModels) else None
        # With a key, a recorded 401 does not advise to set one.
        provider = kind(model, base_url=ADDRESS, api_key="not-sent", retry=1, timeouts=None)
        if exchange.decoder in ("", type(provider.decoder()).__name__):
            return provider
    raise InvalidRequestError(
        f"the decoder of this recording is {exchange.decoder!r}, which this command does not have: "
        "play it in a program, with providers_sync.recording.Recorded"
    )
