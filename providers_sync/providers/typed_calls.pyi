"""The calls of each protocol with its own options, for type checkers and editors.

A ``TypedDict`` cannot be a type parameter (PEP 692), so each protocol has its own overloads; at
run time these classes are ``ListsModels`` and ``Provider``.
"""

# mypy: disable-error-code="override"

from typing import Any, TypeVar, overload

from typing_extensions import Unpack

from ..stream import PreparedCall, Stream
from ..tools import Run
from ..tools.typed_run import TypedRun
from ..typed import TypedCompletion, TypedStream
from ..types import Completion, Prompt
from .base import Provider
from .keywords import (
    AI365VIPCall,
    AI365VIPSettings,
    AnthropicCall,
    AnthropicRun,
    AnthropicSettings,
    GeminiCall,
    GeminiRun,
    GeminiSettings,
    HistoricalCall,
    HistoricalSettings,
    OllamaCall,
    OllamaRun,
    OllamaSettings,
    OpenAICall,
    OpenAIRun,
    OpenAISettings,
    ResponsesCall,
    ResponsesRun,
    ResponsesSettings,
)
from .model_lists import ListsModels

T = TypeVar("T")
Name = str | None

class OpenAICalls(ListsModels):
    def __init__(self, model: Name = None, **settings: Unpack[OpenAISettings]) -> None: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[OpenAICall]
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[OpenAICall]
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[OpenAICall]
    ) -> TypedStream[Any]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[OpenAICall]
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[OpenAICall]
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[OpenAICall]
    ) -> TypedCompletion[Any]: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[OpenAIRun]
    ) -> Run: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[OpenAIRun]
    ) -> TypedRun[T]: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[OpenAIRun]
    ) -> TypedRun[Any]: ...
    def prepare(
        self, messages: Prompt, model: Name = None, *, into: Any = None, **call: Unpack[OpenAICall]
    ) -> PreparedCall: ...
    def prepare_run(
        self, messages: Prompt, model: Name = None, *, into: Any = None, **call: Unpack[OpenAIRun]
    ) -> PreparedCall: ...

class ResponsesCalls(ListsModels):
    def __init__(self, model: Name = None, **settings: Unpack[ResponsesSettings]) -> None: ...
    @overload
    def stream(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[ResponsesCall],
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[ResponsesCall]
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[ResponsesCall]
    ) -> TypedStream[Any]: ...
    @overload
    def complete(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[ResponsesCall],
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[ResponsesCall]
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[ResponsesCall]
    ) -> TypedCompletion[Any]: ...
    @overload
    def run(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[ResponsesRun],
    ) -> Run: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[ResponsesRun]
    ) -> TypedRun[T]: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[ResponsesRun]
    ) -> TypedRun[Any]: ...
    def prepare(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: Any = None,
        **call: Unpack[ResponsesCall],
    ) -> PreparedCall: ...
    def prepare_run(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: Any = None,
        **call: Unpack[ResponsesRun],
    ) -> PreparedCall: ...

class AnthropicCalls(ListsModels):
    def __init__(self, model: Name = None, **settings: Unpack[AnthropicSettings]) -> None: ...
    @overload
    def stream(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[AnthropicCall],
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[AnthropicCall]
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[AnthropicCall]
    ) -> TypedStream[Any]: ...
    @overload
    def complete(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[AnthropicCall],
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[AnthropicCall]
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[AnthropicCall]
    ) -> TypedCompletion[Any]: ...
    @overload
    def run(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[AnthropicRun],
    ) -> Run: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[AnthropicRun]
    ) -> TypedRun[T]: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[AnthropicRun]
    ) -> TypedRun[Any]: ...
    def prepare(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: Any = None,
        **call: Unpack[AnthropicCall],
    ) -> PreparedCall: ...
    def prepare_run(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: Any = None,
        **call: Unpack[AnthropicRun],
    ) -> PreparedCall: ...

class GeminiCalls(ListsModels):
    def __init__(self, model: Name = None, **settings: Unpack[GeminiSettings]) -> None: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[GeminiCall]
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[GeminiCall]
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[GeminiCall]
    ) -> TypedStream[Any]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[GeminiCall]
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[GeminiCall]
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[GeminiCall]
    ) -> TypedCompletion[Any]: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[GeminiRun]
    ) -> Run: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[GeminiRun]
    ) -> TypedRun[T]: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[GeminiRun]
    ) -> TypedRun[Any]: ...
    def prepare(
        self, messages: Prompt, model: Name = None, *, into: Any = None, **call: Unpack[GeminiCall]
    ) -> PreparedCall: ...
    def prepare_run(
        self, messages: Prompt, model: Name = None, *, into: Any = None, **call: Unpack[GeminiRun]
    ) -> PreparedCall: ...

class OllamaCalls(ListsModels):
    def __init__(self, model: Name = None, **settings: Unpack[OllamaSettings]) -> None: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[OllamaCall]
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[OllamaCall]
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[OllamaCall]
    ) -> TypedStream[Any]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[OllamaCall]
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[OllamaCall]
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[OllamaCall]
    ) -> TypedCompletion[Any]: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: None = None, **call: Unpack[OllamaRun]
    ) -> Run: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[OllamaRun]
    ) -> TypedRun[T]: ...
    @overload
    def run(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[OllamaRun]
    ) -> TypedRun[Any]: ...
    def prepare(
        self, messages: Prompt, model: Name = None, *, into: Any = None, **call: Unpack[OllamaCall]
    ) -> PreparedCall: ...
    def prepare_run(
        self, messages: Prompt, model: Name = None, *, into: Any = None, **call: Unpack[OllamaRun]
    ) -> PreparedCall: ...

class HistoricalCalls(Provider):
    def __init__(self, model: Name = None, **settings: Unpack[HistoricalSettings]) -> None: ...
    @overload
    def stream(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[HistoricalCall],
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[HistoricalCall]
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[HistoricalCall]
    ) -> TypedStream[Any]: ...
    @overload
    def complete(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[HistoricalCall],
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[HistoricalCall]
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[HistoricalCall]
    ) -> TypedCompletion[Any]: ...
    def prepare(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: Any = None,
        **call: Unpack[HistoricalCall],
    ) -> PreparedCall: ...

class AI365VIPCalls(Provider):
    def __init__(self, model: Name = None, **settings: Unpack[AI365VIPSettings]) -> None: ...
    @overload
    def stream(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[AI365VIPCall],
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[AI365VIPCall]
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[AI365VIPCall]
    ) -> TypedStream[Any]: ...
    @overload
    def complete(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: None = None,
        **call: Unpack[AI365VIPCall],
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: type[T], **call: Unpack[AI365VIPCall]
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self, messages: Prompt, model: Name = None, *, into: Any, **call: Unpack[AI365VIPCall]
    ) -> TypedCompletion[Any]: ...
    def prepare(
        self,
        messages: Prompt,
        model: Name = None,
        *,
        into: Any = None,
        **call: Unpack[AI365VIPCall],
    ) -> PreparedCall: ...
