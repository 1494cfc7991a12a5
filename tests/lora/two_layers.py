"""A model of two linear layers, and batches for it, for the starts that are made of data."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora import LoraConfig
from npora.nn import Conv1D, Linear, Module


class Two(Module):
    """z = Conv1D(tanh(Linear(x))), with ℓ = Σ z · labels: a model that knows no padding."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.first, self.second = Linear(7, 6, rng=1, dtype=dtype), Conv1D(6, 5, rng=2, dtype=dtype)

    def forward(self, x: Any, labels: Any = 0.0) -> Any:
        u, back_first = self.first(x)
        h = np.tanh(u)
        z, back_second = self.second(h)
        return Output(np.sum(z * labels)), lambda: back_first(
            back_second(np.broadcast_to(labels, z.shape)) * (1 - h * h)
        )


class Output:
    def __init__(self, loss: Any) -> None:
        self.loss = loss


def data(number: int = 3, rows: int = 9, dtype: Any = np.float64) -> list[dict[str, Any]]:
    """Rows of unequal variances, so that their directions are told apart."""
    rng, sizes = np.random.default_rng(3), 3 * 0.6 ** np.arange(7)
    return [
        {
            "x": (sizes * rng.standard_normal((rows, 7)) + 0.3).astype(dtype),
            "labels": rng.standard_normal((rows, 5)).astype(dtype),
        }
        for _ in range(number)
    ]


def config(start: str, **fields: Any) -> LoraConfig:
    return LoraConfig(
        **{"r": 2, "lora_alpha": 3, "target_modules": ["first", "second"], **fields}, init_lora_weights=start
    )


def flat(number: int) -> list[dict[str, Any]]:
    """Rows along one direction."""
    return [{"x": np.outer(np.arange(9.0) + n, np.ones(7)), "labels": np.ones((9, 5))} for n in range(number)]
