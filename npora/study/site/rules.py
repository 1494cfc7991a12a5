"""What holds of optimisers, schedules and clipping, which have no gradient to check: computed for their pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial, partialmethod
from typing import Any

import numpy as np

from npora.check.verdict.comparison import FAIL, PASS
from npora.lora import LoraConfig, get_peft_model
from npora.nn import Linear, Module, Parameter
from npora.nn.module import Array
from npora.optim import SGD, Adam, AdamW, LoraFAOptimizer, Optimizer, ReduceLROnPlateau, clip_grad_norm
from npora.optim.lora_plus import create_loraplus_optimizer
from npora.optim.schedule import SCHEDULES, get_schedule

Pairs = Iterator[tuple[str, Any, Any]]  # what holds: what came, and what it is equal to
_SLACK = 1e-12
_THETA, _G = np.array([2.0, -1.5, 0.25]), np.array([3.0, -0.5, 1.25])


def rules() -> dict[tuple[str, str], list[tuple[str, dict[str, Any]]]]:
    """The verdicts by (page, definition), in the form of those of gradcheck: a rule holds to a relative 1e-12."""
    found = {home: _verdict(pairs()) for home, pairs in RULES.items()}
    for home, (kind, pairs_of, rate) in UPDATES.items():
        found[home] |= {"planted": _planted(kind, pairs_of, rate)}
    return {home: [(home[1], verdict)] for home, verdict in found.items()}


def _planted(kind: type[Optimizer], pairs_of: Callable[[Any], Pairs], rate: float) -> dict[str, Any]:
    """What the rules say of an update that is wrong, and the loss of steps with it beside that of the right ones."""
    errors = []
    for says, change in ERRORS.items():
        broken: Any = type(kind.__name__, (kind,), {"update": partialmethod(change, kind.update)})
        with np.errstate(all="ignore"):
            verdict = _verdict(pairs_of(broken))
        said = next((row["name"] for row in verdict["rows"] if row["verdict"] == FAIL), "")
        said = f"what does not hold: {said}" if said else "every rule holds"
        run = _losses(broken, rate)
        errors.append({"error": says, "in": "θ", "verdict": verdict["verdict"], "said": said, "loss": run})
    return {"loss": _losses(kind, rate), "rate": rate, "errors": errors}


ERRORS: dict[str, Callable[..., None]] = {
    "the sign is wrong": lambda self, right, theta, g, *rest: right(self, theta, -g, *rest),
    "the state is lost between steps": lambda self, right, theta, g, state, group: right(self, theta, g, {}, group),
    "each step is taken twice": lambda self, right, *given: (right(self, *given), right(self, *given))[0],
    "the gradient is scaled by 100": lambda self, right, theta, g, *rest: right(self, theta, 100 * g, *rest),
    "the rate of a schedule is not read": lambda self, right, theta, g, state, group: right(
        self, theta, g, state, {**group, "lr": 1e-3}
    ),
}


def _losses(kind: Any, rate: float) -> list[float]:
    """ℓ = ½ Σ hₖ θₖ², in a valley: h = 1 and 1/20."""
    h, parameter = np.array([1.0, 0.05]), Parameter(np.array([1.0, -2.0]))
    optimizer, found = kind([parameter], rate), []
    for _ in range(40):
        found.append(float(f"{float(h @ parameter.data**2) / 2:.3g}"))
        parameter.grad = h * parameter.data
        optimizer.step()
    return found


def _verdict(pairs: Pairs) -> dict[str, Any]:
    rows = []
    for says, came, expected in pairs:
        apart = float(np.max(np.abs(np.asarray(came) - expected)))
        holds = apart <= _SLACK * float(np.max(np.abs(expected), initial=1.0))
        note = "" if holds else f"{np.asarray(came).tolist()} came, expected {np.asarray(expected).tolist()}"
        rows.append(
            {"name": says, "method": "identity", "verdict": PASS if holds else FAIL, "note": note, "worst": None}
        )
    return {"verdict": max((row["verdict"] for row in rows), key=(PASS, FAIL).index), "rows": rows, "notes": []}


def _stepped(make: Callable[[Any], Optimizer], gradients: Any, theta: Array = _THETA) -> tuple[Array, dict[str, Any]]:
    """θ after a step with each gradient, and the optimiser's state."""
    parameter = Parameter(theta.copy())
    optimizer = make([parameter])
    for g in gradients:
        parameter.grad = np.array(g)
        optimizer.step()
    return parameter.data, optimizer.state[0]


def _sgd(kind: type[SGD] = SGD) -> Pairs:
    lr, mu = 0.1, 0.5
    moved = _stepped(lambda p: kind(p, lr), [_G])[0] - _THETA
    yield "a step is −lr g", moved, -lr * _G
    yield "with `maximize` it is lr g", _stepped(lambda p: kind(p, lr, maximize=True), [_G])[0] - _THETA, lr * _G
    decayed = _stepped(lambda p: kind(p, lr, weight_decay=0.2), [0 * _G])[0]
    yield "(1) of g = 0 leaves θ (1 − lr λ)", decayed, _THETA * (1 - lr * 0.2)
    m = _stepped(lambda p: kind(p, lr, mu), [_G] * 4)[1].get("momentum_buffer", math.nan)
    yield "(2) of one g, t times, is g (1 − μᵗ)/(1 − μ)", m, _G * (1 - mu**4) / (1 - mu)
    slow = _stepped(lambda p: kind(p, lr, mu, dampening=0.25), [0 * _G, _G])[1].get("momentum_buffer", math.nan)
    yield "(2) of g after 0 is (1 − τ) g", slow, 0.75 * _G
    nesterov = _stepped(lambda p: kind(p, lr, mu, nesterov=True), [_G])[0] - _THETA
    yield "(3) of the first g, Nesterov's, is (1 + μ) g", nesterov, -lr * (1 + mu) * _G


def _adam(kind: type[Adam], decoupled: bool = False) -> Pairs:
    lr, betas, t = 0.1, (0.4, 0.75), 5

    def make(**options: Any) -> Callable[[Any], Optimizer]:
        return lambda p: kind(p, lr, betas, 0.0, **{"weight_decay": 0.0, **options})

    gradients = [_G * (k + 1) * (-1) ** k for k in range(t)]
    theta, state = _stepped(make(), gradients)
    past = [b ** np.arange(t - 1, -1, -1) * (1 - b) for b in betas]
    yield "(2) is (1 − β₁) Σₖ β₁ᵗ⁻ᵏ gₖ", state.get("exp_avg", math.nan), past[0] @ np.array(gradients)
    yield "(3) is (1 − β₂) Σₖ β₂ᵗ⁻ᵏ gₖ²", state.get("exp_avg_sq", math.nan), past[1] @ np.square(gradients)
    yield (
        "(4) with one g, t times, and ε = 0, moves by t lr",
        _stepped(make(), [_G] * t)[0] - _THETA,
        -t * lr * np.sign(_G),
    )
    yield "g → c g changes nothing, with ε = 0", _stepped(make(), [8 * g for g in gradients])[0], theta
    mirrored = _stepped(make(), [-g for g in gradients], -_THETA)[0]
    yield "−g of −θ gives −θ′", mirrored, -theta
    moved, grown = _stepped(make(amsgrad=True), [_G, 0 * _G, 0 * _G])
    yield (
        "(5) is the largest v: here the first, (1 − β₂) g²",
        grown.get("max_exp_avg_sq", math.nan),
        past[1][-1] * _G**2,
    )
    steps = [math.sqrt((1 - betas[1] ** k) / past[1][-1]) / (1 - betas[0] ** k) * past[0][-k] for k in (1, 2, 3)]
    yield "(4) has it in the place of v", moved, _THETA - lr * sum(steps) * np.sign(_G)
    beside = _stepped(lambda p: kind(p, lr, betas, 1.0, weight_decay=0.0), [_G])[0]
    yield "(4) with ε = 1 first moves by lr g/(|g| + 1)", beside, _THETA - lr * _G / (np.abs(_G) + 1)
    decayed, lam = partial(kind, lr=lr, betas=betas, weight_decay=0.2), 0.2
    if decoupled:
        yield "g = 0 leaves θ (1 − lr λ)", _stepped(decayed, [0 * _G])[0], _THETA * (1 - lr * lam)
    else:
        yield "(1) of g = −λ θ is 0, and θ stays", _stepped(decayed, [-lam * _THETA])[0], _THETA


class _Layer(Module):
    def __init__(self) -> None:
        self.dense = Linear(4, 3, rng=0, dtype=np.float64)


def _lora_plus() -> Pairs:
    model = get_peft_model(_Layer(), LoraConfig(r=2, target_modules=["dense"], init_lora_weights=False))
    before = {name: p.data.copy() for name, p in model.named_parameters() if p.requires_grad}
    optimizer = create_loraplus_optimizer(model, SGD, lr=0.1, loraplus_lr_ratio=16)
    for parameter in model.parameters():
        parameter.grad = np.ones_like(parameter.data)
    optimizer.step()
    for name, p in model.named_parameters():
        if name in before:
            ratio = 16 if "lora_B" in name else 1
            yield f"{'B moves by −λ lr dB' if ratio > 1 else 'A moves by −lr dA'}", p.data - before[name], -0.1 * ratio


def _lora_fa(kind: type[LoraFAOptimizer] = LoraFAOptimizer) -> Pairs:
    rng, lr, s = np.random.default_rng(0), 0.1, 2.5
    A, G = Parameter(rng.standard_normal((2, 5))), rng.standard_normal((3, 5))
    B = rng.standard_normal((3, 2))

    def make(p: list[Parameter], **options: Any) -> Optimizer:
        return kind([{"params": p, "A": A, "scaling": s}], lr, (0.0, 0.0), 0.0, **options)

    _, state = _stepped(make, [s * G @ A.data.T], B)
    g = state.get("exp_avg", np.full((3, 2), math.nan))
    # The ridge of (1) moves the least squares by 1e-8 of g.
    yield "(1) is nearest to G: (s g A − G) Aᵀ = 0", np.round((s * g @ A.data - G) @ A.data.T, 6), np.zeros((3, 2))
    yield "(3) with β₂ = 0 is g²", state.get("exp_avg_sq", math.nan), g * g
    yield "(4) with β = 0 and ε = 0 moves by lr", _stepped(make, [s * G @ A.data.T], B)[0] - B, -lr * np.sign(g)
    decayed = _stepped(lambda p: make(p, weight_decay=0.2), [s * G @ A.data.T], B)[0]
    yield "(5) is θ (1 − lr λ), after the step", decayed, (B - lr * np.sign(g)) * (1 - lr * 0.2)


def _clip() -> Pairs:
    long, short = [Parameter(np.zeros(3)), Parameter(np.zeros(2))], Parameter(np.zeros(3))
    long[0].grad, long[1].grad, short.grad = _G.copy(), np.array([1.0, 2.0]), _G.copy()
    norm = math.sqrt(float(_G @ _G) + 5)
    yield "the norm is that of all gradients as one vector", clip_grad_norm(long, 2.0), norm
    yield "a longer gradient keeps its direction", long[0].grad, _G * (2 / (norm + 1e-6))
    clip_grad_norm([short], 100.0)
    yield "a shorter one stays as it is", short.grad, _G


def _schedule() -> Pairs:
    options: dict[str, dict[str, Any]] = {
        "polynomial": {"lr_end": 1e-4}, "cosine_with_min_lr": {"min_lr_rate": 0.1},
        "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1}, "warmup_stable_decay": {"num_decay_steps": 10},
    }  # fmt: skip
    for name in SCHEDULES:
        factor = get_schedule(name, 10, 30, 1e-3, **options.get(name, {}))
        yield f"{name}: after the warm-up the rate is whole", max(factor(step) for step in range(31)), 1.0
    yield "linear: 1 − p", get_schedule("linear", 10, 30)(15), 0.75
    yield "cosine: half way it is a half", get_schedule("cosine", 10, 30)(20), 0.5
    yield "warm-up: step / W", [get_schedule("linear", 10, 30)(step) for step in (0, 3)], [0.0, 0.3]


def _plateau() -> Pairs:
    optimizer = SGD([Parameter(np.zeros(1))], 1.0)
    plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=2, min_lr=0.3)
    rates = []
    for metric in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        plateau.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    yield (
        "the rate falls after more than `patience` that were no better, to min_lr",
        rates,
        [1, 1, 1, 0.5, 0.5, 0.5, 0.3],
    )


RULES: dict[tuple[str, str], Callable[[], Pairs]] = {
    ("optim/sgd", "SGD"): _sgd,
    ("optim/adam", "Adam"): partial(_adam, Adam),
    ("optim/adam", "AdamW"): partial(_adam, AdamW, True),
    ("optim/lora_plus", "create_loraplus_optimizer"): _lora_plus,
    ("optim/lora_fa", "LoraFAOptimizer"): _lora_fa,
    ("optim/clip", "clip_grad_norm"): _clip,
    ("optim/schedule", "get_schedule"): _schedule,
    ("optim/plateau", "ReduceLROnPlateau"): _plateau,
}
UPDATES: dict[tuple[str, str], tuple[type[Optimizer], Callable[[Any], Pairs], float]] = {
    ("optim/sgd", "SGD"): (SGD, _sgd, 1.0),
    ("optim/adam", "Adam"): (Adam, _adam, 0.1),
    ("optim/adam", "AdamW"): (AdamW, partial(_adam, decoupled=True), 0.1),
    ("optim/lora_fa", "LoraFAOptimizer"): (LoraFAOptimizer, _lora_fa, 0.1),
}
