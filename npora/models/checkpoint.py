"""Which key of a checkpoint goes to which parameter."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from npora.nn import init
from npora.nn.module import Array, Module, Parameter

logger = logging.getLogger("npora")

_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # of TensorFlow's BERTs
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # not parameters; some files hold them


def load_checkpoint(
    model: Module, tensors: Mapping[str, Array], prefix: str, heads: tuple[str, ...], seed: int
) -> None:
    """Give each parameter of the model its tensor, with or without `prefix` before the body's keys.

    A float32 tensor goes into a float32 model as it is, a read-only memory map. Parameters below one of `heads` that
    the checkpoint lacks are newly initialised from `seed`; what is missing and what was not used is logged.

    Raises
    ------
    ValueError: tensors of the body that are missing, or tensors of another shape; each is named.
    """
    found = {_canonical(key): tensor for key, tensor in tensors.items() if not key.endswith(_BUFFERS)}
    parameters = dict(model.named_parameters())
    if prefix and not any(key.startswith(prefix + ".") for key in found):
        body = {name.removeprefix(prefix + ".") for name in parameters if name.startswith(prefix + ".")}
        found = {f"{prefix}.{key}" if key in body else key: tensor for key, tensor in found.items()}
    missing = [name for name in parameters if name not in found]
    unexpected = [key for key in found if key not in parameters]
    absent = [name for name in missing if not name.startswith(heads)]
    misshapen = [
        f"{name} has shape {found[name].shape}, expected {parameter.shape}"
        for name, parameter in parameters.items()
        if name in found and found[name].shape != parameter.shape
    ]
    if absent or misshapen:
        problems = [f"missing: {name}" for name in absent] + misshapen
        raise ValueError(f"the checkpoint does not fit {type(model).__name__}: " + "; ".join(problems))
    for name, parameter in parameters.items():
        if name in found:
            tensor = found[name]
            parameter.data = tensor if tensor.dtype == parameter.dtype else tensor.astype(parameter.dtype)
    if missing:
        _initialize({name: parameters[name] for name in missing}, seed, getattr(model, "config", None))
        logger.warning("newly initialised, since the checkpoint has none: %s", ", ".join(missing))
    if unexpected:
        logger.warning("in the checkpoint, and not used by %s: %s", type(model).__name__, ", ".join(unexpected))


def _initialize(parameters: Mapping[str, Parameter], seed: int, config: object) -> None:
    rng = np.random.default_rng(seed)
    for name, parameter in parameters.items():
        if name.endswith(".bias"):
            parameter.data = np.zeros(parameter.shape, dtype=parameter.dtype)
        else:
            std = getattr(config, "initializer_range", 0.02)
            parameter.data = init.normal(rng, parameter.shape, std, parameter.dtype)


def _canonical(key: str) -> str:
    for old, new in _RENAMED.items():
        if key.endswith(old):
            return key.removesuffix(old) + new
    return key
