from benchmarks.load_client import Reply
from benchmarks.tuning.goal import parse_goal
from benchmarks.tuning.load import window_figures
from benchmarks.tuning.moves import DEFAULTS, MOVES
from benchmarks.tuning.workloads import WORKLOADS
from services.scheduler.settings import SchedulerSettings
from worker.settings import WorkerSettings

TEXTS = [f"text {idx} " * 20 for idx in range(32)]


def test_the_known_defaults_are_those_of_the_processes():
    worker, scheduler = WorkerSettings(), SchedulerSettings()
    for name, value in DEFAULTS.items():
        if name != "workers":
            owner = worker if name in WorkerSettings.model_fields else scheduler
            assert str(getattr(owner, name)) == value, name


def test_every_move_sets_allowed_values_that_differ_from_the_default():
    for move in MOVES:
        changes = move.change({**DEFAULTS, "quantization": "int8"}) or move.change(DEFAULTS)
        assert changes, move.name
        fields = {k: v for k, v in changes.items() if k in WorkerSettings.model_fields}
        WorkerSettings.model_validate(fields)
        assert all(DEFAULTS[name] != value for name, value in changes.items())


def test_every_workload_has_a_goal_and_unique_prompts():
    for workload in WORKLOADS.values():
        parse_goal(workload.goal)
        prompts = [q.prompt for c in workload.clients(TEXTS, "m") for q in c]
        assert len(prompts) == len(set(prompts))


def test_a_conversation_grows_by_its_turns():
    first, second, *_ = WORKLOADS["chat"].clients(TEXTS, "m")[0]
    assert second.prompt.startswith(first.prompt)


def test_an_answer_without_text_is_an_error():
    good = Reply(0.0, event_s=[0.1, 0.2, 0.4], ended_s=0.5, output_tokens=3)
    figures = window_figures([good, Reply(0.0)], 1.0, 1)
    assert figures.errors == 2
    assert figures.samples["ttft"] == [100.0]
    assert [round(gap) for gap in figures.samples["itl"]] == [100, 200]
    assert [round(gap) for gap in figures.samples["tpot"]] == [150]
