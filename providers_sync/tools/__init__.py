"""Tools: plain functions that a model calls, from blocking code."""

from .prepare import prepare_run
from .run import Run
from .settings import Pause, RunSettings
from .tool import Tool

__all__ = ["Pause", "Run", "RunSettings", "Tool", "prepare_run"]
