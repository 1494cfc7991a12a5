"""What a run has logged is a list of dicts, in little memory however long it is."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.train.log_history import LogHistory

VALUES = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.booleans() | st.text(max_size=2) | st.none()
ENTRIES = st.lists(st.dictionaries(st.sampled_from(["step", "loss", "epoch", "eval_loss"]), VALUES), max_size=9)


def typed(entries: Any) -> list[list[tuple[str, type, Any]]]:
    return [[(name, type(value), value) for name, value in entry.items()] for entry in entries]


@given(ENTRIES, st.integers(-10, 10), st.integers(-10, 10))
def test_it_is_the_list_of_its_entries_kinds_and_order_of_names_too(entries: Any, start: int, stop: int) -> None:
    history = LogHistory(entries)
    assert typed(history) == typed(entries) and history == entries and not history != entries
    assert history[start:stop] == entries[start:stop] and len(history) == len(entries)
    assert typed(reversed(history)) == typed(reversed(entries))
    for same in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert typed(same) == typed(entries)
    if -len(entries) <= start < len(entries):
        history[start], other = {"step": 3}, [*entries]
        other[start] = {"step": 3}
        assert typed(history) == typed(other) and typed([history.pop(start)]) == typed([other.pop(start)])
        assert typed(history) == typed(other)
    else:
        with pytest.raises(IndexError):
            history[start]


def test_what_is_not_finite_stays_so_and_it_is_written_as_json() -> None:
    history = LogHistory([{"loss": math.nan, "grad_norm": -math.inf}, {"step": 1, "loss": 0.1}])
    assert math.isnan(history[0]["loss"]) and history[0]["grad_norm"] == -math.inf
    assert json.loads(json.dumps(list(history[1:]))) == [{"step": 1, "loss": 0.1}]


def test_a_whole_number_that_no_float_holds_stays_what_it_is() -> None:
    entries: list[dict[str, Any]] = [{"step": value} for value in (2**53, 2**53 + 1, -(2**53) - 1)]
    history = LogHistory(entries)
    history.insert(1, {"step": 0.5})
    history.insert(0, {"kind": "text"})
    assert typed(history) == typed([{"kind": "text"}, entries[0], {"step": 0.5}, *entries[1:]])


def test_a_step_takes_less_than_a_hundred_bytes() -> None:
    history = LogHistory()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for step in range(5000):
            history.append({"step": step, "loss": 0.1 * step, "grad_norm": 0.3, "learning_rate": 1e-3, "epoch": 0.5})
        assert tracemalloc.get_traced_memory()[0] - before < 100 * 5000
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_5000_steps_with_each_logged_take_no_more_memory_than_100(tmp_path: Path) -> None:
    """Within 2 %, with five checkpoints saved meanwhile."""
    pytest.importorskip("resource", reason="needs /proc")
    program = (
        "import sys; from pathlib import Path; from npora import Trainer, TrainerCallback\n"
        "from tests.tiny import tiny_peft, tiny_rows; from tests.train.test_trainer import arguments\n"
        "class Watch(TrainerCallback):\n"
        "    def on_step_end(self, args, state, control, **kwargs):\n"
        "        if state.global_step in (100, 5000):\n"
        "            print('pages', open('/proc/self/statm').read().split()[1])\n"
        "args = arguments(Path(sys.argv[1]), max_steps=5000, logging_steps=1, save_strategy='steps', save_steps=1000)\n"
        "Trainer(tiny_peft(), args, tiny_rows(64), callbacks=[Watch]).train()"
    )
    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    first, last = (int(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("pages"))
    assert last <= 1.02 * first
