"""Ask a question through each of the historical clients; run by ``.ci/historical``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiohttp import ClientSession
from g4f.Provider import AI365VIP
from g4f.Provider.deprecated import CodeLinkAva, Vitalentum

WRITTEN_IN = "https://ava-alpha-api.codelink.io"
"""CodeLinkAva's address, which its code does not let anybody change."""
QUESTION = "Почему 😀?"
MESSAGES = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": QUESTION},
]


async def ask(kind: Any, messages: list[dict[str, str]]) -> None:
    """Print the chunks of an answer, and check that together they are the echo's."""
    answer = kind.create_async_generator(model="gpt-3.5-turbo", messages=messages)
    chunks = [chunk async for chunk in answer]
    print(f"{kind.__name__}: {chunks}")
    if "".join(chunks) != f"You said: {QUESTION}":
        sys.exit(f"{kind.__name__} has another answer")


def main() -> None:
    """Take the three addresses from the command line."""
    Vitalentum.url, codelinkava_url, AI365VIP.url = sys.argv[1:]
    post = ClientSession.post

    def post_here(session: ClientSession, url: str, **options: Any) -> Any:
        return post(session, url.replace(WRITTEN_IN, codelinkava_url), **options)

    ClientSession.post = post_here  # type: ignore[method-assign]
    asyncio.run(ask(Vitalentum, MESSAGES))
    asyncio.run(ask(CodeLinkAva, MESSAGES))
    asyncio.run(ask(AI365VIP, MESSAGES[-1:]))


if __name__ == "__main__":
    main()
