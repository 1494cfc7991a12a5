"""The error function against the one in Python's `math`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npora.nn.functional import erf


def arguments() -> Any:
    rng = np.random.default_rng(0)
    tiny = rng.choice([-1, 1], 4000) * 10.0 ** rng.uniform(-37, 0, 4000)
    edges = [0.0, -0.0, 1 / 128, np.nextafter(1 / 128, 1), 6.0, np.nextafter(6.0, 7), 1e30, np.inf, -np.inf]
    return np.concatenate([1.5 * rng.standard_normal(20_000), rng.uniform(-7, 7, 20_000), tiny, edges])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_within_two_units_in_the_last_place(dtype: Any) -> None:
    x = arguments().astype(dtype)
    expected = np.array([math.erf(float(value)) for value in x])
    unit = np.spacing(np.abs(expected).astype(dtype)).astype(np.float64)
    assert (np.abs(erf(x) - expected) <= 2 * unit).all()


def test_erf_passes_nan_on() -> None:
    assert np.isnan(erf(np.array([np.nan, 1.0], dtype=np.float32))).tolist() == [True, False]


def test_a_complex_step_through_erf_gives_its_derivative() -> None:
    x = np.linspace(-3, 3, 41)
    slope = erf(x + 1e-20j).imag / 1e-20
    np.testing.assert_allclose(slope, 2 / math.sqrt(math.pi) * np.exp(-x * x), rtol=1e-15)


def test_erf_refuses_what_it_cannot_do() -> None:
    with pytest.raises(TypeError, match="int64"):
        erf(np.array([1]))
    with pytest.raises(ValueError, match="complex steps"):
        erf(np.array([1 + 1j]))
