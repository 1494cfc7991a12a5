"""A range test of the learning rate: what it tries, what it suggests, and that it leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Trainer, learning_rate_finder
from npora.cli import main
from npora.train import finder
from npora.train.finder import RangeTest
from tests.test_cli_tasks import sentences, table
from tests.tiny import tiny_peft, tiny_rows
from tests.tiny_folders import save_folder
from tests.train.test_trainer import ROWS, arguments, values


def test_rates_grow_by_a_constant_factor_and_the_model_is_as_it_was(tmp_path: Path) -> None:
    model = tiny_peft()
    before = values(model)
    trainer = Trainer(model, arguments(tmp_path / "out"), ROWS)
    found = learning_rate_finder(trainer, 1e-5, 0.1, 9, early_stop_threshold=None)
    np.testing.assert_allclose(found.lr, np.geomspace(1e-5, 0.1, 9))
    assert values(model) == before and not (tmp_path / "out").exists()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert repr(found).startswith("RangeTest(9 steps of lr 1e-05 … 0.1")


def test_its_steps_are_those_of_the_training(tmp_path: Path) -> None:
    """The examples, dropout and the loss of the first step are, and where the rates are, all of them."""
    options = {"lr_scheduler_type": "constant", "learning_rate": 1e-2, "max_steps": 8, "label_smoothing_factor": 0.1,
               "gradient_accumulation_steps": 2}  # fmt: skip
    found = learning_rate_finder(Trainer(tiny_peft(), arguments(tmp_path, **options), ROWS), 1e-2, 1.0000001e-2, 8)
    Trainer(tiny_peft(), arguments(tmp_path, **options), ROWS).train()
    log = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert found.loss[0] == log[0]
    np.testing.assert_allclose(found.loss, log, rtol=1e-4)


def test_it_suggests_where_the_loss_falls_fastest() -> None:
    lr = np.geomspace(1e-6, 1, 100)
    falls = 1 / (1 + (lr / 1e-3) ** 2)  # fastest over log lr at 1e-3
    assert RangeTest(lr.tolist(), falls.tolist()).suggestion() == pytest.approx(1e-3, rel=0.6)
    assert RangeTest(lr.tolist(), (1 + lr).tolist()).suggestion() is None
    assert RangeTest([1.0], [1.0]).suggestion() is None


def test_it_ends_where_the_loss_is_lost(tmp_path: Path) -> None:
    trainer = Trainer(tiny_peft(), arguments(tmp_path, max_grad_norm=0, optim="sgd"), tiny_rows(30))
    found = learning_rate_finder(trainer, 1e-3, 1e30, 60)
    assert 6 < len(found.lr) < 60 and not np.mean(found.loss[-5:]) <= 4 * min(found.loss)
    with pytest.raises(ValueError, match="0 < min_lr < max_lr"):
        learning_rate_finder(trainer, 1, 1e-3)


def test_the_loss_is_lost_by_the_least_that_there_was_and_not_by_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([10.0] * 6 + [1.0] * 6 + [9.0] * 48)
    monkeypatch.setattr(finder, "forward_and_backward", lambda run, batches: (next(losses), 1.0, 0))
    found = learning_rate_finder(Trainer(tiny_peft(), arguments(tmp_path), ROWS), num_training=60)
    assert len(found.loss) == 14  # (9 + 9 + 1 + 1 + 1)/5 is the first mean above 4


def test_the_command_draws_it_and_trains_nothing(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    model = save_folder(tmp_path / "model", "bert", "ForSequenceClassification")
    train = table(tmp_path / "train.tsv", sentences(0, 1))
    picture = tmp_path / "rates.png"
    given = ["finetune", "--model", model, "--train", train, "--output", str(tmp_path / "out")]
    assert main([*given, "--find-learning-rate", str(picture), "--class-weights", "balanced"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG") and not (tmp_path / "out").exists()
    assert "loss falls fastest" in capsys.readouterr().out
    assert main([*given, "--class-weights", "1", "heavy"]) == 2
    assert "--class-weights takes a number for each class, or balanced; got 'heavy'" in capsys.readouterr().err
    assert main([*given, "--class-weights", "0.5", "2", "--label-smoothing-factor", "0.1", "--max-steps", "1"]) == 0
    written = json.loads((tmp_path / "out" / "run.json").read_text())["arguments"]
    assert written["class_weights"] == [0.5, 2.0] and written["label_smoothing_factor"] == 0.1


def test_a_suggestion_is_the_slope_of_a_line_through_a_share_of_the_losses() -> None:
    assert RangeTest([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).suggestion() == 2.0  # three are a line
    assert RangeTest([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]).suggestion() is None
    lr = [float(i) for i in range(30)]
    falls = RangeTest(lr, [1 / (1 + i) for i in range(30)])  # fastest at its beginning: at the first with 4 before it
    assert falls.suggestion() == 4.0
    noisy = RangeTest(lr, [5.0, 9.0, 1.0, 5.0, *[5.0] * 6, *(5.0 - i for i in range(10)), *[-5.0] * 10])
    assert noisy.suggestion() == 14.0  # and not at the one step from 9 to 1
    assert RangeTest(lr, [*falls.loss[:20], *[np.nan] * 10]).suggestion() == 4.0


def test_the_smoothed_loss_is_a_mean_of_as_many_on_either_side() -> None:
    lr, loss = [float(i) for i in range(75)], [float(i * i) for i in range(75)]
    rates, means = RangeTest(lr, loss).smoothed()
    np.testing.assert_array_equal(rates, lr[4:71])
    np.testing.assert_allclose(means, [sum(loss[i - 4 : i + 5]) / 9 for i in range(4, 71)])
    rates, means = RangeTest([1.0, 2.0, 3.0], [3.0, 0.0, 0.0]).smoothed()
    assert rates == [2.0] and means == pytest.approx([1.0])
    assert [len(part) for part in RangeTest([1.0, 2.0], [1.0, 2.0]).smoothed()] == [0, 0]


@pytest.mark.parametrize(
    ("losses", "steps"), [([1.0] + [100.0] * 11, 6), ([1.0] * 6 + [16.0] + [1.0] * 5, 12)], ids=["six", "equal"]
)
def test_a_test_ends_after_six_steps_at_least_and_beyond_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float], steps: int
) -> None:
    given = iter(losses)
    monkeypatch.setattr(finder, "forward_and_backward", lambda run, batches: (next(given), 1.0, 0))
    trainer = Trainer(tiny_peft(), arguments(tmp_path), ROWS)
    assert learning_rate_finder(trainer, num_training=12).loss == losses[:steps]


def test_a_picture_has_the_losses_their_mean_and_the_suggestion() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    lr, loss = np.geomspace(1e-6, 1, 1122).tolist(), [2.0 - i / 1000 for i in range(1121)]
    found = RangeTest(lr, [*loss, np.nan])
    (axes,) = found.plot().axes
    single, mean, fastest = axes.lines
    np.testing.assert_array_equal(single.get_ydata(), found.loss)
    np.testing.assert_array_equal(mean.get_xdata(), found.smoothed()[0])
    assert list(fastest.get_xdata()) == [found.suggestion()] * 2
    low, high = 2.0 - 1.12, sorted(loss)[1008]
    np.testing.assert_allclose(axes.get_ylim(), (low - 0.1 * (high - low), high + 0.3 * (high - low) + 1e-9), 1e-12)
    assert len(axes.get_legend().texts) == 3 and axes.xaxis.get_gridlines()[0].get_visible()
    assert RangeTest([1.0, 2.0], [1.0, 1.0]).plot().axes[0].get_ylim() == (1.0, 1.0 + 1e-9)
