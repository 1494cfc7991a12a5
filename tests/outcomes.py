"""What came of the mutants: kept while they are judged, counted at the end."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from tests.forks import BROKEN, ENDLESS, KILLED, LATE, SURVIVED
from tests.mutations import Mutant
from tests.survivors import SURVIVORS

DEAD = (KILLED, BROKEN, ENDLESS)


def reason(mutant: Mutant) -> str | None:
    """Why it may survive. A key names the file where another file has a mutant of the same name."""
    return SURVIVORS.get(mutant.identity, SURVIVORS.get(mutant.name))


class Record:
    """The outcomes by name; in a file too, a line each, where there is one."""

    def __init__(self, path: str | None, digest: str, start: float, total: int = 0) -> None:
        self.path, self.start, self.total, self.outcomes = path, start, total, dict[str, str]()
        if path is None:
            return
        lines = Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
        if lines and json.loads(lines[0]) == digest:
            said = dict(json.loads(line) for line in lines[1:] if line.endswith("]"))
            self.outcomes = {name: outcome for name, outcome in said.items() if outcome != LATE}
        else:
            Path(path).write_text(json.dumps(digest) + "\n", encoding="utf-8")

    def note(self, name: str, outcome: str) -> None:
        self.outcomes[name] = outcome
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps((name, outcome)) + "\n")
        if outcome in (SURVIVED, LATE) or len(self.outcomes) % 200 == 0:
            self.say(f"{len(self.outcomes):6} judged; {outcome}: {name}")

    def say(self, text: str) -> None:
        print(f"{time.perf_counter() - self.start:5.0f} s  {text}", file=sys.stderr, flush=True)


def report(chosen: list[Mutant], explained: list[Mutant], outcomes: dict[str, str], seconds: float) -> int:
    """Prints the tables; the program's exit code."""
    folders = sorted({_folder(mutant) for mutant in chosen})
    print(f"{'':24}{'mutants':>8}{'killed':>8}{'explained':>10}{'surviving':>10}{'timed out':>10}")
    for folder in [*folders, "all"]:
        own = [mutant for mutant in chosen if folder in (_folder(mutant), "all")]
        print(f"{folder:24}" + _counts(own, explained, outcomes))
    print()
    kinds = Counter(mutant.operator for mutant in chosen)
    for kind, _ in kinds.most_common():
        print(f"{kind:24}" + _counts([mutant for mutant in chosen if mutant.operator == kind], explained, outcomes))
    survivors = [m for m in chosen if outcomes.get(m.identity) == SURVIVED]
    new = [mutant for mutant in survivors if reason(mutant) is None]
    stale = [m for m in chosen if reason(m) is not None and outcomes.get(m.identity) in DEAD]
    for mutant in new:
        print(f"NEW SURVIVOR  {mutant.path}:{mutant.first}  {mutant.name}")
    for mutant in stale:
        print(f"EXPLAINED, BUT {outcomes[mutant.identity].upper()}  {mutant.name}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{len(chosen)} mutants, {len(new)} survivors that nothing explains; {seconds:.0f} s, "
        f"{used.ru_utime + used.ru_stime:.0f} s of the processor"
    )
    return 0 if chosen and not new and not stale else 1


def _folder(mutant: Mutant) -> str:
    parts = mutant.path.split("/")
    return "/".join(parts[1:-1]) or parts[-1]


def _counts(own: list[Mutant], explained: list[Mutant], outcomes: dict[str, str]) -> str:
    said = Counter(outcomes.get(mutant.identity) for mutant in own if mutant not in explained)
    why = [m for m in own if m in explained or (outcomes.get(m.identity) == SURVIVED and reason(m) is not None)]
    surviving = said[SURVIVED] - sum(1 for m in why if m not in explained)
    dead = sum(said[kind] for kind in DEAD)
    return f"{len(own):8}{dead:8}{len(why):10}{surviving:10}{said[LATE]:10}"
