"""The two ways to the engine that the overhead benchmark compares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import httpx

from benchmarks.overhead import Timing
from services.cli.chat_client import Question, ask_with
from services.cli.failure import CommandFailed

_TIMEOUT_S = 600.0


class StackSide:
    """Through the public HTTP door, streaming."""

    def __init__(self, url: str, model: str, max_concurrency: int) -> None:
        self._model = model
        self._client = httpx.Client(
            base_url=url,
            timeout=_TIMEOUT_S,
            trust_env=False,
            limits=httpx.Limits(max_connections=max_concurrency),
        )
        self._pool = ThreadPoolExecutor(max_concurrency)

    def run(self, prompts: Sequence[str], max_tokens: int) -> Sequence[Timing]:
        """Asks all at once; each answer is timed from its own question."""
        return list(self._pool.map(lambda prompt: self._ask(prompt, max_tokens), prompts))

    def close(self) -> None:
        """Closes connections. Twice is safe."""
        self._pool.shutdown()
        self._client.close()

    def _ask(self, prompt: str, max_tokens: int) -> Timing:
        question = Question(
            prompt, self._model, max_tokens=max_tokens, temperature=0.0, ignore_eos=True
        )
        answer = ask_with(self._client, question)
        return Timing(answer.ttft_s, answer.total_s, answer.prompt_tokens, answer.output_tokens)


class EngineSide:
    """The engine alone, in a child process with the workers' own settings."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker.inprocess"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._read()

    def __enter__(self) -> EngineSide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, prompts: Sequence[str], max_tokens: int) -> Sequence[Timing]:
        """Submits all at once."""
        assert self._process.stdin is not None
        json.dump({"prompts": list(prompts), "max_tokens": max_tokens}, self._process.stdin)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [Timing(**timing) for timing in self._read()["timings"]]

    def close(self) -> None:
        """Ends the child. Twice is safe."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CommandFailed(f"the in-process engine ended ({self._process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CommandFailed(f"the in-process engine failed: {answer['error']}")
        return answer
