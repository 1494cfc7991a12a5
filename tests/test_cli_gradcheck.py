"""npora gradcheck, vcurve and taylor: exit code 0 passes, 1 fails, 2 could not tell, 3 is wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from npora.check.kinds import KINDS
from npora.cli import main
from npora.commands.catalogue import CATALOGUE

OWN = """
import numpy as np

def square(x):
    return x * x, lambda dy: 2 * x * dy

def wrong(x, y):
    return x * y, lambda dy: (dy * y, dy * y)

def made():
    return square, np.array([1.0, 2.0])

def idle(x):
    return 0 * x, lambda dy: 0 * dy

def lost(x):
    return {}[1], lambda dy: dy
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def test_the_list_names_every_layer_and_every_kind_of_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*CATALOGUE, *KINDS))


def test_layers_that_are_right_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["gradcheck", "lora_linear", "softmax", "--json", str(tmp_path / "r.json")]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("PASS        lora_linear, ")
    reports = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [report["subject"] for report in reports] == ["LoRALinear", "softmax"]
    assert main(["gradcheck", "lora_linear", "--dtype", "float32", "--method", "central", "--steps", "1"]) == 0


def test_ones_own_functions_are_checked(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", f"{own}:square", f"{own}:made"]) == 0
    assert main(["gradcheck", f"{own}:wrong", "--shape", "3", "--shape", "3"]) == 1
    assert "FAIL y: this and the gradient of x are the same" in capsys.readouterr().out
    assert main(["gradcheck", f"{own}:idle"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no layer 'nowhere'; there are relu,"),
        ([], "name what to check"),
        (["nowhere.py:f"], "there is no file nowhere.py"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["tanh", "--method", "guess"], "invalid choice: 'guess'"),
        (["tanh", "--break", "bogus"], "there is no kind of error 'bogus'"),
        (["tanh", "--break", "alpha/r missing"], "does not apply to any gradient of tanh"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_3(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["gradcheck", *arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 3 and message in captured.err and captured.err.count("\n") == 1


def test_a_function_that_is_not_there_is_an_error(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", f"{own}:cube"]) == 3
    assert "own.py has no function 'cube'" in capsys.readouterr().err


def test_what_ones_own_code_raises_is_no_verdict(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", f"{own}:lost"]) == 3
    assert ", in lost\n" in capsys.readouterr().err
    (tmp_path / "bad.py").write_text("def f(x:")
    for arguments, message in [
        ([f"{tmp_path}/bad.py:f"], "bad.py is not Python: line 1: "),
        ([f"{own}:square", "--shape", "a"], "--shape takes the sizes of one input, as in 4,5; got 'a'"),
        ([f"{own}:square", "--shape", "3", "--shape", "3"], "square takes 1 inputs without a default; got 2 of"),
        (["tanh", "relu", "--plot", "p.svg"], "--plot draws one report: name one layer, not 2"),
    ]:
        assert main(["gradcheck", *arguments]) == 3
        assert message in capsys.readouterr().err
    assert main(["taylor", "tanh", "--break", "bogus"]) == 3


def test_a_planted_error_is_shown_to_every_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", "--break", "alpha/r missing", "lora_linear"]) == 1
    printed = capsys.readouterr().out
    for line in ("complex      FAIL", "central      FAIL", "dot-product  FAIL", "taylor       FAIL", "1/(α/r)"):
        assert line in printed


def test_the_self_test_counts_what_was_caught_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", "--self-test", "linear"]) == 0
    total = capsys.readouterr().out.splitlines()[-1].split()
    assert total[0] == "all" and int(total[1]) == int(total[2]) >= 20 and int(total[3]) >= 0.9 * int(total[1])


def test_the_experiments_print_their_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["vcurve", "tanh"]) == 0
    printed = capsys.readouterr().out
    assert "Richardson" in printed and "in float64\n" in printed and "in float32\n" in printed
    assert main(["taylor", "tanh"]) == 0
    assert "centred 3.0" in capsys.readouterr().out or "centred 2.9" in capsys.readouterr().out
    assert main(["taylor", "tanh", "--break", "1.0005"]) == 1
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    for command in ("vcurve", "taylor", "gradcheck"):
        assert main([command, "tanh", "--plot", str(tmp_path / f"{command}.svg")]) == 0
        assert (tmp_path / f"{command}.svg").stat().st_size > 1000
