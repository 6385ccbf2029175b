"""Tools: plain functions that a model calls, from blocking code."""

from .tool import InvalidArguments, Tool

__all__ = ["InvalidArguments", "Tool"]
