"""The optimiser and the learning rates that a training's arguments name."""

from __future__ import annotations

import re
from typing import Any

from npora.nn import LayerNorm, Module, RMSNorm
from npora.nn.module import Parameter
from npora.optim import SGD, AdamW, Optimizer, get_schedule
from npora.optim.lora_plus import takes_ratio
from npora.train.arguments import PLATEAU, TrainingArguments
from npora.train.state import trainable

# Parts of names by which transformers knows biases, T5's table of biases among them, and the norms of other makers.
_EXEMPT = re.compile(r"bias|ln_tuning|layernorm|rmsnorm|(^|[._])norm(\.|$)")


def make_optimizer(model: Module, args: TrainingArguments) -> Optimizer:
    options = args.optim_options()
    groups = _groups(model, args.weight_decay, args.learning_rate, options.pop("loraplus_lr_ratio", 1))
    if args.optim == "sgd":
        return SGD(groups, args.learning_rate, **options)
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
        first = self._optimizer.param_groups[0]
        return first["lr"] / _ratio(first) if self._factor is None else self._rate * self._factor(step)

    def set(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate * _ratio(group)

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self._optimizer.param_groups]


def _ratio(group: dict[str, Any]) -> float:
    """How many times the schedule's rate a group's is: LoRA+'s, of B."""
    return float(group.get("lr_ratio", 1))


def _groups(model: Module, weight_decay: float, rate: float, ratio: float) -> list[dict[str, Any]]:
    """Biases and norms do not decay: a norm is one by its type, whatever it is called, or by its name. With a ratio,
    B and what has one axis have a rate of their own."""
    norms = {id(p) for m in model.modules() if isinstance(m, LayerNorm | RMSNorm) for p in m.parameters()}
    parts: dict[tuple[bool, bool], list[Parameter]] = {
        (own, keep): [] for own in (False, True) for keep in (False, True)
    }
    for name, parameter in trainable(model).items():
        keep = id(parameter) in norms or _EXEMPT.search(name.lower()) is not None
        parts[ratio != 1 and takes_ratio(name, parameter), keep].append(parameter)
    groups: list[dict[str, Any]] = []
    for (own, keep), parameters in parts.items():
        own_rate = {"lr": rate * ratio, "lr_ratio": ratio} if own else {}
        groups.append({"params": parameters, "weight_decay": 0.0 if keep else weight_decay, **own_rate})
    return [group for group in groups if group["params"]]
