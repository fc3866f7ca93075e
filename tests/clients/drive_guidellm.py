"""`guidellm` against a cluster: `make client-guidellm`."""

from __future__ import annotations

import json

from checks import check, main, target
from loads import report, run_program

TARGET = target()
NUM_REQUESTS = 6


def load(request_format: str, name: str) -> None:
    backend = {
        "kind": "openai_http",
        "target": TARGET.url,
        "model": TARGET.model,
        "api_key": TARGET.key,
        "request_format": request_format,
    }
    run_program(
        "guidellm", "run", "--disable-progress",
        "--backend", json.dumps(backend),
        "--profile", "kind=concurrent,streams=2",
        "--constraint", f"kind=max_requests,count={NUM_REQUESTS}",
        "--tokenizer", f"kind=huggingface_auto,model={TARGET.tokenizer_dir}",
        "--data", "kind=synthetic_text,prompt_tokens=32,output_tokens=16",
        "--output", f"kind=json,path={name}.json",
    )  # fmt: skip
    requests = report(f"{name}.json")["benchmarks"][0]["requests"]
    assert (len(requests["successful"]), requests["errored"]) == (NUM_REQUESTS, []), requests
    for request in requests["successful"]:
        assert request["output_tokens"] == 16, request["output_tokens"]


@check
def a_load_of_chats_is_measured():
    load("/v1/chat/completions", "chat")


@check
def a_load_of_completions_is_measured():
    load("/v1/completions", "text")


@check
def a_load_of_responses_is_measured():
    load("/v1/responses", "responses")


main()
