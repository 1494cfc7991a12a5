"""A training that is killed again and again, at random moments, ends as the unbroken one: python -m tests.kills 100

Each training is a process of its own, ended by SIGKILL wherever it is: in a step, an evaluation, a save, the removal of
an older checkpoint, or while it resumes. What is compared, bit for bit: values, checkpoints, both logs (but for times).
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import npora
from npora import EarlyStoppingCallback, Trainer
from npora.files import load_file
from npora.train.folder import checkpoints
from npora.train.manifest import verified
from npora.train.plain import unplain
from tests.tiny import tiny_peft
from tests.train.test_callbacks import lines, timeless
from tests.train.test_state import ROWS
from tests.train.test_trainer import arguments


def trainer(path: Path) -> Trainer:
    scores = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss", "greater_is_better": True}
    args = arguments(path, max_steps=13, save_strategy="steps", save_steps=2, save_total_limit=2, logging_steps=1,
                     weight_decay=0.1, **scores)  # fmt: skip
    return Trainer(tiny_peft(), args, ROWS, ROWS[:5], callbacks=[EarlyStoppingCallback(99)])


def go_on(path: Path) -> None:
    """Resume, or begin where there is nothing to resume from."""
    run = trainer(path)
    try:
        run.train(resume_from_checkpoint=True)
    except ValueError as error:
        if "there is no checkpoint to resume from" not in str(error):
            raise
        run.train()
    run.save_model(path / "adapter")


def killed(path: Path, seconds: float) -> bool:
    """Whether the training was killed after so long; it may have ended before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            go_on(path)
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            assert os.waitstatus_to_exitcode(status) == 0, f"the training failed in {path}"
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def result(path: Path) -> Any:
    """All that two runs must have the same of."""
    history = (path / "log_history.jsonl").read_text().splitlines()
    folders = checkpoints(str(path))
    assert len(folders) == 2 and all(map(verified, folders)), folders
    tensors = [load_file(Path(folder) / "trainer_state.safetensors") for folder in folders]
    values = [{name: array.tobytes() for name, array in each.items()} for each in tensors]
    adapter = (path / "adapter" / "adapter_model.safetensors").read_bytes()
    entries = timeless([unplain(json.loads(line)) for line in history])
    return adapter, values, [Path(folder).name for folder in folders], timeless(lines(path)), entries


def main(kills: int, seed: int) -> None:
    npora.set_num_threads(1)  # a fork has the thread alone that forks
    rng, done, runs, begun = random.Random(seed), 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        start = time.monotonic()
        go_on(Path(name) / "whole")
        whole, most = result(Path(name) / "whole"), time.monotonic() - start
        while done < kills:
            path, runs = Path(name) / str(runs), runs + 1
            while killed(path, rng.uniform(0, most) * rng.choice((0.1, 0.5, 1))):
                done += 1
                most *= 1.02  # or a busy machine might never let it end
            assert result(path) == whole, f"after {done} kills run {runs} ended otherwise (seed {seed})"
            left = [file for file in os.listdir(path) if ".tmp-" in file or "left" in file or file == "run.lock"]
            assert not left, left
    print(f"{done} kills in {runs} runs: each ended as the unbroken one ({time.monotonic() - begun:.0f} s)")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    main(count, int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6))
