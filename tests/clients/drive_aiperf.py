"""`aiperf` against a cluster: `make client-aiperf`."""

from __future__ import annotations

from checks import check, main, target
from loads import report, run_program

TARGET = target()
NUM_REQUESTS = 6


def load(kind: str) -> None:
    run_program(
        "aiperf", "profile", "--ui", "none",
        "--model", TARGET.model,
        "--tokenizer", TARGET.tokenizer_dir,
        "--endpoint-type", kind,
        "--streaming",
        "--url", TARGET.url,
        "--api-key", TARGET.key,
        "--concurrency", "2",
        "--request-count", str(NUM_REQUESTS),
        "--isl", "32",
        "--osl", "16",
        "--output-artifact-dir", kind,
    )  # fmt: skip
    told = report(f"{kind}/**/profile_export_aiperf.json")
    assert told["request_count"]["avg"] == NUM_REQUESTS, told["request_count"]
    assert not told.get("error_summary"), told["error_summary"]
    assert told["time_to_first_token"]["avg"] > 0
    assert told["output_sequence_length"]["avg"] > 0


@check
def a_load_of_chats_is_measured():
    load("chat")


@check
def a_load_of_completions_is_measured():
    load("completions")


@check
def a_load_of_responses_is_measured():
    load("responses")


main()
