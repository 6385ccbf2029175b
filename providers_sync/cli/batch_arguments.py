"""The arguments of ``batch`` that no other sub-command has."""

from __future__ import annotations

import argparse
import contextlib
import math

from ..errors import InvalidRequestError


def add_batch_arguments(command: argparse.ArgumentParser) -> None:
    """Add the files, and the options about rows, limits and the table."""
    add = command.add_argument
    add("input", metavar="IN", help="prompts: .csv, .tsv, .jsonl, .json, or text, one per line")
    add("output", metavar="OUT", help="the answers; run the same command again to resume")
    add("--template", metavar="TEXT", help='the prompt for each row: "Translate: {column}"')
    add("--table", metavar="FILE", help="also write the results as .csv, .tsv or .parquet")
    add(
        "--budget",
        metavar="N",
        type=float,
        help="stop after N tokens, or with --price after spending N",
    )
    add(
        "--price",
        metavar="IN,OUT",
        type=_price,
        help='per million tokens: 0.15,0.60; or "list" for list prices in US dollars',
    )
    add("--concurrency", metavar="N", type=int, default=8, help="requests at a time (default: 8)")
    add("--rate", metavar="N", type=float, help="maximum requests per minute")
    add("--skip-invalid", action="store_true", help="if some rows cannot be sent, send the rest")


def check_limits(options: argparse.Namespace) -> None:
    """Raise ``InvalidRequestError`` for a price without a budget, or a budget that needs one."""
    if options.price is not None and options.budget is None:
        raise InvalidRequestError("--price needs --budget, the amount of money to spend")
    if options.price is None and 0 < (options.budget or 0) < math.inf and options.budget % 1:
        raise InvalidRequestError(
            "--budget is a number of tokens; for an amount of money, add the prices per "
            "million tokens: --price 0.15,0.60, or --price list"
        )


def _price(text: str) -> tuple[float, float] | str:
    if text == "list":
        return text
    with contextlib.suppress(ValueError):
        read, written = map(float, text.split(","))
        return read, written
    raise argparse.ArgumentTypeError(f"must be list or two numbers, such as 0.15,0.60, not {text}")
