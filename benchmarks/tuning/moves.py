"""What can be changed, and against which bottleneck each change is meant. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.tuning.bottleneck import Bottleneck, Diagnosis
from benchmarks.tuning.goal import Goal, Measured

Settings = Mapping[str, str]
"""Fields of settings by name, as a settings file has them; one that is left out has its default."""

DEFAULTS: Settings = {
    "quantization": "none",
    "kv_dtype": "auto",
    "max_num_seqs": "32",
    "max_batched_tokens": "512",
    "itl_target_ms": "50.0",
    "speculation": "off",
    "kv_bytes": str(1 << 30),
    "cache_offer_queue_bytes": str(256 << 20),
    "trace_steps": "True",
    "max_batch_size": "8",
    "workers": "1",
}
"""Of the settings that moves look at."""

PRECISIONS = ("kept", "int8", "int4")
"""How coarse numbers may become: not at all, or so many bits at least."""

_MAX_SEQS = 256
_MAX_STEP_TOKENS = 4_096

Change = Callable[[Settings], Settings | None]


@dataclass(frozen=True, slots=True)
class Move:
    """One change.

    Attributes:
        name: for people.
        helps: the bottlenecks that it is meant against.
        change: fields to set, given all that are set now; None: it cannot be made.
        price: what it gives up; empty: nothing that this measures not.
        precision: the coarsest numbers that it brings, of PRECISIONS.
        for_limit: a metric whose missed limit calls for it.
    """

    name: str
    helps: frozenset[Bottleneck]
    change: Change
    price: str = ""
    precision: str = "kept"
    for_limit: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A move at given settings.

    Attributes:
        changes: fields that it sets.
        is_called_for: the bottleneck or a missed limit asks for it; else it is tried on spec.
    """

    move: Move
    changes: Settings
    is_called_for: bool


def _set(**fields: str) -> Change:
    def change(now: Settings) -> Settings | None:
        return None if all(now[name] == value for name, value in fields.items()) else fields

    return change


def _scale(name: str, factor: float, *, least: int = 1, most: int) -> Change:
    def change(now: Settings) -> Settings | None:
        value = int(int(now[name]) * factor)
        return {name: str(value)} if least <= value <= most else None

    return change


def _more_places(now: Settings) -> Settings | None:
    places = int(now["max_num_seqs"]) * 2
    if places > _MAX_SEQS:
        return None
    changes = {"max_num_seqs": str(places)}
    # Each of them may decode in one step, and prompts want room beside them.
    if int(now["max_batched_tokens"]) < 4 * places:
        changes["max_batched_tokens"] = str(4 * places)
    return changes


def _fewer_places(now: Settings) -> Settings | None:
    places = int(now["max_num_seqs"]) // 2
    return {"max_num_seqs": str(places)} if places >= 1 else None


def _int4(now: Settings) -> Settings | None:
    # Int8 first: it loses less, and where a step is compute it is as fast.
    return {"quantization": "int4"} if now["quantization"] == "int8" else None


MOVES: tuple[Move, ...] = (
    Move(
        "int8 weights",
        frozenset({Bottleneck.MEMORY, Bottleneck.COMPUTE}),
        lambda now: {"quantization": "int8"} if now["quantization"] == "none" else None,
        price="other words in some answers; `tokenmill bench quality` says how much worse",
        precision="int8",
    ),
    Move(
        "prompts before pace: no inter-token target",
        frozenset({Bottleneck.COMPUTE}),
        _set(itl_target_ms="0.0"),
        price="gaps between tokens grow while prompts are computed",
        for_limit="ttft",
    ),
    Move(
        "more places in a step",
        frozenset({Bottleneck.QUEUE}),
        _more_places,
        price="each sequence is slower while all places are taken",
    ),
    Move(
        "n-gram speculation",
        frozenset({Bottleneck.MEMORY}),
        _set(speculation="ngram"),
    ),
    Move(
        "larger steps",
        frozenset({Bottleneck.COMPUTE, Bottleneck.MEMORY}),
        _scale("max_batched_tokens", 2, most=_MAX_STEP_TOKENS),
        price="a prompt holds up the others' next token for longer",
        for_limit="ttft",
    ),
    Move(
        "int8 K/V",
        frozenset({Bottleneck.MEMORY}),
        _set(kv_dtype="int8"),
        price="other words in some answers",
        precision="int8",
    ),
    Move(
        "twice the memory for K/V",
        frozenset({Bottleneck.MEMORY}),
        _scale("kv_bytes", 2, most=1 << 36),
        price="memory",
    ),
    Move(
        "a worker for each half of the cores",
        frozenset({Bottleneck.COMPUTE, Bottleneck.QUEUE}),
        _set(workers="2"),
        price="weights and K/V are held twice",
    ),
    Move(
        "blocks are not offered to the cache service",
        frozenset({Bottleneck.IO, Bottleneck.COMPUTE}),
        _set(cache_offer_queue_bytes="0"),
        price="what a lost or full worker held is computed again",
    ),
    Move(
        "larger submissions",
        frozenset({Bottleneck.IO, Bottleneck.QUEUE}),
        _scale("max_batch_size", 4, most=128),
        price="one lost call delays more requests",
    ),
    Move(
        "no span for each step",
        frozenset({Bottleneck.IO}),
        _set(trace_steps="False"),
        price="`explain` cannot tell a request's own steps from others'",
    ),
    Move(
        "smaller steps",
        frozenset(),
        _scale("max_batched_tokens", 0.5, least=64, most=_MAX_STEP_TOKENS),
        price="long prompts take more steps",
        for_limit="itl",
    ),
    Move(
        "fewer places in a step",
        frozenset(),
        _fewer_places,
        price="requests wait for a place",
        for_limit="tpot",
    ),
    Move(
        "int4 weights",
        frozenset({Bottleneck.MEMORY}),
        _int4,
        price="other words in many answers; `tokenmill bench quality` says how much worse",
        precision="int4",
        for_limit="memory",
    ),
)
"""In the order in which they are tried: what usually gains most, first."""


def candidates(
    diagnosis: Diagnosis,
    settings: Settings,
    goal: Goal,
    figures: Measured,
    *,
    precision: str,
    num_cpus: int,
) -> Iterator[Candidate]:
    """What may be tried at these settings, the likeliest first.

    Args:
        diagnosis: what limits now.
        settings: what is set now.
        goal: its missed limits call for moves too.
        figures: as measured with these settings.
        precision: the coarsest numbers that are allowed, of PRECISIONS.
        num_cpus: of the machine.
    """
    now = {**DEFAULTS, **settings}
    missed = {limit.quantity.metric for limit in goal.limits if limit.excess(figures) > 0}
    possible: list[Candidate] = []
    for move in MOVES:
        if PRECISIONS.index(move.precision) > PRECISIONS.index(precision):
            continue
        changes = move.change(now)
        if changes is None or int(changes.get("workers", "1")) > num_cpus:
            continue
        called = diagnosis.kind in move.helps or move.for_limit in missed
        if called or move.helps:
            possible.append(Candidate(move, changes, called))
    yield from sorted(possible, key=lambda one: not one.is_called_for)
