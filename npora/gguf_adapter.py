"""An adapter as a GGUF file, which llama.cpp puts on a base in GGUF (its option --lora)."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np

from npora.files.gguf_writer import Blocks, save_gguf
from npora.lora import PeftModel
from npora.lora.combine import Factors
from npora.lora.convert import convert_to_lora
from npora.lora.folder import PREFIX
from npora.models.gguf.architecture import Architecture, general, in_halves
from npora.models.gguf.writing import architecture_for
from npora.nn.module import Array


def write_gguf_adapter(
    model: PeftModel, path: str | os.PathLike[str], rank: float | None = None, adapter_name: str = "default"
) -> None:
    """Write A [r,i] and B [o,r] of each layer in float32, and one α for all of them.

    llama.cpp computes W x + (α/r) B A x, with r of A's rows. Where the layers' scales differ, or are α/√r, that of each
    is multiplied into its B: α is the first layer's, and B′ = B s r/α.

    rank : the ranks of a method that is not plain LoRA, or to cut LoRA's to, as of convert_to_lora

    Raises
    ------
    ValueError: what the format has no place for, by name: a module trained whole, a bias, an adapter on an embedding or
    on what the base has not in GGUF; a method that is no LoRA, without a rank.
    """
    model._refuse_unknown(adapter_name)
    base: Any = model.get_base_model()
    architecture = architecture_for(base)
    _refuse_what_is_lost(model, adapter_name)
    parts = _factors(model, rank, adapter_name)
    first = next(iter(parts.values()))
    alpha = float(first.s * len(first.A)) or 1.0  # an α of 0 divides nothing
    tensors: dict[str, Blocks] = {}
    for layer, (s, B, A) in parts.items():
        name = _name(architecture, base, layer)
        share = s * len(A) / alpha
        B = B if share == 1 else np.float32(share) * B
        if (named := general(name)) in architecture.heads:
            B = in_halves(B, getattr(base.config, architecture.heads[named]))
        tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"] = _blocks(A), _blocks(B)
    metadata = {
        "general.architecture": architecture.name, "general.type": "adapter", "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
    }  # fmt: skip
    save_gguf(path, metadata, tensors)


def _refuse_what_is_lost(model: PeftModel, name: str) -> None:
    layers = [(path, layer) for path, layer in model.lora_layers() if name in layer.adapters]
    own = tuple(f"{PREFIX}{path}." for path, _ in layers)
    with model._biases.on():
        others = [n for n in model.adapter_parameters(name) if not n.startswith(own) or ".base_layer." in n]
    others = [n for n in others if n.removeprefix(PREFIX).split(".")[0] != "base_model"]  # which a method shares
    if others:
        raise ValueError(
            f"an adapter in GGUF holds A and B alone, and this one has {', '.join(others[:3])}"
            f"{' …' if len(others) > 3 else ''}: merge it into the model (--to gguf)"
        )
    if changed := [path for path, layer in layers if layer.bias_change(name) is not None]:
        raise ValueError(f"an adapter in GGUF holds A and B alone, and this one changes the bias of {changed[0]}")


def _factors(model: PeftModel, rank: float | None, name: str) -> dict[str, Factors]:
    """Each layer's s, B and A."""
    found: dict[str, Factors] = {}
    if rank is not None:
        state = convert_to_lora(model, rank, name).state_dict
        for path, layer in model.lora_layers():
            if name in layer.adapters:
                A, B = (state[f"{PREFIX}{path}.lora_{part}.weight"] for part in "AB")
                found[path] = Factors(1.0, B, A)
        return found
    for path, layer in model.lora_layers():
        if name in layer.adapters:
            factors = layer.adapters[name].factored()
            if factors is None:
                kind = type(layer.adapters[name]).__name__
                raise ValueError(
                    f"{kind} is no plain LoRA, which alone GGUF holds: pass the rank to cut it to (--rank)"
                )
            found[path] = factors
    return found


def _name(architecture: Architecture, base: Any, path: str) -> str:
    name = architecture.name_of(f"{path}.weight")
    if name is None or (general(name) == "output" and base.config.tie_word_embeddings):
        raise ValueError(f"{path} has no matrix of its own in a GGUF file of {architecture.name}, and no adapter there")
    if general(name) == "token_embd":
        raise ValueError(f"{path} is an embedding, on which npora writes no adapter to GGUF")
    return name


def _blocks(matrix: Array) -> Blocks:
    floats = np.ascontiguousarray(matrix, np.float32)
    return Blocks("F32", floats.shape, partial(_one, floats))


def _one(matrix: Array) -> list[Array]:
    return [matrix]
