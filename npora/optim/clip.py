"""Gradient clipping by the global norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from npora.nn.module import Parameter


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """g ← g · min(1, max_norm / (‖g‖ + 1e-6)), with ‖g‖ the L2 norm of all gradients as one vector (Pascanu et al.,
    2013; the 1e-6 is torch's).

    Returns
    -------
    ‖g‖ before clipping. Where it is not finite the gradients stay as they are.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    with np.errstate(over="ignore"):  # it is inf then
        total = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    scale = max_norm / (total + 1e-6)
    if scale < 1 and math.isfinite(total):
        for gradient in gradients:
            gradient *= scale
    return total
