"""EVA's start of an adapter that is there, under PEFT's names: directions and ranks from batches of data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from npora.lora.eva_state import IDLE, Batch, Forward, check_eva, get_eva_state_dict, started_layers
from npora.lora.folder import PREFIX
from npora.lora.keywords import refuse_others
from npora.lora.methods.lora_config import LoraConfig
from npora.lora.model import PeftModel
from npora.nn.module import Array

_OWN = ("model", "dataloader", "eva_state_dict", "forward_fn", "adapter_name")


def initialize_lora_eva_weights(
    model: PeftModel,
    dataloader: Iterable[Batch] | None = None,
    eva_state_dict: Mapping[str, Array] | None = None,
    forward_fn: Forward | None = None,
    adapter_name: str = "default",
    **keywords: Any,
) -> None:
    """Begin an adapter as EVA does: A at the directions of the layers' inputs, B at zero, ranks where they explain.

    A layer that gets no rank loses its adapter; what was given out is written into the config's rank_pattern and
    alpha_pattern, and its target_modules where a layer is lost. The file is plain LoRA's.

    dataloader : batches, each a dict of what the model is called with
    eva_state_dict : or what get_eva_state_dict returned, of npora or PEFT
    forward_fn : (model, batch) → whatever, in place of model(**batch)

    Raises
    ------
    ValueError: another start, neither of the two or batches from which it cannot begin (see get_eva_state_dict), a
    state of other layers or sizes. RuntimeError: an adapter is merged.  TypeError: no PeftModel, an unknown keyword.
    Nothing is then changed.
    """
    refuse_others("initialize_lora_eva_weights", keywords, _OWN, IDLE)
    if not isinstance(model, PeftModel):
        raise TypeError(f"initialize_lora_eva_weights takes a PeftModel; got a {type(model).__name__}")
    model._refuse_unknown(adapter_name)
    config = check_eva(model.peft_config[adapter_name])
    model._refuse_merged("initialize_lora_eva_weights()")
    if eva_state_dict is None:
        eva_state_dict = get_eva_state_dict(model, dataloader, forward_fn=forward_fn, adapter_name=adapter_name)
    layers = started_layers(model, adapter_name)
    state = {path: np.asarray(eva_state_dict.get(PREFIX + path, np.zeros(()))) for path in layers}
    others = [name for name in eva_state_dict if name.removeprefix(PREFIX) not in layers]
    wrong = [path for path, A in state.items() if A.ndim != 2 or A.shape[1] != layers[path].base_layer.in_features]
    if others or wrong:
        what = f"has {others[0]}, which is no layer of the adapter" if others else f"has no matrix that fits {wrong[0]}"
        raise ValueError(f"eva_state_dict {what}: make it with get_eva_state_dict, of the same model and config")
    if not any(len(A) for A in state.values()):
        raise ValueError("eva_state_dict has no rank for any layer: an adapter needs one at least")
    found = _given_out(config, {path: len(A) for path, A in state.items()})
    for path, layer in layers.items():
        if not len(state[path]):
            layer.delete_adapter(adapter_name)
            if not layer.adapters:
                model.base_model.model.set_submodule(path, layer.base_layer)
            continue
        adapter: Any = layer.adapters[adapter_name]
        adapter.r, adapter.s = found.rank_and_scaling(path)
        adapter.A.data = state[path].astype(layer.base_layer.dtype)  # [r,i]
        adapter.B.data = np.zeros((layer.base_layer.out_features, adapter.r), layer.base_layer.dtype)
    vars(config).update(vars(found))
    config.waits_for = ""


def _given_out(config: LoraConfig, lengths: Mapping[str, int]) -> LoraConfig:
    """Return the config with these ranks, by path, and the alphas that go with them."""
    given, found = {path: r for path, r in lengths.items() if r}, copy.copy(config)
    alphas = {path: config.rank_and_alpha(path) for path in given}
    found.rank_pattern = {path: r for path, r in _longest_first(given) if r != config.r}
    changed = {}
    for path, (r, alpha) in alphas.items():
        adjusts = config.eva_config.adjust_scaling_factors and given[path] != r  # type: ignore[union-attr]
        changed[path] = alpha * given[path] / r if adjusts else alpha
    found.alpha_pattern = {path: alpha for path, alpha in _longest_first(changed) if alpha != config.lora_alpha}
    if len(given) < len(lengths):
        found.target_modules = sorted(given)
    return found


def _longest_first(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return paths as a pattern tries them, which fits the end of a path: the longest first."""
    return sorted(values.items(), key=lambda item: -item[0].count("."))
