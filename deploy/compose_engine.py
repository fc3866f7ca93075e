"""The container engine that is here, Docker or podman, as far as compose_test needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# A first build fetches torch and the model.
BUILD_TIMEOUT_S = 1800.0
COMMAND_TIMEOUT_S = 300.0


class CheckFailed(Exception):
    """The cluster did not do what it must; the message says what."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the project and the service that it runs."""

    name: str
    service: str


class Engine:
    """The container engine that is here, for one project."""

    def __init__(self, project: str, environment: dict[str, str]) -> None:
        docker = shutil.which("docker")
        if docker and subprocess.run([docker, "info"], capture_output=True).returncode == 0:
            self._program, compose = docker, [docker, "compose"]
        elif shutil.which("podman") and shutil.which("podman-compose"):
            self._program, compose = "podman", ["podman-compose"]
        else:
            raise CheckFailed("neither a running Docker nor podman with podman-compose is here")
        self.name = " ".join(Path(part).name for part in compose)
        self._is_podman = self._program == "podman"
        self._compose = [*compose, "-f", str(ROOT / "docker-compose.yml"), "-p", project]
        self._label = f"label=com.docker.compose.project={project}"
        self._environment = {**os.environ, **environment}

    def compose(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        """Runs a compose command; its output is shown only if it fails."""
        self._check([*self._compose, *arguments], timeout_s)

    def output(self, *arguments: str) -> str:
        """Standard output of an engine command."""
        return self._check([self._program, *arguments])

    def containers(self) -> list[Container]:
        """All of the project, running or not."""
        form = '{{.Names}} {{.Label "com.docker.compose.service"}}'
        if self._is_podman:
            form = '{{.Names}} {{index .Labels "com.docker.compose.service"}}'
        lines = self.output("ps", "-a", "--filter", self._label, "--format", form).splitlines()
        return sorted((Container(*line.split()) for line in lines), key=lambda one: one.name)

    def health(self, container: Container) -> str:
        """`healthy`, or what is wrong."""
        if not self._is_podman:
            form = "{{.State.Status}} {{.State.Health.Status}}"
            status = self.output("inspect", "-f", form, container.name).strip()
            return "healthy" if status == "running healthy" else status
        # podman leaves the timing of checks to systemd, which may not be here: ask now.
        done = self._run([self._program, "healthcheck", "run", container.name])
        return "healthy" if done.returncode == 0 else (done.stdout + done.stderr).strip()

    def exit_code(self, container: Container) -> int:
        """Of a container that has stopped."""
        return int(self.output("inspect", "-f", "{{.State.ExitCode}}", container.name))

    def last_lines(self, container: Container, num_lines: int = 15) -> str:
        """The end of its log, both streams."""
        done = self._run([self._program, "logs", "--tail", str(num_lines), container.name])
        return done.stdout + done.stderr

    def remove_all(self) -> None:
        """Removes containers, network and volumes of the project, and only those."""
        # Not `down`: podman-compose forgets the replicas that --scale added.
        names = [container.name for container in self.containers()]
        if names:
            # podman refuses to remove what others were declared to depend on.
            self.output("rm", "-f", *(["--depend"] if self._is_podman else []), *names)
        for kind in ("network", "volume"):
            found = self.output(kind, "ls", "-q", "--filter", self._label).split()
            if found:
                self.output(kind, "rm", *found)

    def _check(self, command: list[str], timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        try:
            done = self._run(command, timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise CheckFailed(f"{' '.join(command)} takes longer than {timeout_s:g} s") from exc
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            raise CheckFailed(f"{' '.join(command)} failed:\n{tail}")
        return done.stdout

    def _run(
        self, command: list[str], timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self._environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
