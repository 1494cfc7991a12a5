"""Which key of a checkpoint goes to which parameter."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from npora.files.weights import with_names
from npora.machine.stored import same_values
from npora.nn import LayerNorm, RMSNorm, init
from npora.nn.misfit import Misfit
from npora.nn.module import Array, Module, Parameter

logger = logging.getLogger("npora")

_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # of TensorFlow's BERTs


def load_checkpoint(
    model: Module,
    tensors: Mapping[str, Array],
    prefix: str,
    may_lack: tuple[str, ...],
    ignored: tuple[str, ...],
    seed: int,
    ignore_mismatched_sizes: bool = False,
    frozen: bool = False,
) -> dict[str, Array]:
    """Give each parameter of the model its tensor, with or without `prefix` before the body's keys, be the model one
    with a head or the body alone.

    A float32 tensor goes into a float32 model as it is, a read-only memory map. Parameters below one of `may_lack` that
    the checkpoint lacks are newly initialised from `seed`, and with ignore_mismatched_sizes those too that it has in
    another shape: these are returned by name. What is read is `frozen` or not. What was not used is logged. Keys that
    end like one of `ignored` are passed over, and so is a tied parameter's second name where both hold the same.

    Raises
    ------
    ValueError: tensors of the body that are missing; tensors of another shape; weights that are no floating-point
    numbers. They are named.
    """
    found = with_names({key: tensor for key, tensor in tensors.items() if not key.endswith(ignored)}, _RENAMED)
    parameters = dict(model.named_parameters())
    usual = getattr(getattr(model, "body_class", model), "base_model_prefix", prefix)
    found = _at_the_body(found, set(parameters), prefix + ".", usual + ".")
    for name, first in tied_names(model).items():
        _resolve_tie(found, name, first)
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    misfit = Misfit.of(found, shapes)
    refused = misfit._replace(
        missing=[name for name in misfit.missing if not name.startswith(may_lack)],
        unexpected=[],
        misshapen=[] if ignore_mismatched_sizes else misfit.misshapen,
    )
    if problems := refused.said(found, shapes):
        if refused.misshapen:
            problems.append("ignore_mismatched_sizes=True draws what has another shape anew")
        raise ValueError(f"the checkpoint does not fit {type(model).__name__}: " + "; ".join(problems))
    new = [name for name in parameters if name in misfit.missing or name in misfit.misshapen]
    for name, parameter in parameters.items():
        if name not in new:
            tensor, parameter.requires_grad = found[name], not frozen
            parameter.data = tensor if tensor.dtype == parameter.dtype else tensor.astype(parameter.dtype)
    _initialize(model, {name: parameters[name] for name in new}, seed)
    if misfit.unexpected:
        logger.warning("in the checkpoint, and not used by %s: %s", type(model).__name__, ", ".join(misfit.unexpected))
    drawn = {name: parameters[name].data for name in new}
    for value in drawn.values():
        value.flags.writeable = False  # as what is read is: an optimiser copies it before its first write
    return drawn


def room_for(tensors: Mapping[str, Array], new_labels: int = 0) -> init.Unset:
    """Room for a model that these tensors fill, and a head besides that is new: a config that asks for far more is
    refused before it is made. One that asks for somewhat more is refused by load_checkpoint, which says where.

    new_labels : how many classes the caller asks for, whatever the file has
    """
    numbers = sum(tensor.size for tensor in tensors.values())
    head = new_labels * max((length for tensor in tensors.values() for length in tensor.shape), default=0)
    what = f"the {len(tensors)} tensors beside it, which hold {numbers:,} numbers"
    return init.Unset(2 * numbers + head + 1_000_000, 2 * len(tensors) + 100, what)


def is_constant(value: Array) -> bool:
    """Whether all numbers are the same, as those of new biases and norms are: nothing about them was drawn."""
    return not value.size or not bool((value != value.flat[0]).any())


def drawn_modules(model: Module, drawn: Mapping[str, Array]) -> tuple[str, ...]:
    """The paths of the largest modules, below the whole, all of whose parameters are among the drawn, and not all of
    them constant: what their first values are is known then."""
    random = [name for name, value in drawn.items() if not is_constant(value)]
    whole = [
        path
        for path, module in model.named_modules()
        if path and all(f"{path}.{name}" in drawn for name, _ in module.named_parameters())
    ]
    largest = [path for path in whole if not any(path.startswith(other + ".") for other in whole)]
    return tuple(path for path in largest if any(name.startswith(path + ".") for name in random))


def _at_the_body(found: dict[str, Array], names: set[str], prefix: str, usual: str) -> dict[str, Array]:
    """The file's tensors, the body's with the prefix that the model has before them, or without. `usual` is the prefix
    of the family's other tasks, whose files may be what there is: question answering's own is another."""
    if not any(name.startswith(prefix) for name in names):
        return {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    if any(key.startswith(prefix) for key in found):
        return found
    moved = {key: prefix + key.removeprefix(usual) for key in found}
    return {moved[key] if moved[key] in names else key: tensor for key, tensor in found.items()}


def tied_names(model: Module) -> dict[str, str]:
    """The further names of parameters that have several, each with the first: {"lm_head.weight": "…wte.weight"}."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = (
        (f"{path}.{name}" if path else name, value)
        for path, module in model.named_modules()
        for name, value in module.named_members()
        if isinstance(value, Parameter)
    )
    return {name: first[id(value)] for name, value in every if first[id(value)] != name}


def _resolve_tie(found: dict[str, Array], name: str, first: str) -> None:
    """Take a tied parameter from whichever name the file has; refuse two that differ."""
    if name not in found:
        return
    second = found.pop(name)
    if first not in found:
        found[first] = second
    elif not same_values(found[first], second):
        raise ValueError(
            f"the checkpoint holds {name} and {first}, which this model ties, with different values: set "
            "tie_word_embeddings to false in config.json"
        )


def _initialize(model: Module, parameters: Mapping[str, Parameter], seed: int) -> None:
    """Biases 0, the weights of norms where they start, the rest N(0, initializer_range²)."""
    rng = np.random.default_rng(seed)
    std = getattr(getattr(model, "config", None), "initializer_range", 0.02)
    norms = {id(module.weight): module.start for module in model.modules() if isinstance(module, LayerNorm | RMSNorm)}
    for name, parameter in parameters.items():
        if name.endswith(".bias"):
            parameter.data = np.zeros(parameter.shape, dtype=parameter.dtype)
        elif id(parameter) in norms:
            parameter.data = np.full(parameter.shape, norms[id(parameter)], dtype=parameter.dtype)
        else:
            parameter.data = init.normal(rng, parameter.shape, std, parameter.dtype)
