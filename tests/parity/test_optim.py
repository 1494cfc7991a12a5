"""Optimisers, clipping and schedules against torch and transformers, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import TrainingArguments, optim
from npora.nn import Parameter
from npora.train.arguments import SCHEDULES

torch = pytest.importorskip("torch", reason="needs the extra `parity`")

PAIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "SGD": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.02),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.02),
    ),
    "SGD, Nesterov": (
        lambda p: optim.SGD(p, 0.1, 0.9, 0.02, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.02, nesterov=True),
    ),
    "Adam": (
        lambda p: optim.Adam(p, 1e-2, (0.8, 0.95), 1e-6, 0.03),
        lambda p: torch.optim.Adam(p, 1e-2, (0.8, 0.95), 1e-6, 0.03),
    ),
    "AdamW": (lambda p: optim.AdamW(p, 1e-2), lambda p: torch.optim.AdamW(p, 1e-2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_ten_steps_give_torchs_weights(name: str) -> None:
    ours, theirs = PAIRS[name]
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(shape) for shape in ((3, 4), (5,))]
    parameters = [Parameter(start.copy()) for start in starts]
    tensors = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
    groups = [{"lr": 0.07}, {"weight_decay": 0.3}]
    a = ours([{"params": [p], **options} for p, options in zip(parameters, groups, strict=True)])
    b = theirs([{"params": [t], **options} for t, options in zip(tensors, groups, strict=True)])
    for step in range(10):
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.grad = rng.standard_normal(parameter.shape) * 10.0 ** (step - 5)
            tensor.grad = torch.tensor(parameter.grad)
        a.step()
        b.step()
    for parameter, tensor in zip(parameters, tensors, strict=True):
        # Ten steps of a few roundings each; SGD's reach 1e4 in size.
        np.testing.assert_allclose(parameter.data, tensor.detach().numpy(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("limit", [0.5, 4.9999999, 5.0, 5.0000001, 7.0])
def test_clipping_gives_torchs_gradients(limit: float) -> None:
    parameters = [Parameter(np.zeros(1)), Parameter(np.zeros(2))]
    tensors = [torch.nn.Parameter(torch.zeros(len(p.data), dtype=torch.float64)) for p in parameters]
    for parameter, tensor, gradient in zip(parameters, tensors, ([3.0], [0.0, -4.0]), strict=True):
        parameter.grad, tensor.grad = np.array(gradient), torch.tensor(gradient, dtype=torch.float64)
    assert optim.clip_grad_norm(parameters, limit) == torch.nn.utils.clip_grad_norm_(tensors, limit).item()
    for parameter, tensor in zip(parameters, tensors, strict=True):
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 1, 3, 0.3, 11, 13])
@pytest.mark.parametrize("steps", [1, 11])
def test_schedules_give_transformers_rates(name: str, warmup: float, steps: int) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    theirs = transformers.TrainingArguments(warmup_steps=warmup, use_cpu=True).get_warmup_steps(steps)
    scheduler = transformers.get_scheduler(name, optimizer, theirs, steps)
    factor = optim.get_schedule(name, TrainingArguments(warmup_steps=warmup).num_warmup_steps(steps), steps)
    for step in range(steps):
        assert factor(step) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-15, abs=1e-16)
        optimizer.step()
        scheduler.step()
