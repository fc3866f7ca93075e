"""`tokenmill setup` and `tokenmill quantize`: models on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli import flags


def setup(model: flags.Model = None, as_json: flags.AsJson = False) -> None:
    """Fetches and prepares the model; done already, it says so at once."""
    from services.cli.cluster.build import prepare_model
    from services.cli.terminal import err

    prepared = prepare_model(model)
    if as_json:
        flags.print_json({"model": prepared.name, "directory": str(prepared.directory)})
    else:
        err.print(f"model {prepared.name} is ready in {prepared.directory}")


def quantize(
    model: Annotated[str, typer.Argument(help="As --model of `up` takes it.")],
    to: Annotated[str, typer.Option(help="int8 or int4.")],
    out: Annotated[Path, typer.Option(help="Directory to write; new or empty.")],
    as_json: flags.AsJson = False,
) -> None:
    """Writes a copy of a model with int8 or int4 weights, which loads as it is."""
    from services.cli.bench.quality import quantize as command

    command(model, to, out)
    if as_json:
        flags.print_json({"directory": str(out.absolute()), "quantization": to})
