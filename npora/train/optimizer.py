"""The optimiser and the learning rates that a training's arguments name."""

from __future__ import annotations

import re
from typing import Any

from npora.nn import LayerNorm, Module, RMSNorm
from npora.nn.module import Parameter
from npora.optim import SGD, AdamW, Optimizer, get_schedule
from npora.train.arguments import PLATEAU, TrainingArguments
from npora.train.state import trainable

# Parts of names by which transformers knows biases, T5's table of biases among them, and the norms of other makers.
_EXEMPT = re.compile(r"bias|ln_tuning|layernorm|rmsnorm|(^|[._])norm(\.|$)")


def make_optimizer(model: Module, args: TrainingArguments) -> Optimizer:
    groups = _groups(model, args.weight_decay)
    if args.optim == "sgd":
        return SGD(groups, args.learning_rate, **args.sgd_options())
    betas = args.adam_beta1, args.adam_beta2
    return AdamW(groups, args.learning_rate, betas, args.adam_epsilon, args.weight_decay)


class Schedule:
    """step ↦ its learning rate: that of the schedule, or what the optimiser has where evaluations change it. set()
    gives one to the optimiser, and get_last_lr() tells that of each of its groups, as the schedulers of torch do."""

    def __init__(self, args: TrainingArguments, optimizer: Optimizer, steps: int) -> None:
        self._rate, self._optimizer, self._factor = args.learning_rate, optimizer, None
        if args.lr_scheduler_type != PLATEAU:
            options: Any = args.lr_scheduler_kwargs or {}
            warmup = args.num_warmup_steps(steps)
            self._factor = get_schedule(args.lr_scheduler_type, warmup, steps, args.learning_rate, **options)

    def __call__(self, step: int) -> float:
        return self.get_last_lr()[0] if self._factor is None else self._rate * self._factor(step)

    def set(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self._optimizer.param_groups]


def _groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and norms do not decay: a norm is one by its type, whatever it is called, or by its name."""
    norms = {id(p) for m in model.modules() if isinstance(m, LayerNorm | RMSNorm) for p in m.parameters()}
    decay: list[Parameter] = []
    keep: list[Parameter] = []
    for name, parameter in trainable(model).items():
        (keep if id(parameter) in norms or _EXEMPT.search(name.lower()) else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
