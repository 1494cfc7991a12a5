"""Functions and their pullbacks against torch's autograd, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora.nn import functional as F
from tests.contracts import draw

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
from torch.nn import functional as T  # noqa: E402

TARGETS = np.array([2, -100, 0, 3, 3])
MASK = np.array([[True, True, False, True, False], [True, False, False, False, False]])[:, None, None]

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
    "relu": (F.relu, T.relu, (draw(3, 5),)),
    "tanh": (F.tanh, torch.tanh, (draw(3, 5),)),
    "silu": (F.silu, T.silu, (draw(3, 5),)),
    "gelu": (F.gelu, T.gelu, (draw(3, 5),)),
    "gelu_tanh": (F.gelu_tanh, lambda x: T.gelu(x, approximate="tanh"), (draw(3, 5),)),
    "softmax": (F.softmax, lambda x: T.softmax(x, -1), (draw(3, 5),)),
    "log_softmax": (F.log_softmax, lambda x: T.log_softmax(x, -1), (draw(3, 5),)),
    "normalize": (lambda x: F.normalize(x, 1e-5), lambda x: T.layer_norm(x, (5,), eps=1e-5), (draw(3, 5),)),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, TARGETS, label_smoothing=0.1),
        lambda x: T.cross_entropy(x, torch.tensor(TARGETS), label_smoothing=0.1),
        (draw(5, 4),),
    ),
    "mse_loss": (
        lambda x: F.mse_loss(x, draw(3, 5, seed=1)),
        lambda x: T.mse_loss(x, torch.tensor(draw(3, 5, seed=1))),
        (draw(3, 5),),
    ),
    "attention": (
        lambda q, k, v, bias: F.attention(q, k, v, bias=bias, mask=MASK),
        lambda q, k, v, bias: T.scaled_dot_product_attention(
            q, k, v, attn_mask=torch.where(torch.tensor(MASK), bias, -torch.inf)
        ),
        (draw(2, 3, 4, 6), draw(2, 3, 5, 6), draw(2, 3, 5, 7), draw(3, 4, 5)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_value_and_pullback_equal_torch(name: str) -> None:
    ours, theirs, inputs = PAIRS[name]
    y, backward = ours(*inputs)
    dy = draw(*np.shape(y), seed=3)
    returned = backward(dy)
    gradients = returned if isinstance(returned, tuple) else (returned,)
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    expected = theirs(*tensors)
    expected.backward(torch.tensor(dy))
    # Both sum at most 60 terms of size about 1 in float64: 1e-13 leaves room for 450 roundings.
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-13)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=0, atol=1e-13)
