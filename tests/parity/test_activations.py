"""Every activation, by each of its names, against transformers' of that name, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from npora.nn.functional import ACTIVATIONS

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
ACT2FN = pytest.importorskip("transformers.activations", reason="needs the extra `parity`").ACT2FN

# Both sides of zero, where slopes change fastest; where σ or Φ is all but 0 or 1; where eˣ overflows.
X = np.concatenate([np.linspace(-9.3, 9.1, 232), [-1e4, -760.0, -90.5, -37.2, -1e-9, 1e-9, 19.5, 37.2, 760.0, 1e4]])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_slope_are_those_of_transformers(name: str) -> None:
    y, backward = ACTIVATIONS[name](X)
    dy = np.random.default_rng(0).standard_normal(X.shape)
    x = torch.tensor(X, requires_grad=True)
    expected = ACT2FN[name](x)
    expected.backward(torch.tensor(dy))
    # A few roundings of numbers up to |x|, and of slopes up to 2|x|; gelu_fast's constant has ten digits there.
    rounding = 1e-11 if name == "gelu_fast" else 1e-15
    size = np.maximum(1, np.abs(X))
    assert (np.abs(y - expected.detach().numpy()) <= rounding * size * np.maximum(1, np.abs(y))).all()
    assert (np.abs(backward(dy) - x.grad.numpy()) <= 4 * rounding * size).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_huge_has_a_finite_value_and_slope(name: str, dtype: type) -> None:
    x = np.array([[-1e4, 1e4, -3e5, 3e5]], dtype=dtype)
    y, backward = ACTIVATIONS[name](x)
    dx = backward(np.array([[-0.7, 1.3, 0.4, -1.9]], dtype=dtype))
    assert np.isfinite(y).all() and np.isfinite(dx).all() and y.dtype == dx.dtype == dtype
