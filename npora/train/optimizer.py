"""The optimiser and the learning rates that a training's arguments name."""

from __future__ import annotations

import hashlib
import logging
import re
import struct
from typing import Any

from npora.nn import LayerNorm, Module, RMSNorm
from npora.nn.module import Parameter
from npora.optim import SGD, AdamW, Optimizer, get_schedule
from npora.optim.lora_plus import check_has_B, takes_ratio
from npora.optim.schedule import Factor
from npora.train.arguments import PLATEAU, TrainingArguments
from npora.train.state import trainable

logger = logging.getLogger("npora")

# Parts of names by which transformers knows biases, T5's table of biases among them, and the norms of other makers.
_EXEMPT = re.compile(r"bias|ln_tuning|layernorm|rmsnorm|(^|[._])norm(\.|$)")


def make_optimizer(model: Module, args: TrainingArguments) -> Optimizer:
    options = args.optim_options()
    if "loraplus_lr_ratio" in options:
        check_has_B(model)
    groups = _groups(model, args.weight_decay, args.learning_rate, options.pop("loraplus_lr_ratio", 1))
    if args.optim == "sgd":
        return SGD(groups, args.learning_rate, **options)
    betas = args.adam_beta1, args.adam_beta2
    return AdamW(groups, args.learning_rate, betas, args.adam_epsilon, args.weight_decay)


def check_optimizer(model: Module, optimizer: Any) -> None:
    """Raise TypeError for an optimiser of another library, ValueError for one of parameters that are not the model's
    trained ones; say which of these it leaves as they are."""
    if not isinstance(optimizer, Optimizer):
        kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
        raise TypeError(
            f"optimizers is a pair of npora.optim's optimizer and step ↦ factor, either of them None: {kind}"
        )
    own = {id(parameter): name for name, parameter in trainable(model).items()}
    given = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if foreign := len(given - own.keys()):
        raise ValueError(f"{foreign} of the optimizer's parameters are none that this model trains")
    if left := [name for place, name in own.items() if place not in given]:
        logger.warning("the optimizer has no %s: such parameters stay as they are", ", ".join(left[:8]))


class Schedule:
    """step ↦ its learning rate: that of the first group, without LoRA+'s ratio. set(step) gives each group of the
    optimiser the rate that it came with, times the schedule's factor; where evaluations change the rates it leaves them
    as they are. get_last_lr() tells the rate of each group, as the schedulers of torch do.

    rates : of the groups, where the optimiser's are no longer those that it came with
    factor : the schedule, where it is not the one that the arguments name
    """

    def __init__(
        self,
        args: TrainingArguments,
        optimizer: Optimizer,
        steps: int,
        rates: list[float] | None = None,
        factor: Factor | None = None,
    ) -> None:
        self._optimizer, self._factor, self._own = optimizer, factor, factor is not None
        self._given, self._counted = hashlib.sha256(), 0
        self._rates = [group["lr"] for group in optimizer.param_groups] if rates is None else rates
        if factor is None and args.lr_scheduler_type != PLATEAU:
            options: Any = args.lr_scheduler_kwargs or {}
            warmup = args.num_warmup_steps(steps)
            self._factor = get_schedule(args.lr_scheduler_type, warmup, steps, args.learning_rate, **options)

    def __call__(self, step: int) -> float:
        first = self._optimizer.param_groups[0]
        if self._factor is None:
            return float(first["lr"] / lr_ratio(first))
        return self._rates[0] / lr_ratio(first) * self._factor(step)

    def set(self, step: int) -> None:
        if self._factor is not None:
            factor = self._factor(step)
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self._optimizer.param_groups]

    def given(self, steps: int) -> str | None:
        """The SHA-256 of the factors of the first steps, where the schedule is the user's: what such a function is
        cannot be told, but what it gives can."""
        if not self._own:
            return None
        assert self._factor is not None, "a schedule without factors"
        if steps < self._counted:
            self._given, self._counted = hashlib.sha256(), 0
        for step in range(self._counted, steps):  # those that are new since it was asked for last
            self._given.update(struct.pack("<d", self._factor(step)))
        self._counted = steps
        return self._given.hexdigest()

    def refuse_another(self, path: str, given: Any, steps: int) -> None:
        """Raise ValueError where the schedule of the run that a checkpoint is of has given its steps other factors."""
        if given != self.given(steps):
            raise ValueError(
                f"{path} is of a run whose own schedule gave its first {steps} steps other factors than this one does: "
                "a resumed run can equal an uninterrupted one only where they agree. A schedule is a function of the "
                "step alone"
            )


def lr_ratio(group: dict[str, Any]) -> float:
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
