"""A GGUF file as a Hugging Face directory: configuration and tokenizer read like any other's.

A user's file is adopted: its weights stay where they are and are taken out of their blocks at load.
The default model alone is converted, to float32, since it is what transformers and other programs
are compared on. A Q4_1 value is `d * q + m` with float16 d and m: float32 holds it to the last bit
that matters, bfloat16 would round once more and change the answers.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.engine.model_files import GGUF_NAME
from worker.models.cache import require_room, say
from worker.models.errors import ModelUnavailable
from worker.models.gguf_rope import ROPE_FACTORS, scaled_rope

if TYPE_CHECKING:
    # At run time only where a file is read: what is ready must not wait seconds for torch.
    from transformers import PreTrainedConfig, PreTrainedModel

END_TOKEN_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Where a GGUF file names tokens that end an answer."""

DIGITS_APART = frozenset(
    {"smollm", "starcoder", "refact", "codeshell", "command-r", "exaone", "minerva-7b"}
)
"""Pre-tokenizers, by GGUF name, that cut every digit off before the GPT-2 rule."""


def convert_gguf(gguf: Path, directory: Path) -> None:
    """Writes weights, configuration and tokenizer of a GGUF file into a directory.

    Raises:
        ModelUnavailable: the file is damaged, or of an architecture that cannot be read.
    """
    with _reading(gguf):
        described = _describe(gguf, directory)
        say("converting the weights to float32")
        _write_weights(gguf, directory, described)


def adopt_gguf(gguf: Path, directory: Path) -> None:
    """Writes configuration and tokenizer of a GGUF file beside a link to it, which is the weights.

    Raises:
        ModelUnavailable: the file is damaged, or of an architecture that cannot be read.
    """
    with _reading(gguf):
        _describe(gguf, directory)
        # A file that ends early has no place for some tensor: better known now than at a load.
        from gguf import GGUFReader

        GGUFReader(gguf)
        link = directory / GGUF_NAME
        try:
            # The model outlives a user who tidies up; it takes no room either way.
            os.link(gguf, link)
        except OSError:
            link.symlink_to(gguf)


@dataclass(frozen=True, slots=True)
class _Described:
    """What was written of a file before its weights; the skeleton holds none."""

    config: PreTrainedConfig
    skeleton: PreTrainedModel


@contextmanager
def _reading(gguf: Path) -> Iterator[None]:
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        yield
    except ModelUnavailable:
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Readers of damaged files raise anything from struct.error to KeyError.
        raise ModelUnavailable(f"cannot read {gguf.name}: {type(exc).__name__}: {exc}") from exc


def _describe(gguf: Path, directory: Path) -> _Described:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    from transformers.integrations.gguf.reader import read_gguf_metadata

    metadata, names = read_gguf_metadata(str(gguf))
    say("converting the tokenizer")
    _write_tokenizer(gguf, directory, metadata)
    config = AutoConfig.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    if ROPE_FACTORS in names:
        config.rope_parameters = scaled_rope(gguf, config.rope_parameters)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    config.dtype = torch.float32
    config.architectures = [type(skeleton).__name__]
    config.save_pretrained(directory)
    generation = GenerationConfig(
        bos_token_id=getattr(config, "bos_token_id", None),
        eos_token_id=end_token_ids(metadata) or None,
        pad_token_id=getattr(config, "pad_token_id", None),
    )
    generation.save_pretrained(directory)
    return _Described(config, skeleton)


def _write_tokenizer(gguf: Path, directory: Path, metadata: dict[str, Any]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.save_pretrained(directory)
    if metadata.get("tokenizer.ggml.pre") in DIGITS_APART:
        _cut_digits_apart(directory / "tokenizer.json")


def _cut_digits_apart(tokenizer_json: Path) -> None:
    """Puts back the rule that the converter forgets.

    Without it the spaces or newlines before a digit are cut differently from what the model was
    trained on: a blank line before "1." becomes two tokens instead of one.
    """
    tokenizer = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [digits, tokenizer["pre_tokenizer"]],
    }
    tokenizer_json.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def _write_weights(gguf: Path, directory: Path, described: _Described) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    skeleton = described.skeleton
    require_room(directory, 4 * sum(parameter.numel() for parameter in skeleton.parameters()))
    weights: dict[str, torch.Tensor] = load_gguf_checkpoint(
        str(gguf), return_tensors=True, model_to_load=skeleton, torch_dtype=torch.float32
    )["tensors"]
    # parameters() lists a tied weight once, under its first name.
    missing = {name for name, _ in skeleton.named_parameters()} - weights.keys()
    if missing:
        raise ModelUnavailable(
            f"{gguf.name} lacks {len(missing)} of the model's tensors, {min(missing)} among them"
        )
    target = directory / "model.safetensors"
    try:
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(contiguous, target, metadata={"format": "pt"})
    except SafetensorError as exc:
        raise ModelUnavailable(f"cannot write {target}: {exc}") from exc
    target.chmod(0o644)


def end_token_ids(metadata: dict[str, Any]) -> list[int]:
    """All ids that the file says end an answer, ascending."""
    found = (metadata.get(f"tokenizer.ggml.{key}") for key in END_TOKEN_KEYS)
    return sorted({int(token_id) for token_id in found if token_id is not None})
