from __future__ import annotations

import pytest

from services.core.errors import InvalidRequest
from services.runtime.settings import read_settings
from worker.settings import WorkerSettings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKENMILL_WORKER_ID", "TOKENMILL_MAX_NUM_SEQS", "TOKENMILL_MAX_BATCHED_TOKENS"):
        monkeypatch.delenv(name, raising=False)


def test_every_worker_has_a_name_of_its_own_by_default() -> None:
    first, second = read_settings(WorkerSettings), read_settings(WorkerSettings)
    assert first.worker_id.startswith("worker-")
    assert first.worker_id != second.worker_id


def test_the_engine_gets_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENMILL_MAX_NUM_SEQS", "7")
    settings = read_settings(WorkerSettings)
    assert settings.engine_settings().max_num_seqs == 7
    assert settings.max_requests > 7


def test_a_token_budget_below_the_number_of_sequences_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKENMILL_MAX_NUM_SEQS", "64")
    monkeypatch.setenv("TOKENMILL_MAX_BATCHED_TOKENS", "63")
    with pytest.raises(InvalidRequest, match=r"TOKENMILL_MAX_BATCHED_TOKENS is '63'.*64"):
        read_settings(WorkerSettings)
