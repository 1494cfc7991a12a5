"""An adapter's tensors against a model: which modules they are for, and whether all of them fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from npora.files import load_file
from npora.lora.config import PeftConfig
from npora.lora.folder import PREFIX, weights_path
from npora.lora.inject import PlainView, make_adapter, make_shared
from npora.lora.match import PEFTS_HEADS, bias_mode, saved_paths, target_paths
from npora.lora.methods import METHODS, methods_of
from npora.lora.names import ends, is_named
from npora.lora.record import canonical, head_size
from npora.lora.tokens import Tokens, make_token_adapters, token_layers
from npora.nn.embedding import Embedding
from npora.nn.init import Unset
from npora.nn.misfit import Misfit, some
from npora.nn.module import Array, Module, Parameter

logger = logging.getLogger("npora")

_ANY_RANK = 4096  # patterns may give modules that this model has not any usual rank


class Plan(NamedTuple):
    """A Plan says which modules an adapter's tensors are for: those with an adapter, those saved whole, and those with
    trained tokens that are no targets."""

    targets: list[str]
    saved: list[str]
    tokens: Mapping[str, Tokens] = {}

    @classmethod
    def of(cls, view: PlainView, config: PeftConfig, targets: list[str], saved: list[str]) -> Plan:
        """Raises ValueError, as token_layers does, and where another adapter of the model is in the way."""
        tokens = token_layers(view, config, targets, saved)
        view.refuse_overlap([*targets, *(path for path in tokens if path not in targets)], saved)
        return cls(targets, saved, tokens)


def read_tensors(directory: str) -> dict[str, Array]:
    """Read every tensor of an adapter, under PEFT's names."""
    path = weights_path(directory)
    return canonical(load_file(path), path)


def refuse_large_ranks(path: str, config: PeftConfig, tensors: Mapping[str, Array]) -> None:
    """Raise ValueError where a config asks for far more than the tensors have, before any of it is made. A rank that
    is merely another is found by check_fit, where it is that of a target."""
    longest = max((length for tensor in tensors.values() for length in tensor.shape), default=0)
    ranks = [getattr(config, "r", 0), getattr(config, "init_r", 0)]
    for r in (*ranks, *(getattr(config, "rank_pattern", None) or {}).values()):
        if isinstance(r, int) and r > max(longest, _ANY_RANK):
            raise ValueError(
                f"adapter_config.json says that the rank is {r:,}, and the longest axis of any tensor in {path} is "
                f"{longest:,}: the two files do not belong together"
            )


def plan(view: PlainView, config: PeftConfig, tensors: Mapping[str, Array]) -> Plan:
    """Find what an adapter is on. Its config may name more than this model has; the tensors say which of it counts."""
    names = [name.removeprefix(PREFIX) for name in tensors]
    file_ends = [f".{tensor.file_name}" for method in methods_of(config) for tensor in method.tensors.values()]
    adapted = dict.fromkeys(name.removesuffix(end) for name in names for end in file_ends if name.endswith(end))
    saved = [
        path for path in saved_paths(view, config, lenient=True)
        if _is_demanded(path, config) or any(name.startswith(path + ".") for name in names)
    ]  # fmt: skip
    saved += [path for path in _brought(view, tensors) if not _is_below(path, saved)]
    if config.target_modules is None:  # PEFT of that day had a default, and npora may have another
        return Plan.of(view, config, [path for path in adapted if path in view.modules_by_path], saved)
    targets = target_paths(view, config, lenient=True)
    fitting = {end for path in view.modules_by_path for end in ends(path)}
    named = config.target_modules if isinstance(config.target_modules, list) else []
    if idle := [name for name in named if name not in fitting]:
        logger.info("target_modules: %s match nothing in this model, and the tensors need none of it", ", ".join(idle))
    return Plan.of(view, config, [path for path in targets if not _is_below(path, saved)], saved)


def _is_demanded(path: str, config: PeftConfig) -> bool:
    """Say whether PEFT would miss this module's tensors."""
    knows_heads = config.task_type is not None and "modules_to_save" not in config.lacks
    heads = PEFTS_HEADS if knows_heads else ()
    return is_named((*(config.modules_to_save or ()), *heads), path)


def _brought(view: PlainView, tensors: Mapping[str, Array]) -> list[str]:
    """Find modules that are in the file under their plain names, whole, though the config does not name them: PEFT puts
    them into the model too. What is shared is left out, since whatever shares it would have another value."""
    names = [name.removeprefix(PREFIX) for name in tensors]
    found: list[str] = []
    for path in dict.fromkeys(name.rpartition(".")[0] for name in names):
        module = view.module(path)
        if module is None or isinstance(module, Embedding) or view.shares(module):
            continue
        own = [f"{PREFIX}{path}.{name}" for name, _ in module.named_parameters()]
        others = [name for name in own if name in tensors and not _is_copy_of_base(name, tensors[name], view)]
        if own and others and all(name in tensors for name in own):
            found.append(path)
    return found


def _is_copy_of_base(name: str, tensor: Array, view: PlainView) -> bool:
    """Say whether a tensor is the base's own. PEFT saves its embeddings where told to, or where one is a target; the
    weight below an adapter it calls base_layer."""
    parameter = view.parameter(name.removeprefix(PREFIX).replace(".base_layer.", "."))
    if parameter is None or parameter.shape != tensor.shape:
        return False
    return np.array_equal(tensor.astype(parameter.dtype), parameter.data)


def _is_copy_of_tied(
    name: str, tensors: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], view: PlainView
) -> bool:
    """Say whether a tensor is one that is expected, once more, for a layer with the same matrix: PEFT saves trained
    tokens of a tied head too."""
    path, _, leaf = name.removeprefix(PREFIX).rpartition(".")
    weight = getattr(view.module(path), "weight", None)
    same = [other for other in expected if other in tensors and other.endswith(f".{leaf}")]
    places = {other: view.module(other.removeprefix(PREFIX).rpartition(".")[0]) for other in same}
    return weight is not None and any(
        getattr(module, "weight", None) is weight and np.array_equal(tensors[other], tensors[name])
        for other, module in places.items()
    )


def shapes_of(
    view: PlainView, config: PeftConfig, planned: Plan, biases: Sequence[str], numbers: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a planned adapter, by its name in the file.

    biases : the plain names of the base's
    numbers : how many the file holds. An adapter that needs far more is refused before it is made
    """
    unset = Unset(2 * numbers + 1_000_000, what=f"the {numbers:,} numbers that the file holds")
    shapes: dict[str, tuple[int, ...]] = {}
    mode, whole = bias_mode(config), [cast(Module, view.module(path)) for path in planned.saved]
    below = {id(parameter) for module in whole for parameter in module.parameters()}
    for name in biases:
        path = name.rpartition(".")[0]
        is_target, parameter = path in planned.targets, cast(Parameter, view.parameter(name))
        if id(parameter) not in below and (is_target or mode == "all") and mode != "none":
            shapes[f"{PREFIX}{path}.base_layer.bias" if is_target else PREFIX + name] = parameter.shape
    shared = make_shared(view, config, planned.targets, unset)
    made = {path: make_adapter(view.linear(path), config, unset, path, shared) for path in planned.targets}
    made |= make_token_adapters(view, planned.tokens, made, unset)
    for path, adapter in made.items():
        shapes |= {name: parameter.shape for name, parameter in adapter.in_file(PREFIX + path, config)}
    for path in planned.saved:
        module: Any = view.module(path)
        shapes |= {f"{PREFIX}{path}.{name}": parameter.shape for name, parameter in module.named_parameters()}
    return shapes


def with_every_name(
    tensors: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], view: PlainView
) -> dict[str, Array]:
    """Return the tensors, where a bias of the base has several names, and the file one of them, under each of these."""
    found = {id(parameter): tensors[name] for name in tensors if (parameter := _bias(name, view)) is not None}
    missing = {name: id(_bias(name, view)) for name in expected if name not in tensors}
    return {**tensors, **{name: found[key] for name, key in missing.items() if key in found}}


def _bias(name: str, view: PlainView) -> Parameter | None:
    """Return the base's bias that a tensor of a file is for."""
    return view.parameter(name.removeprefix(PREFIX).replace(".base_layer.", ".")) if name.endswith(".bias") else None


def check_fit(
    path: str, tensors: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], view: PlainView
) -> dict[str, Array]:
    """Return the tensors that are expected. Raises ValueError, naming those that are missing, of another shape, no
    floating-point numbers, or neither expected nor a copy of the base's own; and where the classes of a head differ,
    that alone."""
    found, wanted = head_size({name: tensors[name].shape for name in expected if name in tensors}), head_size(expected)
    if found is not None and wanted is not None and found != wanted:
        raise ValueError(
            f"the adapter in {path} has {found} classes, and this model has {wanted}: build the model with "
            f"num_labels={found}"
        )
    misfit = Misfit.of(tensors, expected)
    others = [name for name in misfit.unexpected if not _is_copy_of_base(name, tensors[name], view)]
    others = [name for name in others if not _is_copy_of_tied(name, tensors, expected, view)]
    altered = [name for name in others if ".base_layer." in name]
    misfit = misfit._replace(unexpected=[name for name in others if name not in altered])
    problems = some(f"{name} is not this base's" for name in altered)
    problems += misfit.said(tensors, expected, lambda name: _why(name, view))
    of_adapters = tuple(f".{tensor.file_name}" for method in METHODS for tensor in method.tensors.values())
    if any(name.endswith(of_adapters) for name in misfit.missing):
        problems.append("exclude_modules in the config leaves out what is not adapted")
    if problems:
        raise ValueError(f"{path} does not fit this model and adapter_config.json: " + "; ".join(problems))
    if not expected:
        raise ValueError(
            f"{path} holds no tensor that is for this model: its config's target_modules match nothing here"
        )
    return {name: tensors[name] for name in expected}


def _why(name: str, view: PlainView) -> str:
    plain = name.removeprefix(PREFIX)
    if plain.startswith("base_model."):
        return " (an array of the whole model, which save_projection=False in the config says is not in the file)"
    parameter = view.parameter(plain)
    if parameter is not None:
        return f" (the base's own, of shape {parameter.shape}, has other values)"
    return ""


def _is_below(path: str, others: Sequence[str]) -> bool:
    return any(path == other or path.startswith(other + ".") for other in others)
