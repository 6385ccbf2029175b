"""The plugin of ``llm`` (docs/llm.md): makes every provider a model of its command line.

It is outside the package and imports it in the hook only, because ``llm`` loads every installed
plugin at each start, also for ``llm --version``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llm


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """Register the models of ours that the command or a file of ``llm`` names."""
    from providers_sync.llm_plugin import models

    for model in models():
        register(model)


def get_model(name: str) -> Any:
    """Return the model called ``name``, such as ``openai/qwen3``, for programs that use ``llm``.

    Raises ``InvalidRequestError`` for an unknown provider.
    """
    from providers_sync.llm_plugin import make_model

    return make_model(name)
