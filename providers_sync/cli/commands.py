"""What each sub-command does; a command returns its exit code, and imports late what it uses."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import PROVIDERS, InvalidRequestError, Provider
from ..call_options import attachment_part, parse_options, parse_schema
from ..printable import one_line
from ..provider_selection import (
    Selection,
    make_provider,
    models_of,
    select_provider,
)
from ..providers import PRESETS
from ..providers.calls import NOT_PER_CALL
from .batch_arguments import check_limits
from .local_model import local_provider, what_is_missing

if TYPE_CHECKING:
    from ..testing import Script

DEFAULT_PORT = 8765


def report(text: str) -> None:
    """Print one line to standard error, as every error of the command line has it."""
    print(f"providers-sync: {one_line(text)}", file=sys.stderr)


def display_options(options: argparse.Namespace) -> dict[str, Any]:
    names = {"system": "system", "json": "as_json", "plain": "plain", "stats": "stats"}
    return {keyword: getattr(options, name) for name, keyword in names.items()}


def ask(options: argparse.Namespace) -> int:
    call = call_arguments(options)
    with chosen_tools(options) as tools, selected_provider(options) as provider:
        return ask_provider(provider, options, {**call, **tools})


def ask_provider(provider: Provider, options: argparse.Namespace, call: dict[str, Any]) -> int:
    """Ask the question of the command line, with what is piped in and attached."""
    from .. import terminal

    question: Any = terminal.question(options.question)
    parts = call.pop("parts")
    if parts:
        question = [{"type": "text", "text": question}, *parts]
    return terminal.ask(provider, question, **call, **display_options(options))


def call_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return options of the request, attached parts and schema; exit with 2 if one is wrong."""
    with usage_errors():
        schema = None if options.schema is None else parse_schema(options.schema)
        return {
            "options": parse_options(options.option, options.max_tokens),
            "parts": [attachment_part(name) for name in options.attachment],
            "into": schema,
        }


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Report what is wrong in the arguments as the parser does: one line, exit code 2."""
    try:
        yield
    except InvalidRequestError as error:
        report(str(error))
        raise SystemExit(2) from error


def chat(options: argparse.Namespace) -> int:
    from .. import terminal

    with usage_errors():
        request = parse_options(options.option, options.max_tokens)
        terminal.check_chat_options(request)
    with chosen_tools(options) as tools, selected_provider(options) as provider:
        return terminal.chat(
            provider,
            options=request,
            load=options.load,
            is_local=options.local,
            **tools,
            **display_options(options),
        )


@contextlib.contextmanager
def chosen_tools(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Load the functions and start the MCP servers that the options name."""
    if not (options.tool or options.mcp):
        if options.yes:
            raise InvalidRequestError("--yes needs --tool or --mcp")
        yield {}
        return
    from ..terminal.tools import open_tools

    with open_tools(options.tool, options.mcp) as tools:
        yield {"tools": tools, "yes": options.yes}


def batch(options: argparse.Namespace) -> int:
    from ..batch.command import run

    with usage_errors():
        schema = None if options.schema is None else parse_schema(options.schema)
        request = parse_options(options.option, options.max_tokens)
        for name in NOT_PER_CALL:
            if name in request:
                raise InvalidRequestError(f"-o {name}: this is not a request option")
        check_limits(options)
    if options.system is not None:
        request["system"] = options.system
    with contextlib.ExitStack() as stack:
        with usage_errors():
            selected = selected_provider(options, "--provider NAME", **request)
            provider = stack.enter_context(selected)
        return run(
            provider,
            options.input,
            options.output,
            table=options.table,
            skip_invalid=options.skip_invalid,
            concurrency=options.concurrency,
            rate=options.rate,
            template=options.template,
            into=schema,
            budget=options.budget,
            price=options.price,
        )


@contextlib.contextmanager
def selected_provider(
    options: argparse.Namespace, suggestion: str = "--provider NAME or --local", **request: Any
) -> Iterator[Provider]:
    """Make the selected provider; with ``--local``, start the local model for it.

    ``request`` has options for all requests of the provider, without ``--local``.
    """
    if options.local:
        with local_provider(options) as provider:
            yield provider
        return
    selection = select_provider(
        os.environ,
        provider=options.provider,
        model=options.model,
        base_url=options.base_url,
        options=suggestion,
    )
    if options.debug:
        report(f"using {selection.provider}, because of {selection.reason}")
    yield make_provider(selection, options.base_url, **request)


def serve(options: argparse.Namespace) -> int:
    if options.fault is not None:
        return _serve_fault(options)
    if options.engine == "local" and (missing := what_is_missing(options.model)):
        raise InvalidRequestError(missing)
    from ..gateway import find_token, serve
    from ..gateway_page import exports
    from ..terminal.spinner import show_spinner

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
            report("every request must send the token as its API key")
        gateway.wait()
    return 0


def _serve_fault(options: argparse.Namespace) -> int:
    from ..testing import FAULTS

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
    fault = FAULTS[options.fault]
    about = f"it {fault.about}."
    serve_script(fault, "A server with this fault is", about, options.host, options.port)
    return 0


def serve_script(script: Script, what: str, about: str, host: str, port: int) -> None:
    """Serve a script until Ctrl-C; ``what`` and ``about`` are printed around the address."""
    from ..testing import serve

    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(serve(script, host=host, port=port, keep=0))
        except OSError as error:
            raise InvalidRequestError(
                f"cannot listen on {host} port {port} ({error}); --port 0 picks a free port"
            ) from error
        print(f"{what} at {server.url} until Ctrl-C: {about}")
        for variable in dict.fromkeys(kind.base_url_variable for kind in PROVIDERS.values()):
            print(f"export {variable}={server.url}")
        sys.stdout.flush()
        threading.Event().wait()


def _best_engine(model: str | None) -> str:
    missing = what_is_missing(model)
    if not missing:
        return "local"
    if model is not None:
        raise InvalidRequestError(missing)
    report(f"{missing}; without it, the echo engine answers")
    return "echo"


def doctor(options: argparse.Namespace) -> int:
    from .. import doctor

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


def models(options: argparse.Namespace) -> int:
    found = select_provider(os.environ, provider=options.provider, base_url=options.base_url)
    if options.debug:
        report(f"using {found.provider}, because of {found.reason}")
    selection = Selection(found.provider, None, found.reason)  # any model: it is not asked
    from ..terminal.spinner import show_spinner

    with make_provider(selection, options.base_url) as provider:
        with show_spinner("asking for the list"):
            names = models_of(provider)
        for name in names:
            print(one_line(name))
        sys.stdout.flush()
        note = getattr(provider, "models_note", "")
        if note or not names:
            report(note or f"{provider.base_url} lists no models")
    return 0


def providers(options: argparse.Namespace) -> int:
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
