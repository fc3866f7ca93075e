import subprocess
import sys

COUNT_FAULTS = """
import resource, sys
from services.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks = [bytearray(700_000) for _ in range(20)]
del blocks
before = faults()
for _ in range(50):
    blocks = [bytearray(700_000) for _ in range(20)]
    del blocks
print(faults() - before)
"""


def num_faults(how: str) -> int:
    """Of a thousand blocks that come and go."""
    command = [sys.executable, "-c", COUNT_FAULTS, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_blocks_come_into_memory_that_was_kept():
    assert 5 * num_faults("keep") < num_faults("give back")
