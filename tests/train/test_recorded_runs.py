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
from npora.train.runs import RecordedRun, differences, read_run
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
    assert smoothed([1.0, 3.0]) == [1.0, 3.0]  # of few there is nothing to smooth


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


def made(name: str, losses: Any, *more: dict[str, Any]) -> RecordedRun:
    steps = [{"step": i, "loss": loss, "learning_rate": 0.1 * i} for i, loss in enumerate(losses)]
    return RecordedRun(name, {}, [*steps, *more])


@pytest.mark.parametrize(("length", "columns"), [(10, 5), (25, 2), (120, 1)])
def test_the_size_of_a_picture_and_its_legend(length: int, columns: int) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    alone = draw_runs([made("a" * length, [3.0, 2.0]), made("not begun", [])])
    assert alone.get_size_inches().tolist() == [11.0, 3.2 + 0.4] and alone.legends[0]._ncols == columns
    assert [axes.get_title() for axes in alone.axes] == ["loss", "learning_rate"]
    assert len(alone.axes[0].lines) == 3 and alone.axes[1].lines[0].get_marker() == "None"
    assert all(axes.xaxis.get_gridlines()[0].get_visible() for axes in alone.axes)
    measured = draw_runs([made("b", [3.0, 2.0], {"step": 1, "eval_share": 0.5})])
    assert measured.get_size_inches().tolist() == [11.0, 3.2 * 2 + 0.4]
    assert measured.axes[2].lines[0].get_marker() == "o"


def test_the_loss_of_a_picture_is_each_steps_and_the_smoothed_one_and_stops_at_the_last() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    losses = [4.0, 3.0, 2.0, float("inf")]
    stopped = [{"step": step, "stopped": "once more"} for step in (2, 5, 7)]
    each, mean, _, cross = draw_runs([made("a", losses, *stopped)]).axes[0].lines
    assert list(each.get_xdata()) == [0, 1, 2, 3] and list(each.get_ydata()) == losses
    assert list(mean.get_ydata()) == smoothed(losses)
    assert (list(cross.get_xdata()), list(cross.get_ydata()), cross.get_marker()) == ([7], [2.0], "x")
    assert len(draw_runs([made("a", losses)]).axes[0].lines) == 3
    assert len(draw_runs([made("a", [float("nan")], *stopped)]).axes[0].lines) == 3


def test_of_many_points_the_lowest_and_the_highest_of_each_stretch_are_drawn() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")

    def drawn(losses: Any) -> list[int]:
        return list(draw_runs([made("a", losses)]).axes[0].lines[0].get_xdata())

    assert drawn([1.0] * 2000) == list(range(2000)) and len(drawn([1.0] * 2001)) == 1000
    part = [0.5, 0.75, float("nan"), 0.6]  # what is not finite leaves its gap
    assert drawn(part * 1000) == [4 * i + j for i in range(1000) for j in (1, 2)]


def test_a_log_that_goes_on_differs_at_the_step_at_which_the_other_ends(tmp_path: Path) -> None:
    one, other, none = made("a", [3.0, 2.0, 1.0]), made("b", [3.0, 2.0]), made("c", [])
    assert differences(one, other) == [("step 1", "the log goes on to step", 2, 1)]
    assert differences(none, other) == [("step 0", "the log goes on to step", 0, 1)]
    assert not differences(none, none)
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"step": 1, "stopped": "'.ljust(999_999, b"a"))
    assert read_run(tmp_path).entries == []  # torn
    log.write_bytes(log.read_bytes() + b"a")
    with pytest.raises(ValueError, match="line 1: not JSON"):  # too long for a line
        read_run(tmp_path)


def test_the_command_writes_the_picture_or_says_what_is_missing(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    folder, picture = ran(tmp_path / "run"), tmp_path / "run.png"
    assert main(["plot", folder, "--output", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["plot", folder, "--output", str(tmp_path / "run.xyz")]) == 2
    assert main(["plot", str(tmp_path), "--output", str(picture)]) == 2
    assert "there is no " in capsys.readouterr().err
