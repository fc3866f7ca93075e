"""`tokenmill calibrate` and its flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli import flags


def calibrate(
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: print it.", show_default=False)
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=2, help="The last one is predicted, to say how far off the fit is.")
    ] = 3,
    model: flags.Model = None,
    engine: flags.Engine = "torch",
    dtype: flags.Dtype = None,
    quantization: flags.Quantization = None,
    kv_dtype: flags.KvDtype = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Fits step times to a worker's engine, for `tokenmill simulate --step-model FILE`.

    Takes the settings of the cluster that runs, else those of the flags.
    """
    from benchmarks.calibration import CalibrationPlan
    from services.cli.calibrate import calibrate as command
    from services.cli.up import Wanted

    wanted = Wanted(
        state_dir=flags.state_dir_of(state_dir),
        model=model,
        engine=flags.check_engine(engine),
        dtype=dtype,
        quantization=quantization,
        kv_dtype=kv_dtype,
    )
    typer.echo(command(wanted, CalibrationPlan(num_rounds=rounds), out))
