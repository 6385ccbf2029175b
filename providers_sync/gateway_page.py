"""How to use a running gateway, to be pasted: for the command line and for its page at ``/``."""

from __future__ import annotations

import html
import itertools
import re

from .dialects import DIALECTS, MODEL_ENDPOINTS, Dialect
from .printable import one_line
from .providers import PROVIDERS

PLACEHOLDER = re.compile(r"<(?:path:)?(\w+)>")
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;"
    "color-scheme:light dark}pre{overflow-x:auto;padding:.75rem 1rem;border:1px solid #8886;"
    "border-radius:6px;font-size:14px}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}"
)
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of the page: it runs no code and loads nothing."""
OFFICIAL = {
    "openai": 'openai.OpenAI(base_url="{root}/v1", api_key="any")',
    "anthropic": 'anthropic.Anthropic(base_url="{root}/anthropic", api_key="any")',
    "gemini": 'genai.Client(api_key="any", http_options={{"base_url": "{root}/gemini"}})',
    "ollama": 'ollama.Client(host="{root}")',
}
"""How the vendors' own clients are connected; ``openai``'s serves the Responses API, too."""
QUESTIONS = {
    "openai": 'client.responses.create(model="any", input="Hello").output_text',
    "anthropic": 'client.messages.create(model="any", max_tokens=99, messages=messages)'
    ".content[0].text",
    "gemini": 'client.models.generate_content(model="any", contents="Hello").text',
    "ollama": 'client.chat("any", messages).message.content',
}
"""How each of these clients asks for an answer's text; ``messages`` is the question."""
IMPORTS = {"gemini": "from google import genai"}
"""Of the clients whose module has another name than their protocol."""


def exports(root: str) -> list[str]:
    """Return a shell command for each protocol that sets the provider's address, without doubles.

    ``root`` is the gateway's address, without a slash at the end.
    """
    return list(
        dict.fromkeys(
            f"export {PROVIDERS[each.name].base_url_variable}={root}{each.base}"
            for each in DIALECTS
        )
    )


def python_lines(root: str) -> list[str]:
    """Return a program that asks this package's provider of each protocol."""
    names = [f"    {PROVIDERS[each.name].__name__}," for each in DIALECTS]
    asked = [f'print({_provider(each, root)}.complete("Hello"))' for each in DIALECTS]
    return ["from providers_sync import (", *names, ")", "", *asked]


def client_lines(root: str) -> list[str]:
    """Return a program that asks each of the official clients that the gateway serves."""
    served = [name for name in OFFICIAL if name in {each.name for each in DIALECTS}]
    imports = [IMPORTS.get(name, f"import {name}") for name in served]
    asked = [
        ("", f"client = {OFFICIAL[name].format(root=root)}", f"print({QUESTIONS[name]})")
        for name in served
    ]
    messages = 'messages = [{"role": "user", "content": "Hello"}]'
    return [*imports, "", messages, *itertools.chain.from_iterable(asked)]


def paths() -> list[str]:
    """Return the gateway's paths, each after its method."""
    served = [("POST", dialect.path) for dialect in DIALECTS]
    served += [(endpoint.method, endpoint.path) for endpoint in MODEL_ENDPOINTS]
    return [f"{method:<4} {PLACEHOLDER.sub(_shown, path)}" for method, path in served]


def _shown(placeholder: re.Match[str]) -> str:
    return {"version": "v1beta", "call": "MODEL:METHOD"}.get(placeholder[1], "NAME")


def plain_text(root: str, model: str) -> str:
    """Return the page for a terminal."""
    listed = [f"  {path}" for path in paths()]
    return "\n".join([_title(model), "", *exports(root), "", *listed, ""])


def page(root: str, model: str) -> str:
    """Return the page for a browser, with the same and with Python to paste."""
    sections = [
        ("Addresses, for a shell", exports(root)),
        ("With providers_sync", python_lines(root)),
        ("With the vendors' own clients", client_lines(root)),
        ("Paths", paths()),
    ]
    body = "".join(
        f"<h2>{html.escape(title)}</h2><pre>{html.escape(chr(10).join(lines))}</pre>"
        for title, lines in sections
    )
    title = html.escape(_title(model))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{title}</h1>{body}</html>"
    )


def _title(model: str) -> str:
    return f"providers_sync gateway, answering with {one_line(model)}"


def _provider(dialect: Dialect, root: str) -> str:
    kind = PROVIDERS[dialect.name]
    model = "" if kind.default_model else '"any", '
    return f'{kind.__name__}({model}base_url="{root}{dialect.base}")'
