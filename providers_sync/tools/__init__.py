"""Tools: plain functions that a model calls, from blocking code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .prepare import prepare_run
from .run import Run
from .settings import Pause, RunSettings
from .tool import Tool

if TYPE_CHECKING:
    from .mcp_servers import mcp

__all__ = ["Pause", "Run", "RunSettings", "Tool", "mcp", "prepare_run"]


def __getattr__(name: str) -> Any:
    if name == "mcp":
        from .mcp_servers import mcp

        return mcp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
