"""Optimisers, clipping and schedules against torch and transformers, in float64."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from npora import TrainingArguments, optim
from npora.nn import Parameter
from npora.optim.schedule import SCHEDULES
from npora.train.optimizer import Schedule

torch = pytest.importorskip("torch", reason="needs the extra `parity`")

ADAM: dict[str, Any] = {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.03}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD, momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02}),
    "SGD, dampened": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02, "dampening": 0.3}),
    "SGD, Nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02, "nesterov": True}),
    "SGD, Nesterov, upwards": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    "Adam": ("Adam", ADAM),
    "Adam, AMSGrad": ("Adam", {**ADAM, "amsgrad": True}),
    "Adam, AMSGrad, upwards": ("Adam", {**ADAM, "amsgrad": True, "maximize": True}),
    "AdamW": ("AdamW", {"lr": 1e-2}),
    "AdamW, upwards": ("AdamW", {**ADAM, "maximize": True}),
    "AdamW, AMSGrad": ("AdamW", {**ADAM, "amsgrad": True}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_twenty_steps_give_torchs_weights_and_state(name: str) -> None:
    """In the middle both go on from what torch's optimiser has saved."""
    kind, options = OPTIONS[name]
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(shape) for shape in ((3, 4), (5,))]
    parameters = [Parameter(start.copy()) for start in starts]
    tensors = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
    groups = [{"lr": 0.07}, {"weight_decay": 0.3}]

    def made(module: Any, params: list[Any]) -> Any:
        return getattr(module, kind)([{"params": [p], **o} for p, o in zip(params, groups, strict=True)], **options)

    ours, theirs = made(optim, parameters), made(torch.optim, tensors)
    for step in range(20):
        if step == 9:
            saved = theirs.state_dict()
            ours, theirs = made(optim, parameters), made(torch.optim, tensors)
            ours.load_state_dict(as_arrays(saved))
            theirs.load_state_dict(saved)
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.grad = rng.standard_normal(parameter.shape) * 10.0 ** (min(step, 12 - step) - 5)
            tensor.grad = torch.tensor(parameter.grad)
        ours.step()
        theirs.step()
    for parameter, tensor in zip(parameters, tensors, strict=True):
        # Twenty steps of a few roundings each; SGD's reach 10 in size.
        np.testing.assert_allclose(parameter.data, tensor.detach().numpy(), rtol=1e-13, atol=1e-13)
    state = as_arrays(theirs.state_dict())
    for number, values in ours.state_dict()["state"].items():
        expected = {key: value for key, value in state["state"].get(number, {}).items() if value is not None}
        assert values.keys() == expected.keys()
        for key, value in values.items():
            np.testing.assert_allclose(value, expected[key], rtol=1e-12, atol=1e-13)
    for group, expected in zip(ours.state_dict()["param_groups"], state["param_groups"], strict=True):
        assert {key: expected[key] for key in group if key in options} == {key: group[key] for key in options}


def as_arrays(state: dict[str, Any]) -> dict[str, Any]:
    """A state of torch's with arrays and numbers in place of tensors, and without the parameters' numbers."""

    def plain(value: Any) -> Any:
        value = value.numpy().copy() if isinstance(value, torch.Tensor) else value
        return int(value) if isinstance(value, np.ndarray) and value.ndim == 0 else value

    return {
        "state": {n: {k: plain(v) for k, v in values.items()} for n, values in state["state"].items()},
        "param_groups": [{k: v for k, v in g.items() if k != "params"} for g in state["param_groups"]],
    }


def test_their_options_come_in_torchs_order() -> None:
    for name in ("SGD", "Adam", "AdamW"):
        ours, theirs = (inspect.signature(getattr(module, name).__init__) for module in (optim, torch.optim))
        assert [p.name for p in ours.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == [
            p.name for p in theirs.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        for option in ours.parameters.keys() - {"self", "params"}:
            assert ours.parameters[option].default == theirs.parameters[option].default


@pytest.mark.parametrize("limit", [0.5, 4.9999999, 5.0, 5.0000001, 7.0])
def test_clipping_gives_torchs_gradients(limit: float) -> None:
    parameters = [Parameter(np.zeros(1)), Parameter(np.zeros(2))]
    tensors = [torch.nn.Parameter(torch.zeros(len(p.data), dtype=torch.float64)) for p in parameters]
    for parameter, tensor, gradient in zip(parameters, tensors, ([3.0], [0.0, -4.0]), strict=True):
        parameter.grad, tensor.grad = np.array(gradient), torch.tensor(gradient, dtype=torch.float64)
    assert optim.clip_grad_norm(parameters, limit) == torch.nn.utils.clip_grad_norm_(tensors, limit).item()
    for parameter, tensor in zip(parameters, tensors, strict=True):
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-15)


SCHEDULED: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("constant", "constant_with_warmup", "linear", "cosine", "polynomial")},
    **{name: (name, {}) for name in ("cosine_with_restarts", "inverse_sqrt")},
    "cosine, three waves": ("cosine", {"num_cycles": 3.0}),
    "cosine, three restarts": ("cosine_with_restarts", {"num_cycles": 3}),
    "polynomial, a square root": ("polynomial", {"power": 0.5, "lr_end": 0.01}),
    "inverse_sqrt, a timescale": ("inverse_sqrt", {"timescale": 7}),
    "cosine down to a rate": ("cosine_with_min_lr", {"min_lr": 0.02}),
    "cosine down to a share": ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.7}),
    "cosine a step ahead": ("cosine_warmup_with_min_lr", {"min_lr": 0.02}),
    "cosine a step ahead, from a rate": ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1, "warmup_lr_rate": 0.3}),
    "up, on and down": ("warmup_stable_decay", {"num_decay_steps": 4}),
    "up, on and down in lines": (
        "warmup_stable_decay", {"num_decay_steps": 4, "min_lr_ratio": 0.1, "decay_type": "linear"},
    ),
    "up, on and down in roots": (
        "warmup_stable_decay", {"num_decay_steps": 3, "warmup_type": "1-sqrt", "decay_type": "1-sqrt"},
    ),
    "up, shortly on, and down in waves": (
        "warmup_stable_decay",
        {"num_decay_steps": 3, "num_stable_steps": 2, "warmup_type": "cosine", "min_lr_ratio": 0.2, "num_cycles": 0.8},
    ),
}  # fmt: skip


def test_every_schedule_of_npora_is_compared() -> None:
    assert {name for name, _ in SCHEDULED.values()} == SCHEDULES.keys()


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps")
@pytest.mark.parametrize("name", SCHEDULED)
@pytest.mark.parametrize("warmup", [0, 1, 3, 0.3, 11, 13])
@pytest.mark.parametrize("steps", [1, 11])
def test_schedules_give_transformers_rates(name: str, warmup: float, steps: int) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.3)
    theirs = transformers.TrainingArguments(warmup_steps=warmup, use_cpu=True).get_warmup_steps(steps)
    kind, options = SCHEDULED[name]
    scheduler = transformers.get_scheduler(kind, optimizer, theirs, steps, options)
    args = TrainingArguments(
        warmup_steps=warmup, learning_rate=0.3, lr_scheduler_type=kind, lr_scheduler_kwargs=options, max_steps=steps
    )
    rate = Schedule(args, optim.SGD([Parameter(np.zeros(1))], 0.3), steps)
    for step in range(steps):
        # Some roundings of a factor of at most 1; an end that is all but 0 is one of 1 less 1.
        assert rate(step) == pytest.approx(scheduler.get_last_lr()[0], rel=2e-15, abs=1e-16)
        if step + 1 < steps:  # theirs may divide by zero behind the last
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {"patience": 0}, {"patience": 1, "factor": 0.5, "cooldown": 1}, {"patience": 2, "mode": "max", "min_lr": 0.05},
        {"patience": 0, "threshold": 0.3, "threshold_mode": "abs"}, {"patience": 0, "factor": 0.3, "eps": 2e-3},
        {"patience": 1, "threshold": 0.2, "mode": "max"}, {"mode": "max", "threshold_mode": "abs", "patience": 0},
    ],
)  # fmt: skip
def test_a_plateau_gives_torchs_rates_also_from_a_saved_state(options: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [(np.zeros(1), 0.1), (np.zeros(2), 0.3)]
    ours = optim.SGD([{"params": [Parameter(value)], "lr": lr} for value, lr in groups])
    theirs = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for _, lr in groups])
    plateau = optim.ReduceLROnPlateau(ours, **options)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    rates = set()
    for number, metric in enumerate(rng.standard_normal(20).cumsum() / 3 + 1):
        plateau.step(float(metric))
        reference.step(metric)
        assert [group["lr"] for group in ours.param_groups] == reference.get_last_lr()
        rates.add(reference.get_last_lr()[1])
        if number == 9:
            saved, plateau = plateau.state_dict(), optim.ReduceLROnPlateau(ours, **options)
            plateau.load_state_dict(saved)
    assert len(rates) > 1
