"""Tools: plain functions that a model calls, from blocking code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .tool import InvalidArguments, Tool

if TYPE_CHECKING:
    from .mcp_servers import mcp

__all__ = ["InvalidArguments", "Tool", "mcp"]


def __getattr__(name: str) -> Any:
    if name == "mcp":
        from .mcp_servers import mcp

        return mcp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
