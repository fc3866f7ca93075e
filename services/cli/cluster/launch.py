"""Becomes a child process that cannot outlive its supervisor.

Run by path, isolated and without site packages, so that it costs a few milliseconds:
`python -I -S launch.py SUPERVISOR_PID NICE COMMAND...`. It is a program of its own and no
`preexec_fn`, because Python code between fork and exec may deadlock in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_EXIT_ORPHANED = 125
_EXIT_NOT_FOUND = 127


def main(supervisor_pid: int, nice: int, command: list[str]) -> None:
    """Never returns: replaces itself with the command."""
    if sys.platform == "linux":
        # Survives exec. KILL, not TERM: with the supervisor gone nobody waits for a drain.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor_pid:
        # It died before the request above: the signal will never come.
        sys.exit(_EXIT_ORPHANED)
    # The shell's Ctrl-C handling may be inherited as "ignore"; children decide for themselves.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if nice:
        os.nice(nice)
    try:
        os.execvp(command[0], command)
    except OSError as exc:
        sys.stderr.write(f"cannot run {command[0]}: {exc.strerror}\n")
        sys.exit(_EXIT_NOT_FOUND)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
