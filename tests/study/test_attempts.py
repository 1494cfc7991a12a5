"""Answers that are no answer: each is told of by file and line, and the command's exit code is a grader's."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.cli import main
from npora.study import attempt, exercise
from npora.study.exercises import EXERCISES

Captured = pytest.CaptureFixture[str]
RIGHT = "    p = softmax(x)\n    return p * (dp - (dp * p).sum(axis=-1, keepdims=True))\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NPORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answered(folder: Path, body: str, before: str = "") -> Path:
    """softmax.py with another body of backward."""
    head = exercise.statement("softmax").partition("    raise NotImplementedError")[0]
    (folder / "softmax.py").write_text(before + head + body, encoding="utf-8")
    return folder / "softmax.py"


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (RIGHT, 0, "softmax: right"),
        ("    return softmax(x) * dp\n", 1, "the share of the sum is missing"),
        ("    return dp[:, :2]\n", 1, "dx has shape [5, 2], expected [5, 6]"),
        ("    return (softmax(x) * dp).T\n", 1, "the shape of the transpose"),
        ("    return None\n", 1, "None was returned, expected dx"),
        ("    return dp, dp\n", 1, "2 arrays were returned, expected 1"),
        ("    return 'x'\n", 1, "dx is a str"),
        ("    x *= 2\n    return dp\n", 1, "line 27 of softmax.py mutates"),
        ("    return dp * np.log(-softmax(x))\n", 1, "softmax.py, line 27: invalid value"),
        ("    return dp * np.random.rand(5, 6)\n", 1, "randomness"),
        ("    return (softmax(x) * dp).astype(np.float32)\n", 1, "dtypes are kept"),
        ("    return dp + 0j\n", 1, "dx is an array of complex128, expected an array of real numbers"),
        ("    return dp > 0\n", 1, "dx is an array of bool"),
        ("    return dp.astype(object)\n", 1, "dx is an array of object"),
        ("    return 'dx'\n", 1, "dx is a str"),
        ("    return [[1.0], [1.0, 2.0]]\n", 1, "2 arrays were returned, expected 1: dx"),
        ("    raise GeneratorExit\n", 2, "softmax.py, line 27: GeneratorExit"),
        ("    return dq\n", 2, "softmax.py, line 27: NameError: name 'dq'"),
        ("    exit()\n", 2, "softmax.py, line 27: SystemExit"),
        ("    raise NotImplementedError\n", 2, "softmax.py, line 27: to be written"),
        ("    while True:\n        pass\n", 2, "no end after 0.3 s"),
        ("    return (dp\n", 2, "softmax.py, line 27: '(' was never closed"),
    ],
)
def test_an_answer_has_an_exit_code_and_a_line(
    folder: Path, body: str, code: int, says: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "SECONDS", 0.3 if "while" in body else 60.0)
    answered(folder, body)
    assert main(["exercise", "check", "softmax.py"]) == code
    assert says in " ".join(capsys.readouterr().out.split())


def test_a_loop_ends_in_a_shells_background_job_too(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There SIGINT is ignored, and stays so: what the user did not send interrupts nothing else."""
    monkeypatch.setattr(attempt, "SECONDS", 0.3)
    answered(folder, "    import os, signal\n    os.kill(os.getpid(), signal.SIGINT)\n    while True:\n        pass\n")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["exercise", "check", "softmax.py"]) == 2
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert "no end after 0.3 s" in " ".join(capsys.readouterr().out.split())


def test_what_is_no_file_of_an_exercise_is_not_run(folder: Path, capsys: Captured) -> None:
    (folder / "own.py").write_text("EXERCISE = 'own'\n")
    (folder / "tanh.py").write_text("def forward(x): return x\n")
    (folder / "relu.py").write_text("1 / 0\n")
    (folder / "silu.py").write_text("def backward(dy): return dy\n")
    (folder / "nul.py").write_bytes(b"x = 1\0")
    for name, says in {
        "own": "EXERCISE = 'own'", "tanh": "defines no function backward", "relu": "line 1: ZeroDivisionError",
        "silu": "is called as backward(dy, x)", "nul": "null bytes",
    }.items():  # fmt: skip
        assert main(["exercise", "check", f"{name}.py"]) == 2
        assert says in " ".join(capsys.readouterr().out.split())
    assert main(["exercise", "check", "nowhere.py"]) == 2 and "nowhere.py" in capsys.readouterr().err


def test_a_changed_forward_is_told_of_and_does_not_count(folder: Path, capsys: Captured) -> None:
    path = answered(folder, "    return dp\n")
    path.write_text(path.read_text(encoding="utf-8").replace("return e / e.sum", "return x + 0 * e / e.sum"))
    assert main(["exercise", "check", "softmax.py"]) == 1
    assert "softmax in softmax.py was changed" in " ".join(capsys.readouterr().out.split())


def test_start_list_and_hint_keep_what_was_done(folder: Path, capsys: Captured) -> None:
    assert main(["exercise", "start", "softmax"]) == 0
    assert (folder / "softmax.py").read_text(encoding="utf-8") == exercise.statement("softmax")
    assert main(["exercise", "start", "softmax"]) == 2 and "is there already" in capsys.readouterr().err
    for number in (1, 2, 3, 3):
        assert main(["exercise", "hint", "softmax"]) == 0
        assert capsys.readouterr().out.startswith(f"hint {number} of 3: {EXERCISES['softmax'].hints[number - 1][:20]}")
    answered(folder, "    return dp\n")
    assert main(["exercise", "check", "softmax.py"]) == 1
    capsys.readouterr()
    assert main(["exercise", "list"]) == 0
    assert "tried  softmax" in capsys.readouterr().out
    answered(folder, RIGHT)
    assert main(["exercise", "check", "softmax.py"]) == 0
    answered(folder, "    return dp\n")
    assert main(["exercise", "check", "softmax.py"]) == 1  # what was right once stays so
    capsys.readouterr()
    assert main(["exercise", "list"]) == 0
    out = capsys.readouterr().out
    assert (
        "right  softmax" in out and f"1 of {len(EXERCISES)} are right" in out and max(map(len, out.splitlines())) <= 160
    )
    record = json.loads((folder / "cache" / "exercises.json").read_text())
    assert record == {"softmax": {"hints": 3, "right": True, "tries": 3}}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "softmax"], "list takes no name"), (["start"], "takes one exercise"), (["check"], "name the files"),
        (["hint", "nowhere"], "there is no exercise 'nowhere'"), (["start", "relu", "tanh"], "got 2"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line(folder: Path, arguments: list[str], says: str, capsys: Captured) -> None:
    assert main(["exercise", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (folder / "cache").exists()


def test_a_record_that_is_none_is_refused(folder: Path, capsys: Captured) -> None:
    (folder / "cache").mkdir()
    (folder / "cache" / "exercises.json").write_text('{"softmax": 1}')
    assert main(["exercise", "list"]) == 2 and "is no record of exercises" in capsys.readouterr().err


def test_a_step_may_not_write_to_what_it_is_given() -> None:
    def adam(theta: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, **settings: float) -> tuple[Any, ...]:
        m *= settings["beta1"]
        return theta, m, v

    outcome = exercise.check("adam", adam)
    assert outcome.code == 1 and "test_attempts.py mutates an array that it was given" in outcome.says[0]


def test_ctrl_c_is_the_users_and_another_thread_may_judge() -> None:
    def stop(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exercise.check("tanh", stop)
    found = []
    thread = threading.Thread(target=lambda: found.append(exercise.check("tanh", EXERCISES["tanh"].solution)))
    thread.start()
    thread.join()
    assert found[0] and "tanh: right" in repr(found[0])


def test_a_right_answer_is_right_as_a_list_or_a_view_too() -> None:
    def nested(dp: np.ndarray, x: np.ndarray) -> Any:
        return EXERCISES["softmax"].solution(dp, x).tolist()

    def alone(dp: np.ndarray, x: np.ndarray) -> Any:
        return [np.asfortranarray(EXERCISES["softmax"].solution(dp, x))]

    assert exercise.check("softmax", nested) and exercise.check("softmax", alone)
    assert exercise.check("positions", lambda dy, x, P: [dy[...], dy.sum(axis=0)])
    assert exercise.check("nf4_levels", lambda: list(EXERCISES["nf4_levels"].solution()))
