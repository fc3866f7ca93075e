import os
import signal
import subprocess
import sys

from services.cli.cluster.identity import ProcessIdentity, identify


def test_a_process_that_ended_is_not_alive_and_takes_no_signal():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = identify(process.pid)
        assert identity.is_alive()
        process.kill()
    assert not identity.is_alive()
    assert not identity.send(signal.SIGTERM)


def test_a_zombie_is_not_alive():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    identity = identify(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive()
    process.wait()


def test_another_process_under_the_same_number_takes_no_signal():
    own = identify(os.getpid())
    assert not ProcessIdentity(own.pid, own.start_ticks + 1).send(signal.SIGKILL)
