"""The parts of a budget, and what each pays for."""

from __future__ import annotations

from collections.abc import Mapping

DOOR = "door"
LIMITS = "limits"
TOKENIZING = "tokenizing"
PUBLISH = "publish"
QUEUE_WAIT = "queue_wait"
PLACEMENT = "placement"
SUBMIT = "submit"
KV_LOAD = "kv_load"
ADMISSION = "admission"
PREFILL = "prefill"
INTERFERENCE = "interference"
DECODE = "decode"
BETWEEN_STEPS = "between_steps"
PREEMPTION = "preemption"
NETWORK = "network"
DETOKENIZING = "detokenizing"
CLIENT = "client_backpressure"
RECOVERY = "recovery"

MEANINGS: Mapping[str, str] = {
    DOOR: "reading, checking and closing the request in the gateway",
    LIMITS: "until it was known how much the caller may still use",
    TOKENIZING: "text to token ids, the way to the tokenizer and back included",
    PUBLISH: "until the queue had it on disk",
    QUEUE_WAIT: "in the queue and in a scheduler's hand, until there was a worker for it",
    PLACEMENT: "the scheduler's own time to decide on a worker",
    SUBMIT: "until the worker had taken it over",
    KV_LOAD: "K/V blocks from the cache service",
    ADMISSION: "in the worker, until a step had room for it",
    PREFILL: "its own prompt's share of the steps that computed it",
    INTERFERENCE: "steps, or shares of steps, spent on others while it was ready",
    DECODE: "steps that gave it a token",
    BETWEEN_STEPS: "in the engine, between two of its steps",
    PREEMPTION: "without its K/V blocks, and computing them again",
    NETWORK: "from the end of a step until its tokens were in the gateway",
    DETOKENIZING: "ids to text",
    CLIENT: "until the client had taken what was ready",
    RECOVERY: "a worker was lost; until the request was queued again",
}
