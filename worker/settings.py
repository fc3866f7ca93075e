"""Configuration of a worker."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from services.runtime.settings import ProcessSettings
from services.runtime.shared_memory import CacheTransport
from worker.engine.settings import EngineSettings


class WorkerSettings(ProcessSettings):
    """What one worker runs, and how much it takes."""

    worker_id: str = Field(default_factory=lambda: f"worker-{secrets.token_hex(4)}", min_length=1)
    """Name in heartbeats and on Deliver streams; must differ from every other worker's."""

    advertise_address: str = ""
    """Where schedulers reach this worker, host:port. Empty: the host and port that it listens on,
    or the address of the interface towards the broker if it listens on all of them."""

    model_name: str = Field(default="SmolLM2-135M-Instruct", min_length=1)
    """Name that requests carry; names the queue and the heartbeats as well."""

    model_dir: Path = Path("model")
    """Hugging Face directory with config, weights and tokenizer."""

    engine: Literal["torch", "fake"] = "torch"
    """torch computes; fake makes up tokens, for tests and load without a model."""

    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of weights and K/V; auto is bf16."""

    quantization: Literal["none", "int8", "int4"] = "none"
    """Bits of the weights of Llama-like models; a quantized copy is made once and kept."""

    kv_dtype: Literal["auto", "bf16", "int8"] = "auto"
    """Precision of K/V blocks; auto is that of the model. Equal on all workers that share a cache
    service."""

    engine_path: Literal["auto", "native", "lean", "general"] = "auto"
    """native computes Llama-like models by compiled kernels (needs AVX2), lean by torch's
    operations; general computes any transformers model. auto is the first of them that can."""

    kernels: Literal["auto", "avx512", "avx2"] = "auto"
    """Instructions of the native path; auto is the first that the CPU has. Each has bits of its
    own: workers that share a cache service find only blocks of their own kind in it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the torch engine computes; auto is cuda where there is one."""

    block_size: int = Field(default=32, ge=1)
    """Tokens of a K/V block; equal on all workers that share a cache service. On a GPU a multiple
    of 256, which its attention needs; other sizes are computed there by the slow general path."""

    num_blocks: int = Field(default=0, ge=0)
    """K/V blocks of the pool; 0 takes as many as fit into kv_bytes."""

    kv_bytes: int = Field(default=1 << 30, gt=0)
    """Memory for K/V blocks, bytes."""

    max_num_seqs: int = Field(default=32, ge=1)
    """Sequences in one step."""

    max_batched_tokens: int = Field(default=512, ge=1)
    """Tokens in one step."""

    itl_target_ms: float = Field(default=50.0, ge=0)
    """Inter-token latency to hold while prompts are computed, ms: a step takes only so many prompt
    tokens beside those that it decodes. Decoding alone may take longer. 0 sets no target."""

    speculation: Literal["off", "ngram"] = "off"
    """ngram guesses tokens from what the sequence said before and verifies them in one step, where
    that is measured to pay. The answer is the same."""

    prefix_cache: bool = True
    """Find computed K/V blocks again, here and in the cache service. False computes every prompt
    whole: the answers are the same, later."""

    max_model_len: int | None = Field(default=None, ge=2)
    """Longest prompt plus answer, tokens; unset: the model's own."""

    num_threads: int | None = Field(default=None, ge=1)
    """Threads that torch computes with; unset: torch's choice."""

    num_waiting_requests: int = Field(default=4, ge=0)
    """Requests beyond max_num_seqs that may wait here, so that a freed place is taken at once.
    Small: a request that waits here cannot go to a worker that is free earlier."""

    attach_timeout_s: float = Field(default=3.0, gt=0)
    """How long the owner may take to answer an attach, seconds. After that this attempt says
    goodbye and goes elsewhere; what else runs for that owner goes on."""

    deliver_queue_tokens: int = Field(default=65_536, ge=1)
    """Tokens that may wait for one gateway to read; one further behind is taken for lost. Many
    seconds of output, so that a gateway that pauses for a moment keeps its requests."""

    deliver_idle_s: float = Field(default=60.0, gt=0)
    """After so long without requests of a gateway the stream to it is closed, seconds."""

    heartbeat_interval_s: float = Field(default=0.5, gt=0)
    """Longest silence between two heartbeats, seconds."""

    stall_after_s: float = Field(default=30.0, gt=0)
    """Without progress for so long while work waits, the worker calls itself stalled, seconds.
    Above the longest step that is healthy."""

    trace_steps: bool = True
    """Whether each engine step is a span of its own."""

    cache_target: str = ""
    """Where the K/V cache service is: host:port, several by commas, dns:///host:port (every address
    is a shard) or file:///path (a JSON object of shards' names and addresses). Looked at again all
    the time, so that shards can be added. Empty: none is used."""

    cache_transport: CacheTransport = CacheTransport.AUTO
    """How blocks come and go: auto (through shared memory with a cache service on this host, in
    gRPC messages with others), shm (through shared memory or not at all) or grpc."""

    cache_lookup_timeout_s: float = Field(default=0.05, gt=0)
    """How long a request waits to hear how many blocks the cache service has, seconds."""

    cache_get_timeout_s: float = Field(default=0.5, gt=0)
    """How long a request waits for blocks, seconds; beyond it a recompute is not much dearer."""

    cache_timeout_per_block_s: float = Field(default=0.01, ge=0)
    """Added to both for each block that is missing here, seconds: more blocks save more."""

    cache_put_timeout_s: float = Field(default=10.0, gt=0)
    """How long an offer may take, seconds. Nobody waits for it."""

    cache_offer_queue_bytes: int = Field(default=256 << 20, ge=0)
    """Blocks that may wait to be offered, bytes; what comes beyond is not offered."""

    fake_step_time_s: float = Field(default=0.0, ge=0)
    """Time that a step of the fake engine takes, seconds."""

    fake_prefill_s_per_token: float = Field(default=0.0, ge=0)
    """Time that a prompt token adds to a step of the fake engine, seconds."""

    @field_validator("max_batched_tokens")
    @classmethod
    def _every_sequence_may_decode(cls, value: int, info: ValidationInfo) -> int:
        max_num_seqs = info.data.get("max_num_seqs", 1)
        if value < max_num_seqs:
            raise ValueError(f"must be at least max_num_seqs, {max_num_seqs}")
        return value

    @property
    def max_requests(self) -> int:
        """Requests that may be here at once, running and waiting."""
        return self.max_num_seqs + self.num_waiting_requests

    def engine_settings(self) -> EngineSettings:
        """What the engine is built with."""
        return EngineSettings(
            dtype=self.dtype,
            quantization=self.quantization,
            kv_dtype=self.kv_dtype,
            path=self.engine_path,
            kernels=self.kernels,
            device=self.device,
            block_size=self.block_size,
            num_blocks=self.num_blocks,
            kv_bytes=self.kv_bytes,
            max_num_seqs=self.max_num_seqs,
            max_batched_tokens=self.max_batched_tokens,
            itl_target_ms=self.itl_target_ms,
            speculation=self.speculation,
            prefix_cache=self.prefix_cache,
            max_model_len=self.max_model_len,
            num_threads=self.num_threads,
        )
