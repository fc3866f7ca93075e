"""Flags that several commands share, and what they stand for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.cluster.options import DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, ENGINES
from services.cli.failure import CommandFailed

StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Logs, queue, traces and state of the cluster."
        " Default: TOKENMILL_STATE_DIR, else .tokenmill in the current directory.",
        show_default=False,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        help="Settings that go together: chat (low latency), batch (throughput) or edge (small)."
        " TOKENMILL_ variables and other flags win over it.",
        show_default=False,
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of settings, as `tokenmill tune` writes one; wins over --profile, while"
        " TOKENMILL_ variables and other flags win over it.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="Name of the default model, a Hugging Face directory, a GGUF file or a Hub id.",
        show_default=False,
    ),
]
NumWorkers = Annotated[int, typer.Option("--workers", min=1, max=64, help="Number of workers.")]
NumGateways = Annotated[int, typer.Option("--gateways", min=1, max=64, help="Number of gateways.")]
MaybeNumWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, max=64, help="Number of workers; default: 1.", show_default=False
    ),
]
MaybeNumGateways = Annotated[
    int | None,
    typer.Option(
        "--gateways", min=1, max=64, help="Number of gateways; default: 1.", show_default=False
    ),
]
Engine = Annotated[str, typer.Option(help=f"One of: {', '.join(ENGINES)}.")]
Dtype = Annotated[
    str | None,
    typer.Option(help="Precision: auto, fp32, bf16 or fp16.", show_default=False),
]
Quantization = Annotated[
    str | None,
    typer.Option(help="Bits of the weights: none, int8 or int4.", show_default=False),
]
KvDtype = Annotated[
    str | None,
    typer.Option(help="Precision of K/V blocks: auto, bf16 or int8.", show_default=False),
]
ItlTargetMs = Annotated[
    float | None,
    typer.Option(
        help="Inter-token latency to hold while prompts are computed, ms; 0: none.",
        show_default=False,
    ),
]
Speculation = Annotated[
    str | None,
    typer.Option(help="Guess and verify several tokens a step: off or ngram.", show_default=False),
]
HttpPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Public HTTP port; 0 takes a free one.")
]
GrpcPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Public gRPC port; 0 takes a free one.")
]
DrainTimeout = Annotated[
    float,
    typer.Option(min=0, help="Seconds that running requests may take after Ctrl-C."),
]
Host = Annotated[
    str, typer.Option(help="Address of the gateways: 127.0.0.1, or 0.0.0.0 with --auth.")
]
Auth = Annotated[bool, typer.Option("--auth", help="Ask every caller for an API key.")]
GatewayUrl = Annotated[
    str | None, typer.Option("--url", help="A gateway elsewhere.", show_default=False)
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Name of the model.", show_default=False)
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="API key, where the gateway asks for one. Default: TOKENMILL_API_KEY.",
        envvar="TOKENMILL_API_KEY",
        show_default=False,
    ),
]
HTTP_PORT = DEFAULT_HTTP_PORT
GRPC_PORT = DEFAULT_GRPC_PORT
DRAIN_TIMEOUT_S = 30.0


def check_engine(engine: str) -> str:
    """The engine, if there is one of this name.

    Raises:
        CommandFailed: there is none.
    """
    if engine not in ENGINES:
        raise CommandFailed(f"--engine is {engine!r}; allowed: {', '.join(ENGINES)}", exit_code=2)
    return engine


def parse_shares(flag: str, text: str) -> tuple[float, ...]:
    """Positive numbers, by commas.

    Raises:
        CommandFailed: something else.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share < math.inf for share in shares):
        raise CommandFailed(
            f"{flag} is {text!r}; allowed: positive numbers, by commas", exit_code=2
        )
    return shares


def parse_sizes(flag: str, text: str) -> tuple[int, ...]:
    """Different whole numbers from 1, by commas.

    Raises:
        CommandFailed: something else.
    """
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise CommandFailed(
            f"{flag} is {text!r}; allowed: different whole numbers from 1, by commas", exit_code=2
        )
    return sizes


def state_dir_of(given: Path | None) -> Path:
    """The state directory that a command works on."""
    from services.cli.cluster.options import default_state_dir

    return given.absolute() if given is not None else default_state_dir()


def parts(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def tell(value: Any, text: str, *, as_json: bool) -> None:
    """Prints what was done: a line of JSON for programs, or a sentence."""
    if as_json:
        print_json(value)
    else:
        typer.echo(text)


def print_json(value: Any) -> None:
    """Prints one line of JSON, for programs."""
    typer.echo(json.dumps(value))
