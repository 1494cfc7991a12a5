"""The same workloads on torch with transformers and PEFT, eagerly or under torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from workloads import ALPHA, LEARNING_RATE, MAX_NORM, MODELS, Batch, Workload, drawn

Check = Callable[[Batch], dict[str, Any]]
Step = Callable[[Batch], Any]


def start(workload: Workload, folder: Path, compiled: bool = False, form: str = "float32") -> tuple[Check, Step]:
    """form : of the base's numbers, and of what is computed from them; the adapter is float32, as PEFT has it"""
    if workload.kind == "layer":
        return layer(workload, compiled)
    model = load(workload, folder, form)
    if workload.kind == "generate":
        return generation(model, workload)
    called = torch.compile(model) if compiled else model
    return inference(model, called) if workload.kind == "infer" else training(model, called, workload)


def load(workload: Workload, folder: Path, form: str = "float32") -> Any:
    base = getattr(transformers, MODELS[workload.model].cls).from_pretrained(
        workload.weights(folder, form), dtype=getattr(torch, form), **workload.dropouts
    )
    targets, task = MODELS[workload.model].targets, MODELS[workload.model].task
    config = peft.LoraConfig(
        r=workload.rank, lora_alpha=ALPHA, lora_dropout=workload.dropout, target_modules=list(targets), task_type=task
    )
    model = draw(peft.get_peft_model(base, config), frozen=False)
    if workload.merged:
        model.merge_adapter()
    return model


def draw(model: Any, frozen: bool) -> Any:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if frozen or parameter.requires_grad:
                parameter.copy_(torch.from_numpy(drawn(name, tuple(parameter.shape))))
    return model


def tensors(batch: Batch) -> dict[str, Any]:
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def training(model: Any, called: Any, workload: Workload) -> tuple[Check, Step]:
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = list(trained.values())
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=0.0)
    keywords = {} if MODELS[workload.model].task == "SEQ_CLS" else {"use_cache": False}

    def check(batch: Batch) -> dict[str, Any]:
        model.train(not workload.dropout)  # where nothing is dropped the two modes are one, and compiled once
        optimizer.zero_grad()
        loss = called(**tensors(batch), **keywords).loss
        loss.backward()
        return numbers({"loss": loss, **{name: parameter.grad for name, parameter in trained.items()}})

    def step(batch: Batch) -> float:
        model.train()
        optimizer.zero_grad()
        loss = called(**tensors(batch), **keywords).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        return loss.item()

    return check, step


def inference(model: Any, called: Any) -> tuple[Check, Step]:
    model.eval()

    def check(batch: Batch) -> dict[str, Any]:
        with torch.inference_mode():
            return numbers({"logits": called(input_ids=torch.from_numpy(batch["input_ids"])).logits})

    return check, check


def generation(model: Any, workload: Workload) -> tuple[Check, Step]:
    model.eval()

    def check(batch: Batch) -> dict[str, Any]:
        ids = torch.from_numpy(batch["input_ids"])
        with torch.inference_mode():
            tokens = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=workload.target, do_sample=False,
                pad_token_id=0,
            )  # fmt: skip
        return {"tokens": tokens.numpy()}

    return check, check


class Attention(torch.nn.Module):
    """Self-attention under the names of npora's."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (torch.nn.Linear(d, d) for _ in range(4))
        self.heads = heads

    def forward(self, x: Any) -> Any:
        b, t, d = x.shape
        q, k, v = (
            projection(x).view(b, t, self.heads, d // self.heads).transpose(1, 2)  # [b,h,t,d]
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.transpose(1, 2).reshape(b, t, d))


def layer(workload: Workload, compiled: bool) -> tuple[Check, Step]:
    d, heads = workload.config["embed_dim"], workload.config["num_heads"]
    attention = workload.model == "attention"
    config = peft.LoraConfig(
        r=workload.rank, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"] if attention else ["linear"]
    )
    plain = Attention(d, heads) if attention else torch.nn.ModuleDict({"linear": torch.nn.Linear(d, d)})
    injected = peft.inject_adapter_in_model(config, plain)
    module = draw(injected if attention else injected["linear"], frozen=True)
    called = torch.compile(module) if compiled else module
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}

    def check(batch: Batch) -> dict[str, Any]:
        for parameter in trained.values():
            parameter.grad = None
        x = torch.from_numpy(batch["x"]).requires_grad_()
        y = called(x)
        y.backward(torch.from_numpy(batch["dy"]))
        return numbers({"y": y, "dx": x.grad, **{name: parameter.grad for name, parameter in trained.items()}})

    return check, check


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().float().numpy() for name, tensor in found.items()}
