"""A bare engine under a benchmark's orders: one JSON line in, one JSON line out.

Started with a worker's environment. It says a line `{"ready": true, ...}` when the engine is
loaded, answers each line of stdin by one line, and ends when stdin does. What fails is
`{"error": ...}`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from services.core.errors import TokenmillError
from services.runtime.settings import read_settings
from worker.engine.factory import build_engine
from worker.engine.port import Engine, EngineListener
from worker.fake_engine_settings import fake_model_from
from worker.settings import WorkerSettings

CarryOut = Callable[[Mapping[str, Any]], dict[str, Any]]


def take_orders(
    listener: EngineListener, begin: Callable[[Engine, WorkerSettings], CarryOut]
) -> int:
    """Runs the program; returns its exit status.

    Args:
        listener: of the engine.
        begin: from the loaded engine to what carries out an order.
    """
    # stdout is for answers.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    began = time.perf_counter()
    try:
        settings = read_settings(WorkerSettings)
        fake_model = fake_model_from(settings) if settings.engine == "fake" else None
        engine = build_engine(
            settings.engine, settings.model_dir, settings.engine_settings(), fake_model
        )
        load = engine.load()
        load_s = round(time.perf_counter() - began, 3)
        carry_out = begin(engine, settings)
        engine.start(listener)
        _say(
            {
                "ready": True,
                "load_s": load_s,
                "kv_dtype": engine.layout.dtype,
                "shape": {
                    "num_blocks": load.num_blocks,
                    "block_size": load.block_size,
                    "max_num_seqs": settings.max_num_seqs,
                    "max_requests": settings.max_requests,
                    "max_batched_tokens": settings.max_batched_tokens,
                    "itl_target_ms": settings.itl_target_ms,
                },
                # What this build knows; a setting that it lacks was passed over in silence.
                "settings": sorted(WorkerSettings.model_fields),
            }
        )
        for line in sys.stdin:
            _say(carry_out(json.loads(line)))
        engine.stop()
    except TokenmillError as exc:
        _say({"error": exc.message})
        return 1
    return 0


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
