"""What a step frees is kept for the next, as long as one asks for it, and given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, numpy as np
from npora.machine.heap import keeping_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

print(faults(), end=" ")
with keeping_freed_memory():
    with keeping_freed_memory():
        np.ones(10_000_000)
    print(faults(), resident() > 80_000_000, end=" ")
print(faults(), resident() < 80_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's heap, which is Linux's")
def test_within_the_block_an_array_takes_the_place_of_the_one_before() -> None:
    """Five times 80 MB are 100,000 pages of 4 KB, or 190 of 2 MB; what is kept is not asked for again."""
    found = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    before, within, held, after, given_back = found.stdout.split()
    assert int(within) < 100 and held == "True"
    assert min(int(before), int(after)) > 2 * int(within) and given_back == "True"
