"""A model of a few lines that Trainer trains, and that remembers what it was called with."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from npora.nn import Module, Parameter

IGNORED = -100
VOCABULARY, WIDTH, CLASSES = 43, 3, 4


class Call(NamedTuple):
    """One forward: its arrays, the mask [b,m] that its generator drew (None without one), and the modes it ran in."""

    input_ids: Any
    attention_mask: Any
    labels: Any
    keep: Any
    training: bool
    recomputing: bool


def losses_and_gradients(values: dict[str, Any], call: Call) -> tuple[Any, float, int, dict[str, Any]]:
    """logits [b,c], the *sum* of the labels' losses, their number, and the sum's gradient by name.

    h = the mean of the real tokens' rows of E;  x = γ h;  z = keep x;  logits = z Wᵀ + b;  cross entropy.
    """
    ids, mask = call.input_ids, call.attention_mask
    share = (mask / mask.sum(axis=1, keepdims=True))[..., None]  # [b,t,1]
    h = (share * values["table.weight"][ids]).sum(axis=1)  # [b,m]
    keep = np.ones_like(h) if call.keep is None else call.keep
    z = keep * values["norm.weight"] * h
    logits = z @ values["weight"].T + values["bias"]
    labels = np.full(len(ids), IGNORED) if call.labels is None else call.labels
    counted = labels != IGNORED
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    hits = np.eye(CLASSES)[np.where(counted, labels, 0)]
    loss = float(-(np.log((p * hits).sum(axis=1))[counted]).sum())
    d = (p - hits) * counted[:, None]
    dx = (d @ values["weight"]) * keep
    table = np.zeros_like(values["table.weight"])
    np.add.at(table, ids, share * (dx * values["norm.weight"])[:, None])
    gradients = {"table.weight": table, "norm.weight": (dx * h).sum(axis=0), "weight": d.T @ z, "bias": d.sum(axis=0)}
    return logits, loss, int(counted.sum()), gradients


class Holder(Module):
    def __init__(self, weight: Any) -> None:
        self.weight = Parameter(weight)


class Watched(Module):
    """calls : every forward so far
    drops : whether it drops out, given a generator
    poison : calls whose number is in it have gradients of nan; with poison_the_loss a loss of nan too
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.frozen = Parameter(rng.standard_normal(5), requires_grad=False)
        self.bias = Parameter(rng.standard_normal(CLASSES))
        self.weight = Parameter(rng.standard_normal((CLASSES, WIDTH)))
        self.norm = Holder(1 + 0.3 * rng.standard_normal(WIDTH))
        self.table = Holder(rng.standard_normal((VOCABULARY, WIDTH)))  # the last one has most of the gradient
        self.calls: list[Call] = []
        self.poison: set[int] = set()
        self.poison_the_loss = False
        self.drops = True
        self.gradient_checkpointing = False
        self._lock = threading.Lock()

    def values(self) -> dict[str, Any]:
        return {name: p.data.copy() for name, p in self.named_parameters() if p.requires_grad}

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None, rng: Any = None) -> Any:
        keep = None
        if rng is not None and self.drops:
            keep = 0.5 + rng.random((len(input_ids), WIDTH))  # not of 0 and 1: no two are the same by chance
        call = Call(input_ids, attention_mask, labels, keep, self.training, self.gradient_checkpointing)
        with self._lock:
            number = len(self.calls)
            self.calls.append(call)
        parameters = dict(self.named_parameters())
        values = {name: parameter.data for name, parameter in parameters.items()}
        logits, loss, items, gradients = losses_and_gradients(values, call)
        bad = np.nan if number in self.poison else 1.0

        def backward(scale: float = 1.0) -> None:
            for name, gradient in gradients.items():
                if parameters[name].requires_grad:
                    parameters[name].accumulate(gradient * (bad * scale / max(items, 1)))

        mean = None if labels is None else (loss / items if items else 0.0) * (bad if self.poison_the_loss else 1.0)
        return SimpleNamespace(logits=logits, loss=mean, num_items=items), backward


def watched_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of 1 to 6 ids, each of which begins with an id of its own; a fifth of them has no label."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        ids = [i + 1, *rng.integers(1, VOCABULARY, rng.integers(0, 6)).tolist()]
        label = IGNORED if rng.random() < 0.2 else int(rng.integers(CLASSES))
        rows.append({"input_ids": ids, "labels": label})
    return rows


def numbers(call: Call) -> list[int]:
    """Which of watched_rows a call was given."""
    return [int(i) - 1 for i in call.input_ids[:, 0]]
