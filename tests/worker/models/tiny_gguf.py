"""Small GGUF files of several architectures and precisions, with random weights."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

HIDDEN, FFN, HEADS, KV_HEADS = 32, 64, 4, 2
LETTERS = ["a", "b", "Ġ", "Ċ", "1", "2"]
MERGES = ["a b", "Ċ Ċ"]
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *LETTERS, "ab", "ĊĊ"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"

_K_BLOCK_VALUES, _Q4_K_BLOCK_BYTES = 256, 144


def write_tiny_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    precision: Type = Type.F32,
    hidden: int = HIDDEN,
    rope_factors: np.ndarray | None = None,
) -> np.ndarray:
    """A model of two layers, matrices in one precision and norms in float32; its embedding."""
    writer = _described(path, architecture, hidden)
    generator = np.random.default_rng(0)
    embedding = generator.standard_normal((len(TOKENS), hidden), dtype=np.float32)
    _add(writer, "token_embd.weight", embedding, precision)
    for name, shape in _shapes(architecture, hidden).items():
        values = generator.standard_normal(shape, dtype=np.float32)
        _add(writer, name, values, precision if len(shape) == 2 else Type.F32)
    if rope_factors is not None:
        _add(writer, "rope_freqs.weight", rope_factors.astype(np.float32), Type.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return embedding


def _described(path: Path, architecture: str, hidden: int) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(2 * hidden)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(hidden // HEADS)
    writer.add_value_length(hidden // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    if architecture == "gemma3":
        writer.add_sliding_window(16)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(0)
    writer.add_chat_template(TEMPLATE)
    return writer


def _shapes(architecture: str, hidden: int) -> dict[str, tuple[int, ...]]:
    head_dim = hidden // HEADS
    kv_width, ffn = head_dim * KV_HEADS, 2 * hidden
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (hidden,),
        "ffn_norm.weight": (hidden,),
        "attn_q.weight": (hidden, hidden),
        "attn_k.weight": (kv_width, hidden),
        "attn_v.weight": (kv_width, hidden),
        "attn_output.weight": (hidden, hidden),
        "ffn_gate.weight": (ffn, hidden),
        "ffn_up.weight": (ffn, hidden),
        "ffn_down.weight": (hidden, ffn),
    }
    if architecture == "qwen2":
        widths = {"q": hidden, "k": kv_width, "v": kv_width}
        layer |= {f"attn_{part}.bias": (width,) for part, width in widths.items()}
    if architecture in ("qwen3", "gemma3"):
        layer |= {"attn_q_norm.weight": (head_dim,), "attn_k_norm.weight": (head_dim,)}
    if architecture == "gemma3":
        layer |= {
            "post_attention_norm.weight": (hidden,),
            "post_ffw_norm.weight": (hidden,),
        }
    shapes = {f"blk.{i}.{name}": shape for i in range(2) for name, shape in layer.items()}
    return {"output_norm.weight": (hidden,), **shapes}


def _add(writer: gguf.GGUFWriter, name: str, values: np.ndarray, precision: Type) -> None:
    if precision is Type.F32:
        writer.add_tensor(name, values)
    elif precision is Type.Q4_K:
        writer.add_tensor(name, _random_q4_k(values), raw_dtype=precision)
    else:
        writer.add_tensor(name, gguf.quantize(values, precision), raw_dtype=precision)


def _random_q4_k(values: np.ndarray) -> np.ndarray:
    """Blocks of the format for a matrix of that shape: the package reads it but cannot write it."""
    num_rows, num_columns = values.shape
    blocks_per_row = num_columns // _K_BLOCK_VALUES
    generator = np.random.default_rng(1)
    shape = (num_rows, blocks_per_row, _Q4_K_BLOCK_BYTES)
    blocks = generator.integers(0, 256, shape, dtype=np.uint8)
    # A block begins with its two float16 scales: any bytes might be infinite there.
    scales = generator.uniform(0.001, 0.01, (num_rows, blocks_per_row, 2)).astype(np.float16)
    blocks[:, :, :4] = scales.view(np.uint8)
    return blocks.reshape(num_rows, -1)
