"""POST /v1/messages and /v1/messages/count_tokens, as Anthropic's clients call them."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.ask import Ask, ChatPrompt
from gateway.catalog import Catalog
from gateway.http.answering import Exchange, RequestHead
from gateway.http.anthropic_wire import MessageWriter, anthropic_error_event
from gateway.http.body import decode_body, refuse_unless_neutral
from gateway.http.messages import text_of
from gateway.http.sampling_fields import LEAST_TOP_P
from gateway.http.token_routes import Counting
from services.core.errors import InvalidRequest
from services.core.request import ChatMessage
from services.core.sampling import SamplingParams

_ROLES = ("user", "assistant")
MAX_TEMPERATURE = 1.0


class TextBlock(msgspec.Struct, forbid_unknown_fields=True):
    """One block of content; prompts are cached anyway, so `cache_control` changes nothing."""

    type: str
    text: str | None = None
    cache_control: Any = None
    citations: Any = None
    source: Any = None


class AnthropicMessage(msgspec.Struct, forbid_unknown_fields=True):
    """One message."""

    role: str
    content: str | list[TextBlock]


class CountFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What both routes have."""

    model: str
    messages: list[AnthropicMessage]
    system: str | list[TextBlock] | None = None

    tools: Any = None
    tool_choice: Any = None
    thinking: Any = None
    mcp_servers: Any = None
    output_config: Any = None
    context_management: Any = None
    cache_control: Any = None


class MessagesFields(CountFields, kw_only=True, forbid_unknown_fields=True):
    """The body of /v1/messages."""

    max_tokens: int
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: dict[str, Any] | None = None
    container: Any = None
    service_tier: Any = None


NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ({"type": "none"}, {"type": "auto"}),
    "thinking": ({"type": "disabled"},),
    "mcp_servers": ([],),
    "output_config": ({},),
    "context_management": ({},),
    "container": (),
    "service_tier": ("auto", "standard_only"),
}
_MESSAGES_DECODER = msgspec.json.Decoder(MessagesFields)
_COUNT_DECODER = msgspec.json.Decoder(CountFields)


class AnthropicMessages:
    """Parses bodies of both routes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def parse(self, body: bytes, head: RequestHead) -> Exchange:
        """Body to exchange.

        Raises:
            InvalidRequest: names the field.
        """
        call = decode_body(_MESSAGES_DECODER, body)
        _refuse(call)
        _refuse_prefill(call)
        model = self._catalog.find(call.model).name
        ask = Ask(
            request_id=head.request_id,
            caller=head.caller,
            prompt=ChatPrompt(_conversation(call)),
            deadline_unix_ms=head.deadline_unix_ms,
            model=model,
            sampling=_sampling(call),
            stream=bool(call.stream),
            cache=head.cache,
        )
        writer = MessageWriter(f"msg_{head.request_id}", model)
        return Exchange(
            ask,
            writer,
            begin=writer.begin,
            error_event=anthropic_error_event,
            spelt={"stop": "stop_sequences"},
        )

    def parse_count(self, body: bytes, head: RequestHead) -> Counting:
        """Body to what is to be counted.

        Raises:
            InvalidRequest: names the field.
        """
        call = decode_body(_COUNT_DECODER, body)
        _refuse(call)
        model = self._catalog.find(call.model)
        return Counting(
            ChatPrompt(_conversation(call)),
            model,
            lambda token_ids: msgspec.json.encode({"input_tokens": len(token_ids)}),
        )


def _refuse(call: CountFields) -> None:
    for field, neutral in NEUTRAL_VALUES.items():
        refuse_unless_neutral(field, getattr(call, field, None), neutral)


def _refuse_prefill(call: CountFields) -> None:
    """An answer that goes on in the middle of a message is not supported."""
    if call.messages and call.messages[-1].role == "assistant":
        field = f"messages[{len(call.messages) - 1}].role"
        raise InvalidRequest(
            f"{field} is 'assistant'; allowed in the last message: user", field=field
        )


def _sampling(call: MessagesFields) -> SamplingParams:
    default = SamplingParams()
    temperature = default.temperature if call.temperature is None else call.temperature
    if temperature > MAX_TEMPERATURE:
        raise InvalidRequest(
            f"temperature is {temperature}; allowed: 0 to {MAX_TEMPERATURE:g}", field="temperature"
        )
    return SamplingParams(
        max_tokens=call.max_tokens,
        temperature=temperature,
        top_k=default.top_k if call.top_k is None else call.top_k,
        top_p=default.top_p if call.top_p is None else call.top_p or LEAST_TOP_P,
        stop=tuple(call.stop_sequences or ()),
    )


def _conversation(call: CountFields) -> tuple[ChatMessage, ...]:
    messages: list[ChatMessage] = []
    if call.system:
        messages.append(ChatMessage("system", text_of(call.system, "system")))
    for idx, message in enumerate(call.messages):
        if message.role not in _ROLES:
            raise InvalidRequest(
                f"messages[{idx}].role is {message.role[:64]!r}; allowed: {', '.join(_ROLES)}",
                field=f"messages[{idx}].role",
            )
        text = text_of(message.content, f"messages[{idx}].content")
        messages.append(ChatMessage(message.role, text))
    if not call.messages:
        raise InvalidRequest("messages is empty; at least one message is needed", field="messages")
    return tuple(messages)
