"""What the bodies of OpenAI's generating routes have alike, and how they become asks."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.ask import Ask, Prompt
from gateway.http.answering import RequestHead
from gateway.http.sampling_fields import SamplingFields, request_class_of
from services.core.errors import InvalidRequest
from services.core.sampling import SamplingParams, check_num_choices


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`stream_options`; padding against traffic analysis is not added, and none is needed.

    `continuous_usage_stats` is vLLM's: with `include_usage`, each chunk tells what was used so far.
    """

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class OpenaiFields(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """What chat and text completions share."""

    stream_options: StreamOptions | None = None
    n: int | None = None


def ask_of(
    call: SamplingFields,
    head: RequestHead,
    prompts: tuple[Prompt, ...],
    sampling: SamplingParams,
    **more: Any,
) -> Ask:
    """The ask of a body; `more` are fields of Ask that the route decides."""
    return Ask(
        request_id=head.request_id,
        caller=head.caller,
        prompt=prompts[0],
        more_prompts=prompts[1:],
        deadline_unix_ms=head.deadline_unix_ms,
        sampling=sampling,
        request_class=request_class_of(call),
        cache=head.cache,
        **more,
    )


def frame_of(call: OpenaiFields, model: str) -> dict[str, Any]:
    """What OpenaiWriter is told of a body."""
    options = call.stream_options or StreamOptions()
    return {
        "model": model,
        "include_usage": bool(options.include_usage),
        "tells_usage_so_far": bool(options.include_usage and options.continuous_usage_stats),
        "return_token_ids": bool(call.return_token_ids),
    }


def check_stream_options(options: StreamOptions | None, stream: bool | None) -> None:
    """Refuses options of a stream that is not asked for.

    Raises:
        InvalidRequest: names the field.
    """
    if options is not None and not stream:
        raise InvalidRequest(
            "stream_options is given; allowed with stream only", field="stream_options"
        )


def num_choices_of(n: int | None) -> int:
    """The number of answers asked for by `n`.

    Raises:
        InvalidRequest: out of range.
    """
    num_choices = 1 if n is None else n
    check_num_choices(num_choices, field="n")
    return num_choices
