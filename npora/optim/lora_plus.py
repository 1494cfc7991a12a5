"""LoRA+: B takes larger steps than A."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npora.nn.module import Module, Parameter
from npora.nn.norm import LayerNorm, RMSNorm
from npora.optim.optimizer import Optimizer


def create_loraplus_optimizer(
    model: Module,
    optimizer_cls: Callable[..., Optimizer],
    *,
    lr: float,
    loraplus_lr_ratio: float,
    loraplus_weight_decay: float = 0.0,
    loraplus_lr_embedding: float = 1e-6,
    **options: Any,
) -> Optimizer:
    """Make an optimiser in which the learning rate of B is λ times that of A.    (Hayou, Ghosh and Yu, 2024)

        A ← A − lr · step(dA),  B ← B − λ lr · step(dB),  λ = `loraplus_lr_ratio`

    (arXiv:2402.12354.) With u = A x, B u changes by dB u + B du. As the width i grows, u is a sum of i terms and each
    step of A moves it by i · lr; for both terms to stay of the size of y, neither more nor less, lr must fall as 1/i
    and that of B stay as it is. One rate for both learns too little with one of them. The paper finds λ = 16 to be
    good, with a smaller lr than LoRA's own.

    As in PEFT, whose function this is: λ lr is for each tensor named `lora_B`, and for all that have one axis, such as
    biases and DoRA's lengths; biases and norms do not decay. A schedule that sets one rate for all groups undoes λ;
    one that multiplies each group's own, as torch's do, does not.

    loraplus_lr_embedding : the rate of both matrices on an embedding, whose x is no sum of i terms

    optimizer_cls, options : SGD, Adam, AdamW, and what else it takes

    Raises
    ------
    ValueError: a ratio below 1 (PEFT's documentation asks for that, its code does not), or no B to train.
    """
    if not loraplus_lr_ratio >= 1:
        raise ValueError(
            f"loraplus_lr_ratio is how many times the rate of A that of B is, at least 1; got {loraplus_lr_ratio}"
        )
    check_has_B(model)
    norms = {id(p) for m in model.modules() if isinstance(m, LayerNorm | RMSNorm) for p in m.parameters()}
    of_A: list[Parameter] = []
    of_B: list[Parameter] = []
    kept: list[Parameter] = []
    tables: list[Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_embedding_" in name:
            tables.append(parameter)
        elif parameter.requires_grad:
            is_B = takes_ratio(name, parameter)
            (of_A if not is_B else kept if "bias" in name or id(parameter) in norms else of_B).append(parameter)
    groups = [
        {"params": of_A, "lr": lr, "weight_decay": loraplus_weight_decay},
        {"params": tables, "lr": loraplus_lr_embedding, "weight_decay": loraplus_weight_decay},
        {"params": of_B, "lr": lr * loraplus_lr_ratio, "weight_decay": loraplus_weight_decay},
        {"params": kept, "lr": lr * loraplus_lr_ratio, "weight_decay": 0.0},
    ]
    return optimizer_cls([group for group in groups if group["params"]], lr=lr, **options)


def check_has_B(model: Module) -> None:
    """Raise ValueError where no B is trained, so that a ratio of rates says nothing."""
    if not any("lora_B" in name and parameter.requires_grad for name, parameter in model.named_parameters()):
        raise ValueError(
            "loraplus_lr_ratio is how many times the rate of A that of B is, and this model trains no lora_B: leave it "
            "out, or train LoRA, DoRA or AdaLoRA"
        )


def takes_ratio(name: str, parameter: Parameter) -> bool:
    """Say whether a parameter's rate is λ lr: that of each `lora_B`, and of all that have one axis."""
    return "lora_B" in name or parameter.data.ndim == 1
