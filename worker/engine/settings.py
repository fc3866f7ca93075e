"""What an engine is built with."""

from __future__ import annotations

from dataclasses import dataclass

from services.core.errors import InvalidRequest

DTYPES = ("auto", "fp32", "bf16", "fp16")
QUANTIZATIONS = ("none", "int8", "int4")
KV_DTYPES = ("auto", "bf16", "int8")
PATHS = ("auto", "native", "lean", "general")
KERNELS = ("auto", "avx512", "avx2")
SPECULATIONS = ("off", "ngram")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Size and precision of an engine.

    Attributes:
        dtype: auto, fp32, bf16 or fp16. auto is bf16; fp16 on a CPU is computed in bf16, since no
            common CPU multiplies fp16 faster than it converts it.
        quantization: none, int8 or int4 weights, on the lean path. A directory that was quantized
            beforehand keeps what it has.
        kv_dtype: of the K/V blocks: auto is the dtype; int8 has a scale per token and head.
        path: native computes a step of a Llama-like model in one call of compiled kernels (needs
            AVX2); lean does so in torch's operations; general computes any transformers model;
            auto is the first of them that can.
        kernels: instructions of the native path: avx512 (with VNNI and bfloat16), or avx2 (with
            FMA), which computes bfloat16 in float32. Each has bits of its own. auto is the first
            that the CPU has.
        device: auto, cpu or cuda. auto is cuda where there is one.
        block_size: tokens per K/V block. 32: small enough that little of a last block is wasted,
            large enough that a block is one contiguous copy worth making.
        num_blocks: blocks in the pool; 0 derives it from kv_bytes.
        kv_bytes: memory for the pool if num_blocks is 0.
        max_num_seqs: most sequences in one step.
        max_batched_tokens: most tokens in one step.
        itl_target_ms: inter-token latency to hold while prefill goes on: a step that decodes takes
            only so many prompt tokens beside, by what steps were measured to take. 0 sets no
            target. 50 is twice as fast as people read.
        speculation: ngram verifies guesses that a sequence's own tokens suggest, where that is
            measured to pay; off makes none. The tokens are the same.
        prefix_cache: find computed blocks again; without it every prompt is computed whole.
        max_model_len: longest prompt plus answer; None takes the model's own. The pool caps it too,
            so that a sequence alone on the engine always fits.
        num_threads: torch threads of a CPU engine; None leaves torch's choice.
    """

    dtype: str = "auto"
    quantization: str = "none"
    kv_dtype: str = "auto"
    path: str = "auto"
    kernels: str = "auto"
    device: str = "auto"
    block_size: int = 32
    num_blocks: int = 0
    kv_bytes: int = 1 << 30
    max_num_seqs: int = 32
    max_batched_tokens: int = 512
    itl_target_ms: float = 50.0
    speculation: str = "off"
    prefix_cache: bool = True
    max_model_len: int | None = None
    num_threads: int | None = None

    def __post_init__(self) -> None:
        _check(self.dtype in DTYPES, "dtype", self.dtype, ", ".join(DTYPES))
        _check(
            self.quantization in QUANTIZATIONS,
            "quantization",
            self.quantization,
            ", ".join(QUANTIZATIONS),
        )
        _check(self.kv_dtype in KV_DTYPES, "kv_dtype", self.kv_dtype, ", ".join(KV_DTYPES))
        _check(self.path in PATHS, "path", self.path, ", ".join(PATHS))
        _check(self.kernels in KERNELS, "kernels", self.kernels, ", ".join(KERNELS))
        _check(self.device in DEVICES, "device", self.device, ", ".join(DEVICES))
        _check(self.block_size >= 1, "block_size", self.block_size, "at least 1")
        _check(self.num_blocks >= 0, "num_blocks", self.num_blocks, "at least 0")
        _check(self.max_num_seqs >= 1, "max_num_seqs", self.max_num_seqs, "at least 1")
        _check(self.itl_target_ms >= 0, "itl_target_ms", self.itl_target_ms, "at least 0")
        _check(
            self.speculation in SPECULATIONS,
            "speculation",
            self.speculation,
            ", ".join(SPECULATIONS),
        )
        # Every running sequence must be able to decode in every step.
        _check(
            self.max_batched_tokens >= self.max_num_seqs,
            "max_batched_tokens",
            self.max_batched_tokens,
            f"at least max_num_seqs, {self.max_num_seqs}",
        )


def _check(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise InvalidRequest(f"{field} is {value}; allowed: {allowed}", field=field)
