"""npora's side of each workload."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from workloads import ALPHA, LEARNING_RATE, MAX_NORM, MODELS, Batch, Workload, drawn, npora_class

KEPT = ExitStack()  # until the process ends
Check = Callable[[Batch], dict[str, Any]]
Step = Callable[[Batch], Any]


def start(workload: Workload, folder: Path) -> tuple[Check, Step]:
    """check(batch), compared with the peers', and step(batch), which is timed; in training it gives the loss."""
    from npora.machine.heap import keeping_freed_memory

    model = None if workload.kind == "layer" else load(workload, folder)
    KEPT.enter_context(keeping_freed_memory())  # as Trainer and the commands do, once the model is there
    if model is None:
        return layer(workload)
    if workload.kind == "generate":
        return generation(model, workload)
    return inference(model) if workload.kind == "infer" else training(model, workload)


def load(workload: Workload, folder: Path) -> Any:
    """The model with LoRA, whose values come from their names."""
    from npora.lora import LoraConfig, get_peft_model

    base = npora_class(workload).from_pretrained(
        workload.weights(folder, workload.base), dtype=workload.base, **workload.dropouts
    )
    targets, task = MODELS[workload.model].targets, MODELS[workload.model].task
    config = LoraConfig(
        r=workload.rank, lora_alpha=ALPHA, lora_dropout=workload.dropout, target_modules=list(targets), task_type=task
    )
    model = draw(get_peft_model(base, config), frozen=False)
    if workload.merged:
        model.merge_adapter()
    return model


def draw(model: Any, frozen: bool) -> Any:
    """Values from names, for what is trained, and for what is frozen too if asked for."""
    for name, parameter in model.named_parameters():
        if frozen or parameter.requires_grad:
            parameter.data = drawn(name, parameter.shape)
    return model


def training(model: Any, workload: Workload) -> tuple[Check, Step]:
    from npora.optim import AdamW, clip_grad_norm
    from npora.train import accumulate_gradients

    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = list(trained.values())
    optimizer = AdamW(parameters, LEARNING_RATE, weight_decay=0.0)
    rng = np.random.default_rng(0) if workload.dropout else None

    def gradient(batch: Batch, rng: np.random.Generator | None = None) -> float:
        optimizer.zero_grad()
        loss, items = accumulate_gradients(model, batch, rng, workload.tokens_at_once)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= items
        return loss / items

    def check(batch: Batch) -> dict[str, Any]:
        loss = gradient(batch)
        return {"loss": loss, **{name: parameter.grad for name, parameter in trained.items()}}

    def step(batch: Batch) -> float:
        loss = gradient(batch, rng)
        clip_grad_norm(parameters, MAX_NORM)
        optimizer.step()
        return loss

    return check, step


def inference(model: Any) -> tuple[Check, Step]:
    from npora.nn import no_grad

    def check(batch: Batch) -> dict[str, Any]:
        with no_grad():
            output, _ = model(input_ids=batch["input_ids"])
        return {"logits": output.logits}

    return check, check


def generation(model: Any, workload: Workload) -> tuple[Check, Step]:
    base = model.get_base_model()
    if not hasattr(base, "generate"):
        raise LookupError(f"npora's {type(base).__name__} has no generate()")

    def check(batch: Batch) -> dict[str, Any]:
        ids = base.generate(batch["input_ids"], max_new_tokens=workload.target, eos_token_id=[], pad_token_id=0)
        return {"tokens": ids}

    return check, check


def layer(workload: Workload) -> tuple[Check, Step]:
    from npora.lora import LoRAAttention, LoRALinear
    from npora.nn import Linear

    d, heads = workload.config["embed_dim"], workload.config["num_heads"]
    module: Any
    if workload.model == "linear":
        module = LoRALinear(Linear(d, d), workload.rank, ALPHA)
    else:
        module = LoRAAttention(d, heads, workload.rank, ALPHA)
    draw(module, frozen=True)
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}

    def check(batch: Batch) -> dict[str, Any]:
        for parameter in trained.values():
            parameter.grad = None
        y, backward = module(batch["x"])
        dx = backward(batch["dy"])
        gradients = {name: parameter.grad for name, parameter in trained.items()}
        return {"y": y, "dx": dx, **gradients}

    return check, check
