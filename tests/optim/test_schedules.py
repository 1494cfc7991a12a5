"""Factors of the learning rate by transformers' own numbers, and a rate that falls at a plateau by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npora.nn import Parameter
from npora.optim import SGD, ReduceLROnPlateau, get_schedule

# Of nine steps at a rate of 0.3: the name, options, steps of warm-up, and transformers' factors to nine digits.
GOLDEN: list[tuple[str, dict[str, Any], int, list[float]]] = [
    ("polynomial", {"power": 0.5, "lr_end": 0.03}, 3,
     [0, 0.333333333, 0.666666667, 1, 0.921583836, 0.834846923, 0.736396103, 0.619615242, 0.467423461]),
    ("polynomial", {}, 0,
     [1, 0.888888926, 0.777777852, 0.666666778, 0.555555704, 0.44444463, 0.333333556, 0.222222481, 0.111111407]),
    ("inverse_sqrt", {}, 3,
     [0, 0.333333333, 0.666666667, 1, 0.866025404, 0.774596669, 0.707106781, 0.654653671, 0.612372436]),
    ("inverse_sqrt", {"timescale": 7}, 2,
     [0, 0.5, 1, 0.935414347, 0.881917104, 0.836660027, 0.797724035, 0.763762616, 0.733799386]),
    ("inverse_sqrt", {}, 0,
     [1, 0.999950004, 0.999900015, 0.999850034, 0.99980006, 0.999750094, 0.999700135, 0.999650184, 0.99960024]),
    ("cosine", {"num_cycles": 1.5}, 2,
     [0, 0.5, 1, 0.611260467, 0.049515566, 0.188255099, 0.811744901, 0.950484434, 0.388739533]),
    ("cosine_with_restarts", {"num_cycles": 3}, 2,
     [0, 0.5, 1, 0.611260467, 0.049515566, 0.811744901, 0.188255099, 0.950484434, 0.388739533]),
    ("cosine_with_min_lr", {"min_lr": 0.06}, 3,
     [0, 0.333333333, 0.666666667, 1, 0.946410162, 0.8, 0.6, 0.4, 0.253589838]),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.7}, 0,
     [1, 0.947326417, 0.801636807, 0.597037808, 0.381427033, 0.205280001, 0.10983358, 0.117432237, 0.22629709]),
    ("cosine_warmup_with_min_lr", {"min_lr": 0.06}, 3,
     [0.333333333, 0.666666667, 1, 0.946410162, 0.8, 0.6, 0.4, 0.253589838, 0.2]),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1, "warmup_lr_rate": 0.4, "num_cycles": 0.7}, 3,
     [0.4, 0.7, 1, 0.884415171, 0.597037808, 0.285496636, 0.10983358, 0.160288568, 0.410942353]),
    ("warmup_stable_decay", {"num_decay_steps": 4}, 3,
     [0, 0.333333333, 0.666666667, 1, 1, 1, 0.853553391, 0.5, 0.146446609]),
    ("warmup_stable_decay", {"num_decay_steps": 4, "min_lr_ratio": 0.1, "decay_type": "linear"}, 2,
     [0.1, 0.55, 1, 1, 1, 1, 0.775, 0.55, 0.325]),
    ("warmup_stable_decay", {"num_decay_steps": 4, "warmup_type": "1-sqrt", "decay_type": "1-sqrt"}, 3,
     [0, 0.183503419, 0.422649731, 1, 1, 1, 0.5, 0.292893219, 0.133974596]),
    ("warmup_stable_decay", {"num_decay_steps": 3, "num_stable_steps": 2, "warmup_type": "cosine", "min_lr_ratio": 0.2,
                             "num_cycles": 0.8}, 3,
     [0.2, 0.4, 0.8, 1, 1, 1, 0.558188615, 0.20874096, 0.2]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "warmup", "factors"), GOLDEN)
def test_factors_are_transformers(name: str, options: dict[str, Any], warmup: int, factors: list[float]) -> None:
    factor = get_schedule(name, warmup, 9, 0.3, **options)
    assert [factor(step) for step in range(9)] == pytest.approx(factors, rel=1e-8, abs=1e-9)


def test_schedules_of_one_step_and_of_warm_up_alone_divide_by_nothing() -> None:
    for name, options, _, _ in GOLDEN:
        for warmup in (0, 1, 4):
            factor = get_schedule(name, warmup, 1, 0.3, **options)
            assert all(0 <= factor(step) <= 1 for step in range(6))
    assert get_schedule("cosine_warmup_with_min_lr", 1, 4, min_lr_rate=0.1, warmup_lr_rate=0.4)(0) == 0.4
    assert get_schedule("cosine_warmup_with_min_lr", 2, 4, min_lr_rate=0.1, warmup_lr_rate=0.4)(1) == 1
    assert get_schedule("cosine_warmup_with_min_lr", 2, 3, min_lr_rate=0.1)(2) == 0.1
    assert get_schedule("cosine_with_restarts", 0, 4, num_cycles=2)(4) == 0
    assert get_schedule("polynomial", 0, 4, 0.5, lr_end=0.1)(7) == 0.2


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("linear", {"num_cycles": 2}, TypeError, "'linear' takes the options none"),
        ("cosine", {"lr": 1.0, "cycles": 2}, TypeError, "'cosine' takes the options num_cycles: .*'cycles'"),
        ("warmup_stable_decay", {}, TypeError, "missing a required argument: 'num_decay_steps'"),
        ("warmup_stable_decay", {"num_decay_steps": 1, "warmup_type": "x"}, ValueError, "warmup_type must be one of"),
        ("cosine_with_min_lr", {}, ValueError, "needs min_lr, or min_lr_rate"),
        ("cosine_with_min_lr", {"min_lr": 1.0, "min_lr_rate": 0.1}, ValueError, "and not both"),
        ("cosine_with_min_lr", {"min_lr": 0.1}, ValueError, "min_lr is a learning rate: say of which"),
        ("polynomial", {}, ValueError, "lr_end is a learning rate: say of which"),
        ("polynomial", {"lr": 0.5, "lr_end": 0.5}, ValueError, "lr_end=0.5: expected less than the learning rate 0.5"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_named(name: str, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        get_schedule(name, 1, 9, **options)


def rates(metrics: list[float], **options: Any) -> list[float]:
    """The rate, of 1 at first, after each metric."""
    optimizer = SGD([Parameter(np.zeros(1))], 1.0)
    plateau = ReduceLROnPlateau(optimizer, **{"factor": 0.5, **options})
    found = []
    for metric in metrics:
        plateau.step(metric)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(
    ("options", "metrics", "expected"),
    [
        ({"patience": 0}, [3, 2, 2, 1, 1.5], [1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 0, "mode": "max"}, [3, 4, 4, 5, 1], [1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 1}, [3, 4, 4, 4, 2, 4, 4], [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]),
        ({"patience": 0, "cooldown": 1}, [3, 4, 4, 4, 4], [1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 1, "cooldown": 2}, [3, 4, 4, 4, 4, 4, 4], [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]),
        ({"patience": 0, "threshold": 0.25}, [4, 3, 2.9], [1, 0.5, 0.5]),  # 3 is not below 4 · 0.75
        ({"patience": 0, "threshold": 0.25, "mode": "max"}, [4, 5, 5.1], [1, 0.5, 0.5]),
        ({"patience": 0, "threshold": 1, "threshold_mode": "abs"}, [4, 3, 2.5], [1, 0.5, 0.5]),
        ({"patience": 0, "threshold": 1, "threshold_mode": "abs", "mode": "max"}, [4, 5, 5.5], [1, 0.5, 0.5]),
        ({"patience": 0, "min_lr": 0.3}, [1, 1, 1, 1], [1, 0.5, 0.3, 0.3]),
        ({"patience": 0, "eps": 0.3}, [1, 1, 1], [1, 0.5, 0.5]),
        ({"patience": 0, "eps": 0.5}, [1, 1], [1, 1]),
        ({"patience": 0, "eps": 0.2, "factor": 0.9}, [1, 1], [1, 1]),
        ({"patience": 0, "threshold": 0.25}, [4, 2.9999], [1, 1]),
        ({"patience": 0}, [math.nan, 1, 1], [0.5, 0.5, 0.25]),
    ],
)  # fmt: skip
def test_a_rate_falls_where_nothing_gets_better(options: Any, metrics: list[float], expected: list[float]) -> None:
    assert rates(metrics, **options) == expected


def test_a_plateau_goes_on_from_a_saved_state_and_has_torchs_defaults() -> None:
    assert rates([1.0, *[0.99991] * 11, 0.9999]) == [1.0] * 11 + [0.5, 0.5]
    optimizer = SGD([Parameter(np.zeros(1))], 1.0)
    first, second = (ReduceLROnPlateau(optimizer, patience=1, cooldown=3) for _ in range(2))
    first.step(np.float64(2.0))
    first.step(3.0)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"best": 2.0, "num_bad_epochs": 1, "cooldown_counter": 0}
    second.step(3.0)
    assert optimizer.param_groups[0]["lr"] == 0.1 and second.cooldown_counter == 3


@pytest.mark.parametrize("saved", [{"best": 1.0, "factor": 0.1}, {"best": 1.0, "num_bad_epochs": "3"}, {"best": None}])
def test_what_a_plateau_does_not_remember_is_refused_and_changes_nothing(saved: dict[str, Any]) -> None:
    plateau = ReduceLROnPlateau(SGD([Parameter(np.ones(1))], lr=0.5))
    before = dict(vars(plateau))
    name, value = list(saved.items())[-1]
    with pytest.raises(
        ValueError, match=f"best, num_bad_epochs, cooldown_counter, which are numbers; got {name}={value!r}"
    ):
        plateau.load_state_dict(saved)
    assert vars(plateau) == before


def test_a_plateau_that_makes_no_sense_is_named() -> None:
    optimizer = SGD([Parameter(np.zeros(1))])
    for options, message in (
        ({"factor": 1.0}, "factor must be below 1"), ({"mode": "least"}, "mode must be one of min, max; got 'least'"),
        ({"threshold_mode": "x"}, "threshold_mode must be one of rel, abs; got 'x'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ReduceLROnPlateau(optimizer, **options)  # type: ignore[arg-type]
