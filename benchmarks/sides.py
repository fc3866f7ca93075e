"""The two ways to the engine that the overhead benchmark compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import httpx

from benchmarks.children import Child, ChildFailed
from benchmarks.overhead import Timing
from services.cli.chat.client import Question, ask_with
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
    """The engine alone, in a child process with the workers' own settings.

    Raises:
        CommandFailed: it does not load.
    """

    def __init__(self, environment: Mapping[str, str], *, log_file: Path) -> None:
        with _command_failures():
            self._child = Child(
                "the in-process engine",
                [sys.executable, "-m", "worker.bench.inprocess"],
                environment=environment,
                log_file=log_file,
            )

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
        with _command_failures():
            answer = self._child.ask({"prompts": list(prompts), "max_tokens": max_tokens})
        return [Timing(**timing) for timing in answer["timings"]]

    def close(self) -> None:
        """Ends the child. Twice is safe."""
        self._child.close()


@contextmanager
def _command_failures() -> Iterator[None]:
    try:
        yield
    except ChildFailed as exc:
        raise CommandFailed(str(exc)) from exc
