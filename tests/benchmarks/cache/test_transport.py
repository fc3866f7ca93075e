import json
import sys

import pytest
import structlog

from benchmarks.cache import __main__ as command
from benchmarks.cache import transport


def test_json_alone_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    small = transport.TransportPlan(num_blocks=3, num_chains=2, num_rounds=2)
    monkeypatch.setattr(transport, "TransportPlan", lambda: small)
    monkeypatch.setattr(sys, "argv", ["cache", "--transport", "--json"])
    try:
        assert command.main() == 0
    finally:
        # It logs to this test's stderr.
        structlog.reset_defaults()
    report = json.loads(capsys.readouterr().out)
    assert all(report[way]["gb_per_s"] > 0 for way in ("memcpy", "shared_memory", "grpc"))
