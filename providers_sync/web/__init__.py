"""The door for web apps under WSGI: a browser's question in, an answer out that shows how it ended.

::

    from providers_sync.web import SSE_HEADERS, question, sse

    @app.post("/chat")                                      # Flask
    def chat():
        answer = provider.prepare(question(request.get_json()))
        return Response(sse(answer), headers=SSE_HEADERS)

    return StreamingHttpResponse(sse(answer), headers=SSE_HEADERS)          # Django

    start_response("200 OK", list(SSE_HEADERS.items()))     # bare WSGI
    return sse(answer)

``question`` checks what a browser has posted. ``error_data`` is what a browser may know of an
error; the details go to the logger ``providers_sync``.

``sse`` and ``plain`` take a ``Stream``, or the ``prepare()`` of a provider. ``stream()`` returns
when the model's server has answered, so the view can still choose a status, but until then nobody
notices a browser that leaves; an opening is asked when the body is first read, and whatever goes
wrong is told in the body. When the server closes the body, or drops it, the answer stops at once.

What ``sse`` sends are server-sent events, each with a name and a JSON object as its data:

==============  ==========================================================================
``delta``       ``{"text"}``: a piece of the answer
``reasoning``   ``{"text"}``: a piece of what the model thinks aloud
``refusal``     ``{"text"}``: a piece of its refusal
``tool_call``   ``{"id", "name", "raw"}``: ``raw`` is the arguments as the model wrote them
``error``       ``{"message", "kind", "outcome", "reference"}``: the answer is not whole
``done``        ``{"outcome", "finish_reason", "model", "usage", "stats"}``: always the last one
==============  ==========================================================================

Where ``done`` is missing, the connection to the browser itself was cut.
"""

from __future__ import annotations

from .bodies import PLAIN_HEADERS, SSE_HEADERS, Streamable, WSGIBody, plain, sse
from .browser_input import QuestionError, question
from .public_errors import error_data

__all__ = [
    "PLAIN_HEADERS",
    "SSE_HEADERS",
    "QuestionError",
    "Streamable",
    "WSGIBody",
    "error_data",
    "plain",
    "question",
    "sse",
]
