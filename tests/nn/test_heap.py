"""What a step frees is kept for the next."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, numpy as np
from npora.machine.heap import keep_freed_memory
keep_freed_memory() or np.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's heap, which is Linux's")
def test_an_array_takes_the_place_of_the_one_before() -> None:
    """Five times 80 MB are 100,000 pages of 4 KB, or 190 of 2 MB; what is kept is not asked for again."""
    found = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 100
