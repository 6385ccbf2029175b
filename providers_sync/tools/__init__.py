"""Tools: plain functions that a model calls, from blocking code."""

from .tool import InvalidArguments, Tool, as_tools

__all__ = ["InvalidArguments", "Tool", "as_tools"]
