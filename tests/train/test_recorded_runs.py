"""Runs as their folders tell of them: drawn, and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Trainer
from npora.cli import main
from npora.train.finite import NotFinite
from npora.train.pictures import draw_runs, smoothed
from npora.train.runs import differences, read_run
from tests.tiny import tiny_peft, tiny_rows
from tests.train.test_trainer import arguments

ROWS = tiny_rows(20)


def ran(folder: Path, examples: Any = ROWS, seed: int = 0, **changes: Any) -> str:
    """The folder of a run."""
    options = {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 3, **changes}
    args = arguments(folder, **options)
    Trainer(tiny_peft(seed=seed), args, examples, ROWS, compute_metrics=lambda pair: {"share": 0.5}).train()
    return str(folder)


def test_a_run_that_is_done_again_is_the_same(tmp_path: Path, capsys: Any) -> None:
    folders = [ran(tmp_path / name) for name in ("one", "two")]
    assert main(["compare", *folders]) == 0
    assert "the runs are the same: arguments, versions, base, data, and 8 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "part", "name", "step"),
    [
        ({"learning_rate": 2e-2}, "arguments", "learning_rate", "step 1"),
        ({"weight_decay": 0.5}, "arguments", "weight_decay", "step 2"),
        ({"examples": tiny_rows(20, seed=1)}, "data", "sha256", "step 1"),
        ({"seed": 3}, "model", "base_sha256", "step 1"),
        ({"max_steps": 5, "lr_scheduler_type": "constant"}, "arguments", "max_steps", "step 5"),
    ],
)  # fmt: skip
def test_what_makes_two_runs_differ_is_named_and_where_they_part(
    tmp_path: Path, capsys: Any, changes: dict[str, Any], part: str, name: str, step: str
) -> None:
    constant = {"lr_scheduler_type": "constant"}
    one, other = ran(tmp_path / "one", **constant), ran(tmp_path / "two", **{**constant, **changes})
    found = differences(read_run(one), read_run(other))
    assert [(part, name)] == [found_[:2] for found_ in found if not found_[0].startswith("step")]
    assert found[-1][0] == step
    assert main(["compare", one, other]) == 1
    printed = capsys.readouterr().out
    assert f"{part}\n  {name}" in printed and f"\n{step}\n" in printed


def test_runs_that_were_told_otherwise_and_went_alike_are_not_the_same(tmp_path: Path, capsys: Any) -> None:
    assert main(["compare", ran(tmp_path / "one"), ran(tmp_path / "two", save_total_limit=1)]) == 1
    printed = capsys.readouterr().out
    assert "save_total_limit" in printed and "the logs are the same, as far as both go" in printed


def test_time_is_no_difference_and_a_number_is_down_to_its_last_bit(tmp_path: Path) -> None:
    one, other = read_run(ran(tmp_path / "one")), read_run(ran(tmp_path / "two"))
    other.entries[4]["seconds"] += 1.0
    assert not differences(one, other)
    other.entries[4]["loss"] = float(np.nextafter(other.entries[4]["loss"], 9))
    (found,) = differences(one, other)
    assert found[:2] == (f"step {one.entries[4]['step']}", "loss")


def test_a_log_in_the_midst_of_a_line_is_read_up_to_it_and_a_broken_one_is_refused(tmp_path: Path, caplog: Any) -> None:
    log = Path(ran(tmp_path)) / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-9])
    assert len(read_run(tmp_path).entries) == whole.count(b"\n") - 1 and "is not whole" in caplog.text
    log.write_bytes(b'{"step": 1}\n\xff\n')
    with pytest.raises(ValueError, match=r"log.jsonl, line 2: not JSON"):
        read_run(tmp_path)
    log.write_bytes(b'{"loss": 1}\n')
    with pytest.raises(ValueError, match=r"line 1: an object with a step was expected"):
        read_run(tmp_path)
    assert main(["compare", str(tmp_path / "nowhere"), str(tmp_path)]) == 2


def test_the_smoothed_loss_is_a_mean_of_those_so_far() -> None:
    assert smoothed([3.0] * 99) == pytest.approx([3.0] * 99)
    losses = np.random.default_rng(0).standard_normal(60).tolist()
    a = 30 / 60
    weights = (1 - a) ** np.arange(59, -1, -1)
    assert smoothed(losses)[-1] == pytest.approx(float(weights @ losses / weights.sum()))
    assert smoothed([float("nan"), 2.0, float("inf")])[1:] == [2.0, 2.0]


def test_the_picture_has_a_panel_for_each_of_loss_rate_and_metric(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    folders = [ran(tmp_path / name, learning_rate=rate) for name, rate in (("a", 1e-2), ("b", 2e-2))]
    figure = draw_runs([read_run(folder) for folder in folders])
    assert [axes.get_title() for axes in figure.axes] == ["loss, and eval_loss as marks", "learning_rate", "eval_share"]
    loss, rate, share = figure.axes
    log = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert list(loss.lines[3].get_ydata()) == [entry["loss"] for entry in log if "loss" in entry]
    assert list(loss.lines[5].get_xdata()) == [3, 6]
    assert rate.lines[1].get_ydata()[0] == log[0]["learning_rate"] and list(share.lines[0].get_ydata()) == [0.5, 0.5]
    assert rate.lines[0].get_color() != rate.lines[1].get_color()
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert not any(axes.get_window_extent().overlaps(legend.get_window_extent()) for axes in figure.axes)


def test_a_run_that_stopped_for_a_nan_is_drawn_with_a_cross(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    with pytest.raises(NotFinite):
        ran(tmp_path, learning_rate=1e37, lr_scheduler_type="constant", max_grad_norm=0, eval_strategy="no")
    loss = draw_runs([read_run(tmp_path)]).axes[0]
    assert loss.lines[-1].get_marker() == "x"


def test_the_command_writes_the_picture_or_says_what_is_missing(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    folder, picture = ran(tmp_path / "run"), tmp_path / "run.png"
    assert main(["plot", folder, "--output", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["plot", folder, "--output", str(tmp_path / "run.xyz")]) == 2
    assert main(["plot", str(tmp_path), "--output", str(picture)]) == 2
    assert "there is no " in capsys.readouterr().err
