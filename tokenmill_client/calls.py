"""What a caller wants, as calls on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from services.core.errors import InvalidRequest
from services.core.request import ChatMessage, RequestClass
from services.core.sampling import SamplingParams
from services.wire.inference import ChatCall, GenerateCall


class CallOptions(TypedDict, total=False):
    """How to answer; what is left out is the server's choice, or the client's timeout.

    Attributes:
        model: name; left out: the only or default model.
        sampling: length, temperature, seed, stop strings, ...
        request_class: how urgent it is; left out: interactive.
        num_choices: answers to give; left out: one.
        return_token_ids: also give token ids.
        timeout_s: the answer must be whole by then, retries and the queue included.
        result_cache: whether an answer that must come out the same again may be one that was kept
            (`usage.is_result_cached` says so), and this one may be; left out: as the key has it.
    """

    model: str
    sampling: SamplingParams
    request_class: RequestClass
    num_choices: int
    return_token_ids: bool
    timeout_s: float
    result_cache: bool


def metadata_of(options: CallOptions) -> tuple[tuple[str, str], ...]:
    """What goes beside the call."""
    wish = options.get("result_cache")
    return () if wish is None else (("x-result-cache", "on" if wish else "off"),)


def generate_call(prompt: str | Sequence[int], options: CallOptions) -> GenerateCall:
    """A completion of a text, or of token ids."""
    is_text = isinstance(prompt, str)
    return GenerateCall(
        prompt=prompt if is_text else "",
        prompt_token_ids=() if is_text else tuple(prompt),
        model=options.get("model", ""),
        sampling=options.get("sampling", SamplingParams()),
        return_token_ids=options.get("return_token_ids", False),
        request_class=options.get("request_class", RequestClass.INTERACTIVE),
        num_choices=options.get("num_choices", 1),
    )


def chat_call(
    messages: str | Sequence[ChatMessage], options: CallOptions, *, session_id: str = ""
) -> ChatCall:
    """The next message of a conversation; a bare text is the user's.

    Raises:
        InvalidRequest: there is no message.
    """
    if isinstance(messages, str):
        messages = (ChatMessage("user", messages),)
    if not messages:
        raise InvalidRequest("messages has 0 entries; at least 1 is needed", field="messages")
    return ChatCall(
        messages=tuple(messages),
        model=options.get("model", ""),
        sampling=options.get("sampling", SamplingParams()),
        return_token_ids=options.get("return_token_ids", False),
        request_class=options.get("request_class", RequestClass.INTERACTIVE),
        session_id=session_id,
        num_choices=options.get("num_choices", 1),
    )
