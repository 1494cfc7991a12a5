"""Of an array of which only some elements were looked at, what is claimed holds of the array and not of the sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.nn import Linear
from npora.nn.module import Array

rng = np.random.default_rng(1)
N = rng.standard_normal((4, 6))
WIDE = rng.standard_normal((23, 17))
ROWS, COLUMNS = np.indices(WIDE.shape)


def sine(change: Callable[[Array], Array]) -> Callable[[Array], Any]:
    return lambda x: (np.sin(x), lambda dy: change(np.cos(x) * dy))


IN_PARTS: list[tuple[Callable[[Array], Array], str]] = [
    (
        lambda g: g * np.where((ROWS == 0) & (COLUMNS == 0), 1.3, 1),
        "wrong at one of 90 elements that were looked at, [0, 0]: there 1.3 times what is right",
    ),
    (lambda g: g * (ROWS != 7), "wrong at index 7 of axis 0 alone: there it is zero"),
    (lambda g: g * np.where(COLUMNS == 5, -1, 1), "wrong at index 5 of axis 1 alone: there a factor -1 (the sign)"),
    (lambda g: np.roll(g, 1, axis=0), "shifted by 1 along axis 0: an index off by one"),
    (lambda g: np.roll(g, -3, axis=1), "shifted by -3 along axis 1: an index off by 3"),
    (lambda g: g[::-1], "reversed along axis 0"),
    (lambda g: g * np.linspace(1, 2, 23)[:, None], "a factor of its own for each slice along axis 1"),
    (lambda g: g + g.sum(axis=1, keepdims=True), "off by the same amount all along axis 1"),
    (lambda g: g + 0.5 * WIDE, "off by 0.5 times x: "),
    (lambda g: 17 * g, "a constant factor 17 (d, the last axis of the input, or the size of axis 1"),
    (lambda g: g.sum(axis=0) + 0 * g, "the same all along axis 0, which the right gradient is not"),
    (
        lambda g: np.where((ROWS == 4) & (COLUMNS == 16), np.nan, g),
        "nan or inf at 1 of 391 elements, the first at [4, 16]",
    ),
]


@pytest.mark.parametrize(
    ("change", "said", "options"),
    [
        *((*case, options) for case in IN_PARTS for options in ({}, {"dtype": "float32"})),
        *((*case, {"method": "central"}) for case in IN_PARTS[1:8:3]),
    ],
)
def test_a_place_in_a_sample_is_told_as_the_place_in_the_array(change: Any, said: str, options: Any) -> None:
    report = gradcheck(sine(change), WIDE, max_elements=90, **options)
    assert report["x"].checked == 90 and report["x"].note.startswith(said), report["x"].note


def test_places_in_a_parameter_and_in_a_nested_input_are_those_of_the_array() -> None:
    class Wrong(Linear):
        def forward(self, x: Array, rng: Any = None) -> Any:
            y, backward = super().forward(x)

            def broken(dy: Array) -> Any:
                dx = backward(dy)
                self.weight.grad[8] *= -1
                return dx

            return y, broken

    report = gradcheck(Wrong(11, 13, rng=0), N[:, :1] + np.arange(11.0), max_elements=70)
    assert report["weight"].note == "wrong at index 8 of axis 0 alone: there a factor -1 (the sign)"
    worst = max((e for e in report.elements if e.name == "weight"), key=lambda e: e.ratio)
    assert worst.index[0] == 8 and len(worst.index) == 2
    report = gradcheck(lambda p: (np.sin(p[0]), lambda dy: [np.cos(p[0]) * dy * (ROWS != 9)]), [WIDE], max_elements=90)
    assert report["p[0]"].note.startswith("wrong at index 9 of axis 0 alone")


def test_a_map_of_a_sample_marks_places_in_the_array() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    report = gradcheck(sine(lambda g: g * (ROWS != 7)), WIDE, max_elements=90)
    ratios = report.ratios["x"]
    assert ratios.shape == WIDE.shape and np.isfinite(ratios).sum() == 90 and (np.argwhere(ratios > 1)[:, 0] == 7).all()
    (axes, _) = report.plot().axes
    (marks,) = axes.collections
    where = np.asarray(marks.get_offsets())
    assert len(where) == 90 and axes.get_xlim() == (-0.5, 16.5) and axes.get_ylim() == (22.5, -0.5)
    assert sorted(map(tuple, where[:, ::-1])) == sorted(map(tuple, np.argwhere(np.isfinite(ratios))))
