"""`tokenmill explain`."""

from __future__ import annotations

from pathlib import Path

from services.cli import flags
from services.cli.explain.explanation import explanation_as_json
from services.cli.explain.lookup import explain_percentile, explain_request, explain_slowest
from services.cli.explain.render import render_explanation
from services.cli.failure import CommandFailed
from services.cli.terminal import out
from services.cli.traces.asking import asking_of


def explain(
    state_dir: Path, request_id: str | None, *, slowest: int, p99: bool, as_json: bool
) -> None:
    """Explains one request, or the slowest ones; JSON is one object, or a list for --slowest.

    Raises:
        CommandFailed: more than one of request, slowest and p99, or nothing is kept of it.
    """
    if sum((request_id is not None, slowest > 0, p99)) > 1:
        raise CommandFailed("give one of REQUEST_ID, --slowest and --p99")
    traces_file, asking = state_dir / "traces.sqlite", asking_of(state_dir)
    if slowest:
        found = explain_slowest(traces_file, slowest, asking)
        if as_json:
            flags.print_json([explanation_as_json(one) for one in found])
            return
    elif p99:
        found = [explain_percentile(traces_file, 0.99, asking)]
    else:
        found = [explain_request(traces_file, request_id, asking)]
    for one in found:
        if as_json:
            flags.print_json(explanation_as_json(one))
        else:
            out.print(render_explanation(one))
