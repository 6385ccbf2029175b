"""WSGI integration: check the messages a browser posts, and stream the answer with its outcome.

::

    from providers_sync.web import SSE_HEADERS, question, sse

    @app.post("/chat")                                      # Flask
    def chat():
        answer = provider.prepare(question(request.get_json()))
        return Response(sse(answer), headers=SSE_HEADERS)

    return StreamingHttpResponse(sse(answer), headers=SSE_HEADERS)          # Django

    start_response("200 OK", list(SSE_HEADERS.items()))     # plain WSGI
    return sse(answer)

``question`` checks what a browser has posted. ``error_data`` returns what a browser may know about
an error; the details go to the logger ``providers_sync``. ``with_write_timeout`` ends the
connection of a browser that has stopped reading.

``sse`` and ``plain`` take a ``PreparedCall`` (from ``provider.prepare()``, or ``prepare_run()``) or
a ``Stream`` (from ``provider.stream()``, or ``run()``). A prepared call is sent when the body is
first read, and errors are reported in the body. ``stream()`` returns when the model's server has
answered, so the view can still choose the response status, but a browser that disconnects before
then goes unnoticed. When the WSGI server closes the body, the answer is cancelled at once.
``on_end(completion)`` is called once, however the answer ends, if the body is read to its end or
closed, for example to store the answer.

``sse`` sends server-sent events, each with a name and a JSON object as its data:

=============== ==========================================================================
``delta``       ``{"text"}``: a chunk of the answer
``reasoning``   ``{"text"}``: a chunk of the model's reasoning
``refusal``     ``{"text"}``: a chunk of its refusal
``tool_call``   ``{"id", "name", "raw"}``: ``raw`` is the arguments as the model wrote them
``tool_result`` ``{"id", "name", "content", "is_error", "seconds"}``: of a run, what the model is
                told about a call
``citation``    ``{"url", "title", "text"}``: a source; the URL is ``http(s):`` or null
``media``       ``{"kind", "url"}``: an image, as an ``http(s):`` or ``data:`` URL, or null
``join``        ``{"outcome"}``: the answer broke here, and continues
``error``       ``{"message", "kind", "outcome", "reference"}``: the answer is incomplete, not
                valid, or not saved
``done``        ``{"outcome", "finish_reason", "is_whole", "note", "model", "usage",
                "stats"}``: always the last event; of a typed answer also ``value``
=============== ==========================================================================

If ``done`` is missing, the connection to the browser itself was cut. ``is_whole`` is true if the
answer is complete and the model ended it by itself. ``note`` says in words why a complete answer is
not whole, or why it is empty: ``the answer was cut off by a limit on its length (finish reason
length)``; otherwise it is null. It is text, to be shown as text: it quotes the model's server.
"""

from __future__ import annotations

from .bodies import PLAIN_HEADERS, SSE_HEADERS, Streamable, WSGIBody, plain, sse
from .browser_input import QuestionError, question
from .public_errors import error_data
from .write_timeout import with_write_timeout

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
    "with_write_timeout",
]
