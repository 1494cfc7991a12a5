"""Which adapter finetune trains: a method by its name, and what the options mean to it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from npora.lora import LoraConfig, PeftConfig
from npora.lora.methods import METHODS

_VARIANTS: dict[str, tuple[type[PeftConfig], dict[str, Any]]] = {"dora": (LoraConfig, {"use_dora": True})}
_OF_LORA = {"r": 8, "lora_alpha": 16.0, "lora_dropout": 0.1}  # others begin with their config's own


def names() -> dict[str, tuple[type[PeftConfig], dict[str, Any]]]:
    """Return the methods by name, each as its config's class, and the fields that mean it."""
    kinds = {method.config_class.peft_type.lower(): method.config_class for method in METHODS}
    return {**{name: (kind, {}) for name, kind in kinds.items()}, **_VARIANTS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--method", default="lora", choices=sorted(names()), help="what the adapter is; its config's defaults hold for "
        "whatever the options do not say")  # fmt: skip
    add("--r", type=int, help="rank (default: 8 for lora and dora); adalora's average rank at the end, and half as "
        "much again at the beginning")  # fmt: skip
    add("--lora-alpha", type=float, help="the update is scaled by alpha / r (default: 16 for lora and dora)")
    add("--lora-dropout", type=float, help="dropout on the input of the update (default: 0.1 for lora and dora)")
    add("--init-lora-weights", metavar="START", help="what lora and dora begin with: gaussian, orthogonal, pissa, "
        "pissa_niter_N, olora, or eva, corda or lora_ga, which are made of the first training examples")  # fmt: skip
    add("--start-batches", type=int, metavar="N", help="of how many batches eva, corda and lora_ga are made "
        "(default: 16, or all)")  # fmt: skip
    add("--method-options", nargs="+", metavar="FIELD=VALUE", help="other fields of the method's config, as "
        "decompose_factor=4 of lokr or n_frequency=500 of fourierft")  # fmt: skip


def config_of(
    options: argparse.Namespace, targets: list[str] | str | None, task_type: str | None, whole: Sequence[str] = ()
) -> PeftConfig:
    """Make the config that the options mean; `whole` are modules to save. Raises ValueError where an option means
    nothing to the method."""
    kind, chosen = names()[options.method]
    known = [f.name for f in fields(kind) if f.type != "Unsupported"]
    given: dict[str, Any] = {}
    said = dict(chosen)  # what an option says, and no other may
    for option, default in _OF_LORA.items():
        if (value := getattr(options, option)) is not None:
            said |= _fields(option, value, known, options.method)
        elif kind is LoraConfig:
            given[option] = default
    if options.init_lora_weights is not None:
        if kind is not LoraConfig:
            raise ValueError(f"--init-lora-weights says nothing to --method {options.method}: leave it out")
        said["init_lora_weights"] = options.init_lora_weights
    if "total_step" in known:
        given["total_step"] = sys.maxsize  # until the examples are counted
    shared = {f.name for f in fields(PeftConfig)} | {"total_step"}  # have options of their own, or follow
    named = _named(options.method_options or (), [name for name in known if name not in shared])
    if twice := [name for name in named if name in said]:
        raise ValueError(
            f"--method-options: {twice[0]} is said by --method, --r, --lora-alpha, --lora-dropout or "
            "--init-lora-weights already"
        )
    saved = {"modules_to_save": list(whole)} if whole else {}
    return kind(target_modules=targets, task_type=task_type, **{**saved, **given, **said, **named})


def _named(pairs: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Return the fields that FIELD=VALUE names, the values as JSON has them, or as strings."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, is_one, text = pair.partition("=")
        if not is_one or name not in known:
            raise ValueError(
                f"--method-options: {pair!r} is no FIELD=VALUE of this method; its fields: {', '.join(known)}"
            )
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _fields(option: str, value: Any, known: list[str], method: str) -> dict[str, Any]:
    """Return the fields that an option sets, in a config that has these."""
    if option == "r" and "init_r" in known:
        return {"target_r": value, "init_r": math.ceil(1.5 * value)}
    if option == "r" and "oft_block_size" in known:
        return {"r": value, "oft_block_size": 0}  # of the two one counts
    dropouts = tuple(name for name in known if name.endswith("_dropout"))
    meant = {"r": ("r",), "lora_alpha": ("lora_alpha", "alpha"), "lora_dropout": dropouts}[option]
    for name in known:
        if name in meant:
            return {name: value}
    raise ValueError(f"--{option.replace('_', '-')} says nothing to --method {method}: leave it out")


def set_length(config: PeftConfig, steps: int) -> None:
    """Tell a method that goes by a schedule how many steps the training has. Raises ValueError where these are too few
    for it."""
    if hasattr(config, "total_step"):
        length: dict[str, Any] = {"total_step": steps}
        vars(config).update(vars(replace(config, **length)))
