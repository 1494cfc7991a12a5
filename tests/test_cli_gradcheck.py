"""npora gradcheck, vcurve and taylor: exit code 0 passes, 1 fails, 2 could not tell, 3 is wrong usage."""

from __future__ import annotations

import argparse
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.catalogue import CATALOGUE, TABLE, VARIATIONS
from npora.check import Report
from npora.check.planted.kinds import KINDS
from npora.cli import main
from npora.commands import countdown, gradcheck

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
    assert all(name in printed for name in (*CATALOGUE, *VARIATIONS, *KINDS))


def test_every_row_has_a_name_of_its_own_that_the_command_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(TABLE) == len(CATALOGUE) + len(VARIATIONS)
    assert main(["gradcheck", "softmax, huge logits", "BertPooler"]) == 0
    assert "softmax, huge logits, 15 elements" in capsys.readouterr().out


def test_layers_that_are_right_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["gradcheck", "lora_linear", "softmax", "--json", str(tmp_path / "r.json")]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("PASS        lora_linear, ")
    reports = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [report["subject"] for report in reports] == ["Adapted", "softmax"]
    assert main(["gradcheck", "lora_linear", "--dtype", "float32", "--method", "central", "--steps", "1"]) == 0


def test_ones_own_functions_are_checked(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", f"{own}:square", f"{own}:made"]) == 0
    assert main(["gradcheck", f"{own}:wrong", "--shape", "3", "--shape", "3"]) == 1
    assert "FAIL y: this is the gradient of x: returned in two places" in capsys.readouterr().out
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


def _options() -> dict[str, list[str]]:
    """Every option of gradcheck, with a value that is not its default."""
    parser = argparse.ArgumentParser()
    gradcheck.add_arguments(parser)
    given = {
        "--method": "central", "--dtype": "float32", "--seed": "3", "--scale": "0.01", "--shape": "3", "--steps": "1",
        "--json": "r.json", "--plot": "p.svg", "--break": "twice",
    }  # fmt: skip
    flags = [action.option_strings[0] for action in parser._actions if action.option_strings and action.dest != "help"]
    return {flag: [flag, given[flag]] if flag in given else [flag] for flag in flags}


OPTIONS = _options()


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(OPTIONS, 2)))
def test_of_two_options_none_is_passed_over(
    one: str, other: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either both take effect, or it is an error that names one of them."""
    if "--plot" in (one, other):
        pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    monkeypatch.chdir(tmp_path)
    names = [] if "--list" in (one, other) else [f"{own}:square"]
    calls: list[dict[str, Any]] = []
    works = gradcheck.gradcheck

    def recorded(layer: Any, *inputs: Any, **options: Any) -> Report:
        calls.append({**options, "shape": inputs[0].shape, "size": float(np.abs(inputs[0]).max())})
        return works(layer, *inputs, **options)

    monkeypatch.setattr(gradcheck, "gradcheck", recorded)
    monkeypatch.setattr(gradcheck, "KINDS", dict(list(KINDS.items())[:2]))
    code = main(["gradcheck", *OPTIONS[one], *OPTIONS[other], *names])
    printed = capsys.readouterr()
    if code == 3:
        assert one in printed.err or other in printed.err
        assert calls == [] and printed.out == "", "said before the work"
        return
    (tmp_path / "own.py").touch()
    for option in (one, other):
        effects = {
            "--list": "kinds of error" in printed.out,
            "--self-test": "planted" in printed.out,
            "--break": "a factor 2, in the gradient of x" in " ".join(printed.out.split()),
            "--json": (tmp_path / "r.json").exists() and json.loads((tmp_path / "r.json").read_text(encoding="utf-8")),
            "--plot": (tmp_path / "p.svg").exists(),
            "--method": all(call.get("method") == "central" for call in calls),
            "--dtype": all(call.get("dtype") == "float32" for call in calls),
            "--seed": all(call["seed"] == 3 for call in calls),
            "--steps": all(call.get("steps") == 1 for call in calls),
            "--blame": all(call.get("blame") for call in calls),
            "--shape": all(call["shape"] == (3,) for call in calls),
            "--scale": all(call["size"] < 0.1 for call in calls),
            "--verbose": "numeric" in printed.out,
        }
        assert effects[option], f"{option} did nothing"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tanh", "--list"], "--list takes no NAME"),
        (["tanh", "--shape", "3"], "takes no --shape"),
        (["OWN:made", "--shape", "3"], "made takes no inputs, and makes its own"),
        (["OWN:made", "--scale", "3"], "made takes no inputs, and makes its own"),
        (["tanh", "--method", "dot-product", "--plot", "x.svg"], "there is nothing for --plot to draw"),
        (["tanh", "--json", "no/r.json"], "no/r.json"),
        (["tanh", "relu", "nowhere"], "there is no layer 'nowhere'"),
        (["tanh", "OWN:cube"], "own.py has no function 'cube'"),
    ],
)
def test_what_would_change_nothing_or_cannot_be_is_said_before_the_work(
    arguments: list[str], said: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gradcheck, "gradcheck", lambda *_, **__: pytest.fail("the work began"))
    assert main(["gradcheck", *(argument.replace("OWN", own) for argument in arguments)]) == 3
    assert said in capsys.readouterr().err


def test_a_self_test_of_nothing_does_not_pass(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", "--self-test", f"{own}:idle"]) in (1, 3)


def test_the_self_test_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gradcheck, "KINDS", dict(list(KINDS.items())[:3]))
    assert main(["gradcheck", "--self-test", "tanh", "relu"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].split() == ["0/6", "tanh:", next(iter(KINDS))]
    assert re.fullmatch(r" +3/6  relu: .*  about \d+:\d\d left", lines[1])
    monkeypatch.setattr(countdown, "EVERY", 0)
    main(["gradcheck", "--self-test", "tanh"])
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_tables_fit_a_terminal_unless_all_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["gradcheck", "lora_attention"], ["gradcheck", "--list"], ["vcurve", "tanh"], ["taylor", "tanh"],
                      ["gradcheck", "--break", "alpha/r missing", "lora_attention"]):  # fmt: skip
        main(arguments)
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 100, arguments
    main(["gradcheck", "lora_attention", "--verbose"])
    assert max(map(len, capsys.readouterr().out.splitlines())) > 100
