"""Brings docker-compose.yml up with two workers, asks through the published port, tears it down.

    python deploy/compose_test.py [--workers 2] [--keep]

Uses `docker compose`, or `podman-compose` where there is no Docker. Everything runs under a
project name and on host ports of its own, so that a cluster that runs already is not touched. Exit
status 0 if a real answer streamed, every worker served, and every process drained with status 0.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from compose_engine import BUILD_TIMEOUT_S, CheckFailed, Container, Engine

OURS = ("gateway", "worker", "scheduler", "tokenizer", "cache")
IMAGE = "tokenmill:compose-test"
HEALTHY_WITHIN_S = 240.0
ANSWER_WITHIN_S = 180.0
STOP_GRACE_S = 45
NUM_CONCURRENT = 8
QUESTION = "What is the capital of France?"
ANSWER_NAMES = "Paris"

# Read inside the containers: only the gateway has host ports.
READ_METRICS = (
    "import urllib.request as r;"
    "print(r.urlopen('http://127.0.0.1:9464/metrics', timeout=5).read().decode())"
)
SUBMITTED = "rpc_server_call_duration_seconds_count"
SUBMIT_METHOD = "tokenmill.v1.WorkerService/Submit"
CACHE_BLOCKS = "tokenmill_cache_blocks"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one streamed answer was."""

    text: str
    num_deltas: int
    first_delta_s: float
    total_s: float
    usage: dict


def say(text: str) -> None:
    """One line of the report, with the time."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def wait_until_healthy(engine: Engine) -> None:
    """Returns when every container answers its health check.

    Raises:
        CheckFailed: with the state and last lines of those that do not.
    """
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    waiting = engine.containers()
    while True:
        states = {container: engine.health(container) for container in waiting}
        for container, state in states.items():
            if state == "healthy":
                say(f"healthy: {container.name}")
        waiting = [container for container in waiting if states[container] != "healthy"]
        if not waiting:
            return
        if time.monotonic() > deadline:
            report = "\n".join(
                f"{container.name}: {states[container]}\n{engine.last_lines(container)}"
                for container in waiting
            )
            raise CheckFailed(f"not healthy after {HEALTHY_WITHIN_S:g} s:\n{report}")
        time.sleep(1.0)


def ask(base_url: str, api_key: str, question: str, max_tokens: int) -> Answer:
    """Asks over HTTP, as any OpenAI client does, and reads the stream to its end."""
    body = {
        "model": "",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    models = urllib.request.Request(f"{base_url}/v1/models", headers=headers)
    with urllib.request.urlopen(models, timeout=10) as reply:
        body["model"] = json.load(reply)["data"][0]["id"]
    request = urllib.request.Request(
        f"{base_url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers=headers,
    )
    started = time.monotonic()
    first_delta_s, deltas, usage, is_done = 0.0, [], {}, False
    with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as reply:
        for line in reply:
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                is_done = True
                break
            chunk = json.loads(line.removeprefix(b"data: "))
            if "error" in chunk:
                raise CheckFailed(f"the stream broke off: {chunk['error']}")
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                if text := choice["delta"].get("content"):
                    first_delta_s = first_delta_s or time.monotonic() - started
                    deltas.append(text)
    if not is_done or len(deltas) < 2:
        raise CheckFailed(f"no stream: {len(deltas)} deltas, finished: {is_done}")
    total_s = time.monotonic() - started
    return Answer("".join(deltas), len(deltas), first_delta_s, total_s, usage)


def sum_metric(engine: Engine, container: Container, metric: str, *labels: str) -> float:
    """Sum of a metric's samples that bear all these texts as labels."""
    text = engine.output("exec", container.name, "python", "-c", READ_METRICS)
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(metric) and all(label in line for label in labels)
    )


def make_key(engine: Engine) -> str:
    """An API key, made as an operator makes one."""
    gateway = next(one for one in engine.containers() if one.service == "gateway")
    command = ("tokenmill", "keys", "create", "--name", "compose-test", "--json")
    return json.loads(engine.output("exec", gateway.name, *command))["api_key"]


def check_answer(base_url: str, api_key: str) -> None:
    """Asks one question.

    Raises:
        CheckFailed: the answer is not a real one.
    """
    answer = ask(base_url, api_key, QUESTION, 32)
    say(f"asked: {QUESTION}")
    say(f"answer: {answer.text!r}")
    say(
        f"streamed in {answer.num_deltas} deltas: first after {answer.first_delta_s:.2f} s,"
        f" last after {answer.total_s:.2f} s; usage {json.dumps(answer.usage)}"
    )
    if ANSWER_NAMES not in answer.text:
        raise CheckFailed(f"the answer does not name {ANSWER_NAMES}")


def check_all_workers_serve(engine: Engine, base_url: str, api_key: str) -> None:
    """Asks several questions at once.

    Raises:
        CheckFailed: a worker got no work.
    """
    questions = [f"Tell me a fact about the number {number}." for number in range(NUM_CONCURRENT)]
    started = time.monotonic()
    with ThreadPoolExecutor(NUM_CONCURRENT) as threads:
        answers = list(
            threads.map(lambda question: ask(base_url, api_key, question, 32), questions)
        )
    num_tokens = sum(answer.usage.get("completion_tokens", 0) for answer in answers)
    say(
        f"{len(answers)} questions at once: {num_tokens} tokens"
        f" in {time.monotonic() - started:.1f} s"
    )
    served = {
        one.name: int(sum_metric(engine, one, SUBMITTED, SUBMIT_METHOD, '"OK"'))
        for one in engine.containers()
        if one.service == "worker"
    }
    say(f"batches submitted per worker: {json.dumps(served)}")
    if not all(served.values()):
        raise CheckFailed("a worker served nothing")


def check_reuse(engine: Engine, base_url: str, api_key: str) -> None:
    """Asks the first question again.

    Raises:
        CheckFailed: nothing of its prompt was reused, or no block reached the cache service.
    """
    answer = ask(base_url, api_key, QUESTION, 32)
    num_cached = answer.usage["prompt_tokens_details"]["cached_tokens"]
    (cache,) = (one for one in engine.containers() if one.service == "cache")
    num_blocks = int(sum_metric(engine, cache, CACHE_BLOCKS))
    say(f"asked again: {num_cached} prompt tokens reused; cache service: {num_blocks} blocks")
    if not num_cached or not num_blocks:
        raise CheckFailed("nothing was reused")


def stop_and_check(engine: Engine) -> None:
    """Stops every process, the door first, and checks that all drained.

    Raises:
        CheckFailed: a process was killed or failed.
    """
    containers = engine.containers()
    for service in (*OURS, "nats"):
        names = [one.name for one in containers if one.service == service]
        engine.output("stop", "-t", str(STOP_GRACE_S), *names)
    codes = {one.name: engine.exit_code(one) for one in containers if one.service in OURS}
    say(f"exit status after SIGTERM: {json.dumps(codes)}")
    if any(codes.values()):
        raise CheckFailed("a process did not drain")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def timed(what: str, step: Callable[[], None]) -> None:
    """Runs a step and says how long it took."""
    started = time.monotonic()
    step()
    say(f"{what}: {time.monotonic() - started:.0f} s")


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    options = parser.parse_args()
    http_port = free_port()
    project = f"tokenmill-test-{secrets.token_hex(3)}"
    environment = {
        "TOKENMILL_IMAGE": IMAGE,
        "TOKENMILL_PUBLISH_HTTP": f"127.0.0.1:{http_port}",
        "TOKENMILL_PUBLISH_GRPC": f"127.0.0.1:{free_port()}",
        # Workers that each take every core wait for each other's threads in every step.
        "TOKENMILL_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // options.workers)),
    }
    base_url = f"http://127.0.0.1:{http_port}"
    engine: Engine | None = None
    try:
        engine = Engine(project, environment)
        say(f"{engine.name}, project {project}, {base_url}, workers={options.workers}")
        up = ("up", "-d", "--no-build", "--scale", f"worker={options.workers}")
        timed("image built", lambda: engine.compose("build", "gateway", timeout_s=BUILD_TIMEOUT_S))
        timed("containers started", lambda: engine.compose(*up))
        timed("all healthy", lambda: wait_until_healthy(engine))
        api_key = make_key(engine)
        check_answer(base_url, api_key)
        check_all_workers_serve(engine, base_url, api_key)
        check_reuse(engine, base_url, api_key)
        if not options.keep:
            timed("all stopped", lambda: stop_and_check(engine))
    except CheckFailed as exc:
        say(f"FAILED: {exc}")
        if engine is not None:
            for container in engine.containers():
                sys.stdout.write(f"--- {container.name}\n{engine.last_lines(container)}\n")
        return 1
    finally:
        if engine is not None and not options.keep:
            engine.remove_all()
            say("removed")
    say("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
