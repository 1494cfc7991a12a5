"""What CorDA and LoRA-GA do before an adapter begins, under PEFT's names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from npora.lora.methods.lora_config import LoraConfig
from npora.lora.recording import mean_gradients, run_through, seeing_inputs, targets_of
from npora.lora.starts import SETTINGS, Prepared
from npora.lora.starts.corda import Covariance
from npora.nn.linear import Linear
from npora.nn.module import Array, Module


def preprocess_corda(
    model: Module, lora_config: LoraConfig, run_model: Callable[[], Any] | Iterable[Mapping[str, Any]] | None = None
) -> None:
    """Record the covariance of each target's inputs, for the adapter of this config that is put on next.

    model : the base, or a PeftModel that is to have another adapter; its adapters are off meanwhile
    run_model : batches, each a dict of what the model is called with; or a function that runs the model. For the new
        task ("ipm"), or of what is to be kept ("kpm"); PEFT's counsel is 256 texts of 2048 tokens

    Raises
    ------
    ValueError: another start, no batch, a target that is not called, inputs that are not finite.
    TypeError: run_model is neither of the two.
    """
    _check(lora_config, "corda")
    layers = targets_of(model, lora_config)
    seen = {path: Covariance() for path in layers}
    with seeing_inputs(model, layers, lambda path, x: seen[path].see(x, path)):
        run_through(run_model, lambda batch: model(**batch), "preprocess_corda")
    for path in layers:
        if not seen[path].count:
            raise ValueError(f"preprocess_corda: {path} was not called: run the model that was passed")
    _prepare("corda", lora_config, {path: (layer, seen[path].mean) for path, layer in layers.items()})


def preprocess_loraga(
    model: Module, lora_config: LoraConfig, train_step: Callable[[], Any] | Iterable[Mapping[str, Any]] | None = None
) -> None:
    """Record the gradient of each target's weight, for the adapter of this config that is put on next.

    model : the base, or a PeftModel that is to have another adapter; its adapters are off meanwhile. Dropout is up to
        train_step, which may pass `rng`; PEFT's preprocess_loraga switches it on
    train_step : batches, each a dict of what the model is called with, labels among it; or a function that runs the
        model and its backward, once for each batch

    Raises
    ------
    ValueError: another start, no batch or one without labels, a target that no gradient reaches.
    TypeError: train_step is neither of the two.
    """
    _check(lora_config, "lora_ga")
    layers = targets_of(model, lora_config)

    def step(batch: Mapping[str, Any]) -> None:
        output, backward = model(**batch)
        if getattr(output, "loss", None) is None:
            raise ValueError("preprocess_loraga: a batch has no labels, and the model no loss of it")
        backward()

    found = mean_gradients(model, layers, lambda: run_through(train_step, step, "preprocess_loraga"))
    _prepare("lora_ga", lora_config, {path: (layer, found[path]) for path, layer in layers.items()})


def _check(config: LoraConfig, start: str) -> None:
    if getattr(config, "init_lora_weights", None) != start:
        raise ValueError(f"this is for LoraConfig(init_lora_weights={start!r}); got a config of another start")


def _prepare(start: str, config: LoraConfig, data: Mapping[str, tuple[Linear, Array]]) -> None:
    """Lay the data on the layers, from which the adapter that begins with them takes them."""
    settings = getattr(config, SETTINGS[start][0])
    for layer, array in data.values():
        vars(layer)["_prepared"] = Prepared(start, settings, array)
