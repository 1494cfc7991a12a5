"""Which files are mutated, and which mutants a sample takes."""

from __future__ import annotations

import random
import re
import subprocess
from importlib.util import find_spec

from tests.mutants import LEFT_OUT, NEEDS, SAMPLED
from tests.mutations import ROOT, Mutant

Lines = dict[str, set[int]]  # by file


def files_of(names: list[str], of_sample: bool) -> list[str]:
    """Those whose path holds one of these names, of all but LEFT_OUT, or of SAMPLED alone."""
    files = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "npora").rglob("*.py"))]
    files = [file for file in files if not file.startswith(LEFT_OUT)]
    if of_sample:
        files = [file for file in files if file.startswith(SAMPLED) and (file not in NEEDS or find_spec(NEEDS[file]))]
    return [file for file in files if not names or any(name in file for name in names)]


def changed_lines() -> Lines:
    """Of npora, since the branch that others have, or else since the commit before; none without git."""
    base = _git("merge-base", "HEAD", "origin/HEAD").strip()
    if not base or base == _git("rev-parse", "HEAD").strip():
        base = _git("rev-parse", "HEAD~1").strip()
    found: Lines = {}
    file = ""
    for line in _git("diff", "-U0", base, "--", "npora").splitlines() if base else []:
        if line.startswith("+++ "):
            file = line.removeprefix("+++ b/")
        elif (hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)) is not None:
            first, count = int(hunk[1]), int(hunk[2] or 1)
            found.setdefault(file, set()).update(range(first, first + count))
    return found


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def sampled(mutants: list[Mutant], count: int, seed: str, changed: Lines) -> list[Mutant]:
    """So many of those that a sample may take, in their order: those on changed lines first, the others by the seed."""
    mutants = [mutant for mutant in mutants if mutant.proven]
    rng = random.Random(seed)
    drawn = rng.sample(mutants, len(mutants))
    drawn.sort(key=lambda m: not changed.get(m.path, set()) & set(range(m.first, m.last + 1)))
    taken = {mutant.identity for mutant in drawn[:count]}
    return [mutant for mutant in mutants if mutant.identity in taken]
