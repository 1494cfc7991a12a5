"""The optimiser that a training's arguments name, over a model's trainable parameters."""

from __future__ import annotations

import re
from typing import Any

from npora.nn import LayerNorm, Module, RMSNorm
from npora.nn.module import Parameter
from npora.optim import SGD, AdamW, Optimizer
from npora.train.arguments import TrainingArguments
from npora.train.state import trainable

# Parts of names by which transformers knows biases, T5's table of biases among them, and the norms of other makers.
_EXEMPT = re.compile(r"bias|layernorm|rmsnorm|(^|[._])norm(\.|$)")


def make_optimizer(model: Module, args: TrainingArguments) -> Optimizer:
    groups = _groups(model, args.weight_decay)
    if args.optim == "sgd":
        return SGD(groups, args.learning_rate)
    betas = args.adam_beta1, args.adam_beta2
    return AdamW(groups, args.learning_rate, betas, args.adam_epsilon, args.weight_decay)


def _groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and norms do not decay: a norm is one by its type, whatever it is called, or by its name."""
    norms = {id(p) for m in model.modules() if isinstance(m, LayerNorm | RMSNorm) for p in m.parameters()}
    decay: list[Parameter] = []
    keep: list[Parameter] = []
    for name, parameter in trainable(model).items():
        (keep if id(parameter) in norms or _EXEMPT.search(name.lower()) else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
