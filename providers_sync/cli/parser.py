"""The sub-commands, their arguments and their help."""

from __future__ import annotations

import argparse
import contextlib
import functools
from typing import Any, NoReturn

from .. import PROVIDERS, __version__
from ..printable import one_line
from ..providers import PRESETS
from . import commands, recordings
from .batch_arguments import add_batch_arguments
from .commands import DEFAULT_PORT

LOG_LEVELS = ("debug", "info", "warning")
NAMES = sorted({*PROVIDERS, *PRESETS})


class _CommandParser(argparse.ArgumentParser):
    """Argument parser that reports a usage error in one line; its help fits on one screen."""

    def __init__(self, **settings: Any) -> None:
        formatter = functools.partial(argparse.HelpFormatter, max_help_position=26)
        super().__init__(**{"formatter_class": formatter, **settings})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options; of words that are too many, say what may have been meant."""
        options, words = self.parse_known_args(args, namespace)
        if words:
            is_question = getattr(options, "question", None) and not words[0].startswith("-")
            hint = ": put the question in quotes" if is_question else ""
            self.error(f"unrecognized arguments: {' '.join(words)}{hint}")
        return options

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"providers-sync: {one_line(message)}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    parser = _CommandParser(
        prog="providers-sync", description="Streamed chat answers, from any provider."
    )
    parser.add_argument("--version", action="version", version=f"providers-sync {__version__}")
    common = _CommandParser(add_help=False)
    # --debug and --log may come before or after the sub-command.
    for target, default in ((parser, False), (common, argparse.SUPPRESS)):
        target.add_argument(
            "--debug", action="store_true", default=default, help="show the traceback of an error"
        )
        target.add_argument(
            "--log",
            metavar="LEVEL",
            type=str.lower,
            choices=LOG_LEVELS,
            default=None if target is parser else default,
            help="show the log: debug, info or warning",
        )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    ask = subparsers.add_parser(
        "ask",
        parents=[common],
        help="ask one question and stream the answer",
        usage="%(prog)s [question] [options]",
    )
    _add_ask(ask)
    ask.set_defaults(run=commands.ask)

    chat = subparsers.add_parser(
        "chat",
        parents=[common],
        help="start an interactive conversation",
        usage="%(prog)s [options]",
    )
    chat.add_argument("--load", metavar="FILE", help="continue a saved conversation")
    _add_provider(chat)
    _add_local(chat)
    _add_request(chat)
    _add_tools(chat)
    _add_display(chat)
    chat.set_defaults(run=commands.chat)

    batch = subparsers.add_parser(
        "batch",
        parents=[common],
        help="answer a file of prompts; run it again to resume",
        usage="%(prog)s IN OUT [options]",
    )
    _add_provider(batch, "for rows without one; ")
    _add_request(batch)
    _add_schema(batch)
    add_batch_arguments(batch)
    batch.set_defaults(run=commands.batch, local=False)

    record = subparsers.add_parser(
        "record",
        parents=[common],
        help="ask one question and store the answer in a file",
        usage="%(prog)s FILE [question] [options]",
    )
    record.add_argument(
        "file",
        metavar="FILE",
        help="where to store the answer; it replaces an earlier one to the same request",
    )
    _add_ask(record)
    record.set_defaults(run=recordings.record)

    replay = subparsers.add_parser(
        "replay",
        parents=[common],
        help="list, show or serve recorded answers",
        description="Without a question, --number or --serve, list the answers in the file.",
        usage="%(prog)s FILE [question] [options]",
    )
    _add_replay(replay)
    replay.set_defaults(run=recordings.replay)

    serve = subparsers.add_parser("serve", parents=[common], help="run the gateway on this machine")
    serve.add_argument(
        "--engine",
        choices=["echo", "local"],
        help="what generates the answers (default: local if it is installed)",
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1); others require a token",
    )
    serve.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        help=f"port to listen on (default: {DEFAULT_PORT}); 0 picks a free port",
    )
    serve.add_argument("--model", metavar="PATH", help="weights (.gguf) for the local engine")
    serve.add_argument(
        "--context-size",
        type=int,
        metavar="N",
        help="maximum tokens of prompt and answer, for the local engine (default: 4096)",
    )
    serve.add_argument(
        "--token",
        help="API key that clients must send; visible to others in ps, so prefer --token-file",
    )
    serve.add_argument(
        "--token-file",
        metavar="FILE",
        help="file whose first line is the token; default: PROVIDERS_SYNC_TOKEN",
    )
    serve.add_argument(
        "--fault",
        metavar="NAME",
        help="simulate this server fault instead; `list` shows all faults",
    )
    serve.set_defaults(run=commands.serve)

    doctor = subparsers.add_parser(
        "doctor", parents=[common], help="find out why a provider does not answer or stream"
    )
    doctor.add_argument(
        "--provider",
        type=str.lower,
        nargs="+",
        action="extend",
        metavar="NAME",
        help="names listed by `providers-sync providers`; default: those that the environment "
        "configures, or all of them",
    )
    doctor.add_argument(
        "--base-url", metavar="URL", help="address of the provider; requires exactly one --provider"
    )
    doctor.add_argument(
        "--model",
        metavar="NAME",
        help="model to ask (default: PROVIDERS_SYNC_MODEL, or the first chat model that the "
        "server lists)",
    )
    doctor.set_defaults(run=commands.doctor)

    models = subparsers.add_parser(
        "models", parents=[common], help="list the models of a provider's server"
    )
    _add_address(models)
    models.set_defaults(run=commands.models)

    table = subparsers.add_parser("providers", parents=[common], help="list the providers")
    table.set_defaults(run=commands.providers)
    return parser


def _port(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 0 <= (port := int(text)) <= 65535:
            return port
    raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text}")


def _add_ask(command: argparse.ArgumentParser) -> None:
    """Add the arguments of ``ask`` and ``record``."""
    command.add_argument("question", nargs="?", help="the question; piped input is put before it")
    _add_provider(command)
    _add_local(command)
    _add_request(command)
    _add_content(command)
    _add_tools(command)
    _add_display(command)


def _add_replay(command: argparse.ArgumentParser) -> None:
    """Add the arguments of ``replay``."""
    command.add_argument("file", metavar="FILE", help="a file written by `providers-sync record`")
    command.add_argument(
        "question",
        nargs="?",
        help="answer this question from the file",
    )
    command.add_argument("--number", metavar="N", type=int, help="show the answer with this number")
    command.add_argument(
        "--serve",
        action="store_true",
        help="serve the answers to any client on this machine",
    )
    command.add_argument(
        "--port",
        type=_port,
        help=f"port for --serve (default: {DEFAULT_PORT}); 0 picks a free port",
    )
    command.add_argument(
        "--paced", action="store_true", help="play the answer with its original timing"
    )
    _add_provider(command)
    _add_request(command)
    _add_content(command)
    _add_tools(command)
    _add_display(command)
    command.set_defaults(local=False)


def _add_provider(command: argparse.ArgumentParser, rows: str = "") -> None:
    """Add the options of ``ask``, ``chat`` and ``batch`` that select the provider and model."""
    _add_address(command)
    default = "default: PROVIDERS_SYNC_MODEL, or the only model"
    command.add_argument("--model", metavar="NAME", help=rows + default)


def _add_local(command: argparse.ArgumentParser) -> None:
    command.add_argument("--local", action="store_true", help="ask a small model on this machine")


def _add_address(command: argparse.ArgumentParser) -> None:
    """Add the options that select the provider and its address."""
    command.add_argument(
        "--provider",
        type=str.lower,
        choices=NAMES,
        metavar="NAME",
        help="a name listed by `providers-sync providers`",
    )
    command.add_argument(
        "--base-url",
        metavar="URL",
        help="address of the server (default protocol: OpenAI's)",
    )


def _add_request(command: argparse.ArgumentParser) -> None:
    """Add the options of ``ask`` and ``chat`` that go into the request."""
    command.add_argument("--system", metavar="TEXT", help="the system message")
    command.add_argument(
        "-o",
        dest="option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a request option: temperature=0.2 (repeatable)",
    )
    command.add_argument(
        "--max-tokens", metavar="N", type=int, help="maximum length of the answer, in tokens"
    )


def _add_content(command: argparse.ArgumentParser) -> None:
    """Add the options of ``ask`` for what is asked besides text, and for a typed answer."""
    command.add_argument(
        "-a",
        dest="attachment",
        metavar="FILE",
        action="append",
        default=[],
        help="an image, PDF or audio file, or its URL (repeatable)",
    )
    _add_schema(command)


def _add_schema(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--schema",
        metavar="SCHEMA",
        help='answer in JSON: "name, age int", or a schema file',
    )


def _add_display(command: argparse.ArgumentParser) -> None:
    """Add the options of ``ask`` and ``chat`` for the output."""
    command.add_argument(
        "--plain", action="store_true", help="print plain text instead of rendered Markdown"
    )
    command.add_argument(
        "--json", action="store_true", help="print events, one JSON object per line"
    )
    command.add_argument(
        "--stats", action="store_true", help="print outcome, chunks, seconds and tokens"
    )


def _add_tools(command: argparse.ArgumentParser) -> None:
    """Add the options of ``ask`` and ``chat`` for the tools that the model may call."""
    command.add_argument(
        "--tool",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="let the model call this function (repeatable)",
    )
    command.add_argument(
        "--mcp",
        metavar="SERVER",
        action="append",
        default=[],
        help="use the tools of this MCP server, a URL or a command",
    )
    command.add_argument("--yes", action="store_true", help="call tools without asking you")
