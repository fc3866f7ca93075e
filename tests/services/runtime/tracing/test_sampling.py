"""Who is traced from the start, and whose end says that it should be."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import SpanKind

from services.runtime.tracing.sampling import FirstFew, is_notable, sampler_by_environment
from tests.services.runtime.spans import a_span

SLOW_NS = 1_000


def decision(sampler: Sampler, kind: SpanKind = SpanKind.SERVER) -> Decision:
    return sampler.should_sample(None, 1, "work", kind).decision


def test_a_quiet_cluster_samples_all_and_a_busy_one_a_few():
    now_s = [0.0]
    sampler = FirstFew(2, 0.5, lambda: now_s[0])
    said: list[Decision] = []
    for seconds in (0, 0, 0, 1, 1, 0, 100, 0, 0):
        now_s[0] += seconds
        said.append(decision(sampler))
    yes, no = Decision.RECORD_AND_SAMPLE, Decision.DROP
    assert said == [yes, yes, no, no, yes, no, yes, yes, no]


def test_only_requests_use_it_up():
    sampler = FirstFew(1, 0.0)
    assert decision(sampler, SpanKind.INTERNAL) is Decision.DROP
    assert decision(sampler) is Decision.RECORD_AND_SAMPLE


def test_the_users_sampler_goes_before_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert decision(sampler_by_environment()) is Decision.DROP
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "")
    assert decision(sampler_by_environment()) is Decision.RECORD_AND_SAMPLE


@pytest.mark.parametrize("fault", ["INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "503"])
def test_a_failed_request_is_notable(fault: str):
    assert is_notable(a_span(1, error_type=fault), slow_ns=SLOW_NS)


@pytest.mark.parametrize("fault", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "CANCELLED"])
def test_a_callers_own_fault_is_not(fault: str):
    assert not is_notable(a_span(1, error_type=fault), slow_ns=SLOW_NS)


def test_a_slow_request_is_notable_by_its_time_at_the_door():
    slow = a_span(1, kind=SpanKind.SERVER, end_ns=SLOW_NS)
    assert is_notable(slow, slow_ns=SLOW_NS)
    assert not is_notable(slow._replace(kind=SpanKind.INTERNAL), slow_ns=SLOW_NS)
    assert not is_notable(slow._replace(end_ns=SLOW_NS - 1), slow_ns=SLOW_NS)


def test_a_request_that_lost_a_worker_is_notable_though_it_ended_well():
    assert is_notable(a_span(1, tokenmill__request__attempt=2), slow_ns=SLOW_NS)
    assert not is_notable(a_span(1, tokenmill__request__attempt=1), slow_ns=SLOW_NS)
