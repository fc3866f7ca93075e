"""Which build of the kernels a machine takes."""

from __future__ import annotations

import pytest
import torch

from worker.kernels.build import (
    INSTRUCTION_SETS,
    KernelsUnavailable,
    choose_instruction_set,
    kernels_digest,
)


def cpu_with(*features: str) -> dict[str, bool]:
    return dict.fromkeys(features, True)


EVERYTHING = cpu_with(*(feature for each in INSTRUCTION_SETS for feature in each.needed))


@pytest.mark.parametrize(
    ("cpu", "chosen"), [(EVERYTHING, "avx512"), (cpu_with("avx2", "fma3", "avx512_f"), "avx2")]
)
def test_a_machine_takes_the_fastest_build_that_it_can_run(
    monkeypatch: pytest.MonkeyPatch, cpu: dict[str, bool], chosen: str
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    assert choose_instruction_set().name == chosen


def test_a_build_that_is_asked_for_is_taken_or_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: EVERYTHING)
    assert choose_instruction_set("avx2").name == "avx2"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu_with("avx2", "fma3"))
    with pytest.raises(KernelsUnavailable, match="avx512: avx512_f, avx512_bw"):
        choose_instruction_set("avx512")


def test_a_machine_without_either_hears_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu_with("avx2"))
    with pytest.raises(KernelsUnavailable, match="avx2: fma3"):
        choose_instruction_set()


def test_builds_do_not_share_a_digest():
    assert len({kernels_digest(each) for each in INSTRUCTION_SETS}) == len(INSTRUCTION_SETS)
