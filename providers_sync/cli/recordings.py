"""The commands ``record`` and ``replay``: keep answers in a file, and show or serve them again."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from .. import InvalidRequestError, Provider
from ..printable import one_line
from .commands import (
    DEFAULT_PORT,
    ask_provider,
    call_arguments,
    chosen_tools,
    display_options,
    selected_provider,
    serve_script,
)

if TYPE_CHECKING:
    from ..recording import Exchange

_ASKING = (
    *("provider", "model", "base_url", "system", "tool", "mcp", "yes"),
    *("option", "max_tokens", "attachment", "schema"),
)
_LETTERS = {"option": "-o", "attachment": "-a"}
_SHOWING = ("plain", "json", "stats")
SHOWN_MODELS = 8


def record(options: argparse.Namespace) -> int:
    from ..recording import Recorded, RecordingError
    from ..recording.file import RecordingFile

    file = RecordingFile(options.file)
    file.check()
    file.load()  # raises for a file that holds something else
    call = call_arguments(options)
    with chosen_tools(options) as tools, selected_provider(options) as provider:
        size = _size(options.file)
        recorded = Recorded(provider, options.file, "record")
        code = ask_provider(recorded, options, {**call, **tools})
    file.load()  # waits until everything is written
    if code == 0 and _size(options.file) == size:
        raise RecordingError(f"the answer is not in {options.file}: it could not be written")
    return code


def _size(path: str) -> int:
    return os.stat(path).st_size if os.path.exists(path) else 0


def replay(options: argparse.Namespace) -> int:
    from .recording_list import WIDE, recordings_of, table

    _check(options)
    exchanges = recordings_of(options.file)
    if options.question is not None:
        return _answer(options, exchanges)
    if options.number is not None:
        return _show(options, exchanges)
    if options.serve:
        return _serve(options, exchanges)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    for line in table(exchanges, columns):
        print(line)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise ``InvalidRequestError`` for options that do not fit together."""
    uses = (options.question is not None, options.number is not None, options.serve)
    if sum(uses) > 1:
        raise InvalidRequestError("choose one of: a question, --number N, --serve")
    needs = [(_ASKING, uses[:1], "a question"), (_SHOWING, uses[:2], "a question or --number N")]
    needs += [(("paced",), uses, "a question, --number N or --serve"), (("port",), uses[2:], "")]
    for names, fitting, what in needs:
        for name in () if any(fitting) else names:
            if getattr(options, name) not in (None, []) and getattr(options, name) is not False:
                option = _LETTERS.get(name, "--" + name.replace("_", "-"))
                raise InvalidRequestError(f"{option} needs {what or '--serve'}")


def _answer(options: argparse.Namespace, exchanges: list[Exchange]) -> int:
    """Answer a question from the file."""
    from ..recording import Recorded

    call = call_arguments(options)
    with (
        chosen_tools(options) as tools,
        selected_provider(options, "--provider NAME, as for the recording") as provider,
    ):
        _set_recorded_model(provider, exchanges)
        recorded = Recorded(provider, options.file, "replay", paced=options.paced)
        recorded.remedy = "use `providers-sync record`"
        return ask_provider(recorded, options, {**call, **tools})


def _set_recorded_model(provider: Provider, exchanges: list[Exchange]) -> None:
    """Give ``provider`` the only model recorded at its address: the server is not asked."""
    from ..providers.model_lists import ListsModels
    from .recording_list import model_of

    if not isinstance(provider, ListsModels) or provider.model or provider.default_model:
        return
    here = [each for each in exchanges if each.request.url.startswith(provider.base_url)]
    names = list(dict.fromkeys(filter(None, map(model_of, here or exchanges))))
    if len(names) == 1:
        provider.model = names[0]
        return
    shown = ", ".join(names[:SHOWN_MODELS]) + (", …" if len(names) > SHOWN_MODELS else "")
    raise InvalidRequestError(
        f"a request needs a model: use --model NAME; the file has {shown or 'none'}"
    )


def _show(options: argparse.Namespace, exchanges: list[Exchange]) -> int:
    """Show the recording with a number."""
    from .. import terminal
    from .one_recording import OneRecording

    if not 1 <= options.number <= len(exchanges):
        raise InvalidRequestError(
            f"there is no recording {options.number}: {options.file} has 1 to {len(exchanges)}"
        )
    recorded = OneRecording(exchanges[options.number - 1], options.file, paced=options.paced)
    shown: dict[str, Any] = {**display_options(options), "system": None}
    return terminal.ask(recorded, "", **shown)


def _serve(options: argparse.Namespace, exchanges: list[Exchange]) -> int:
    from ..testing.recordings import RecordedAnswers

    count = f"{len(exchanges)} recording{'s' if len(exchanges) > 1 else ''}"
    serve_script(
        RecordedAnswers(exchanges, paced=options.paced),
        f"Serving {one_line(options.file)} ({count})",
        "a recorded request gets its own answer, any other request the next one in the file.",
        "127.0.0.1",
        DEFAULT_PORT if options.port is None else options.port,
    )
    return 0
