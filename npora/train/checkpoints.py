"""A checkpoint: everything that the next step depends on, so that a resumed run equals an uninterrupted one.

It is a folder that is whole or is not there: the adapter as save_pretrained writes it, the trained values and the
optimiser's state, and a manifest that has the digests of these and of itself. What grows with a run, its logs, is
beside it, and the manifest says how far they were.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from npora.files import load_file, save_file
from npora.files.atomic import flushed_once, sync_directory
from npora.files.refusal import naming, shortened
from npora.lora.folder import WEIGHTS_NAME, own_record
from npora.lora.whole import load_states, states
from npora.nn.misfit import Misfit
from npora.nn.module import Array, Module
from npora.optim import SGD, Adam, AdamW, Optimizer
from npora.train.callbacks import TrainerControl
from npora.train.finite import NotFinite, not_finite
from npora.train.identity import base_sha256, refuse_another
from npora.train.manifest import read_manifest, verified, write_manifest
from npora.train.plain import plain, unplain
from npora.train.state import Step, TrainerState, trainable

logger = logging.getLogger("npora")

_TENSORS = "trainer_state.safetensors"
_NAME = re.compile(r"checkpoint-\d{1,18}")
# Fields of TrainerState that a checkpoint has where they say something alone, and those that it never has.
_SELDOM = ("steps_left_out", "ending", "unanswered", "stateful_callbacks")
_ELSEWHERE = (
    "logging_steps", "eval_steps", "save_steps", "train_batch_size", "num_train_epochs",  # follow from the arguments
    "log_history",  # grows
)  # fmt: skip


def save_checkpoint(
    output_dir: str, model: Module, optimizer: Optimizer, state: TrainerState, run: Mapping[str, Any]
) -> str:
    """Write output_dir/checkpoint-N whole and read it back, or write nothing; returns its name.

    run : whose checkpoint it is: the run's `id`, and what identity() says. A checkpoint of this number that is another
        run's is set aside

    Raises
    ------
    NotFinite: a value is nan or inf.  ValueError: the base is not what it was when the run began.
    OSError: it cannot be written, or is read back as another.
    """
    name = f"checkpoint-{state.global_step}"
    tensors, numbers = _values(model, optimizer)
    if bad := not_finite(tensors):
        raise NotFinite(
            f"step {state.global_step}: {bad[0]} is not finite, and was not saved: lower the learning rate, or clip "
            "the gradient (max_grad_norm)", state.global_step, math.nan,
        )  # fmt: skip
    temporary = os.path.join(output_dir, f"{name}.tmp-{secrets.token_hex(4)}")
    os.makedirs(temporary)
    try:
        with flushed_once(temporary):
            if hasattr(model, "save_pretrained"):
                model.save_pretrained(temporary)
            refuse_changed_base(_recorded_base(temporary, model) or base_sha256(model), run)
            save_file(tensors, os.path.join(temporary, _TENSORS))
            optimiser = {"numbers": numbers, "param_groups": optimizer.state_dict()["param_groups"]}
            content = plain({"state": _kept(state), "run": run, "optimizer": optimiser})
            write_manifest(temporary, content)  # last: without it the folder is no checkpoint
        _read_back(temporary, tensors, content)
        _put(temporary, os.path.join(output_dir, name), run)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return name


def load_checkpoint(path: str, model: Module, optimizer: Optimizer, run: Mapping[str, Any]) -> TrainerState:
    """Put the trained values and the optimiser's state back.

    run : what identity() says of the run that is to go on

    Raises
    ------
    ValueError: a damaged checkpoint; one of other parameters; one of a run with another base, adapter, data or
    arguments, each named.  NotFinite: a value in it is nan or inf.
    """
    manifest = verified(path)
    refuse_another(path, manifest["run"], run)
    tensors = load_file(os.path.join(path, _TENSORS))
    load_trained(path, model)
    values = {key.removeprefix("optimizer."): v for key, v in tensors.items() if key.startswith("optimizer.")}
    groups, state = manifest["optimizer"]["param_groups"], dict[int, dict[str, Any]]()
    with naming(path):
        for key, value in {**values, **manifest["optimizer"]["numbers"]}.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = value
        _check_options(groups, state, optimizer)
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return _state(unplain(manifest["state"]))


def _check_options(groups: list[dict[str, Any]], state: Mapping[int, Mapping[str, Any]], optimizer: Optimizer) -> None:
    """Raise ValueError for options that are not of the kinds that the optimiser's are, and for a parameter's state
    without what an update of the first trained one makes."""
    own = optimizer.state_dict()["param_groups"]
    for group, mine in zip(groups, plain(own), strict=False):
        for name, value in group.items():
            if name not in mine or not _is_like(value, mine[name]):
                raise ValueError(f"an optimiser's {name} cannot be {shortened(value)}, where it is {mine.get(name)!r}")
    for kind in (SGD, Adam, AdamW):  # others may keep what differs from one parameter to the next
        if type(optimizer) is kind:
            # What it would not be made with it refuses.
            kind([{**mine, **group} for mine, group in zip(optimizer.param_groups, groups, strict=False)])
            _check_kept(state, optimizer)


def _check_kept(state: Mapping[int, Mapping[str, Any]], optimizer: Optimizer) -> None:
    group = optimizer.param_groups[0]
    parameter, made = group["params"][0], dict[str, Any]()
    optimizer.update(parameter.data.copy(), np.zeros_like(parameter.data), made, group)
    for number, values in state.items():
        if values.keys() != made.keys():
            raise ValueError(f"the state of parameter number {number} has {', '.join(values)}, not {', '.join(made)}")
        for name, value in values.items():
            kinds = [getattr(one, "dtype", type(one)) for one in (value, made[name])]
            if kinds[0] != kinds[1]:
                raise ValueError(f"{name} of parameter number {number} is of the kind {kinds[0]}, expected {kinds[1]}")
            if isinstance(value, int) and not (value >= 0 and _is_finite(value)):
                raise ValueError(f"{name} of parameter number {number} cannot be {shortened(value)}")


def _is_like(value: Any, other: Any) -> bool:
    if isinstance(other, list):
        return isinstance(value, list) and len(value) == len(other) and all(map(_is_like, value, other))
    if isinstance(other, bool) or not isinstance(other, int | float):
        return type(value) is type(other)
    return _is_finite(value)


def _is_finite(value: Any) -> bool:
    """Whether it is a finite number, and no whole one that is more than any float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _state(values: Mapping[str, Any]) -> TrainerState:
    """Raises ValueError where it is none."""
    known, start = {field.name for field in fields(TrainerState)} - set(_ELSEWHERE), TrainerState()
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"a training's state has no {shortened(name)}")
        mine = getattr(start, name)
        seldom = value is None or isinstance(value, int | float | str | dict)
        fits = _is_like(value, mine) and (type(mine) is not int or (type(value) is int and value >= 0))
        if not (seldom if mine is None else fits):
            raise ValueError(f"{name} of a training's state cannot be {shortened(value)}")
    state = TrainerState(**values)
    if state.best_model_checkpoint is not None and not _NAME.fullmatch(str(state.best_model_checkpoint)):
        raise ValueError(f"best_model_checkpoint cannot be {shortened(state.best_model_checkpoint)}")
    if state.best_metric is not None and not _is_like(state.best_metric, 1.0):
        raise ValueError(f"best_metric cannot be {shortened(state.best_metric)}")
    if state.ending is not None:
        ending = state.ending
        if not (isinstance(ending, dict) and ending.keys() == set(Step._fields)
                and all(isinstance(value, float) or _is_finite(value) for value in ending.values())):  # fmt: skip
            raise ValueError(f"ending cannot be {shortened(ending)}")
    if state.unanswered is not None and not (state.ending is not None and _is_left(state.unanswered)):
        raise ValueError(f"unanswered cannot be {shortened(state.unanswered)}")
    return state


def _is_left(left: Any) -> bool:
    """Whether this is what a checkpoint says of an evaluation that was broken off."""
    if not isinstance(left, dict) or left.keys() != {"asked", "epoch_is_over", "metrics"}:
        return False
    asked, metrics = left["asked"], left["metrics"]
    flags = isinstance(asked, dict) and asked.keys() == asdict(TrainerControl()).keys()
    of_datasets = isinstance(metrics, dict) and all(isinstance(found, dict) for found in metrics.values())
    return flags and of_datasets and all(type(flag) is bool for flag in (*asked.values(), left["epoch_is_over"]))


def load_trained(path: str, model: Module) -> None:
    """Put a checkpoint's trained values into the model. Raises ValueError where it is damaged, or not this model's."""
    verified(path)
    tensors = load_file(os.path.join(path, _TENSORS))
    values = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    parameters = trainable(model)
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    if problems := Misfit.of(values, shapes).said(values, shapes):
        raise ValueError(f"{path} does not fit this model's trainable parameters: " + "; ".join(problems))
    for name, parameter in parameters.items():
        parameter.data = np.array(values[name], dtype=parameter.dtype)
    of_adapter = {key: np.array(value) for key, value in tensors.items() if key.startswith("adapter.")}
    load_states(model, {key.removeprefix("adapter."): value for key, value in of_adapter.items()})


def refuse_changed_base(found: str, run: Mapping[str, Any]) -> None:
    """Raise ValueError where the base, which nothing trains, is not what it was when the run began."""
    if found != run["base_sha256"]:
        raise ValueError(
            "the weights of the base model are not those that the training began with: was its file written over, "
            "which is read as it is needed? Nothing was saved since; put the file back, and go on from the last "
            "checkpoint"
        )


def _values(model: Module, optimizer: Optimizer) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a checkpoint by name, and the optimiser's numbers."""
    tensors: dict[str, Array] = {f"model.{key}": p.data for key, p in trainable(model).items()}
    tensors |= {f"adapter.{key}": array for key, array in states(model).items()}
    numbers: dict[str, Any] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, np.ndarray):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                numbers[f"{index}.{key}"] = value
    return tensors, numbers


def _kept(state: TrainerState) -> dict[str, Any]:
    """What a manifest has of it."""
    values = {field.name: getattr(state, field.name) for field in fields(state) if field.name not in _ELSEWHERE}
    return {name: value for name, value in values.items() if value or name not in _SELDOM}


def _recorded_base(folder: str, model: Any) -> str | None:
    """The digest that the active adapter's file in a folder has of its base, computed when it was saved."""
    name = getattr(model, "active_adapter", "default")
    path = os.path.join(folder, "" if name == "default" else name, WEIGHTS_NAME)
    return own_record(path).get("base_sha256") if os.path.isfile(path) else None


def _read_back(folder: str, tensors: Mapping[str, Array], content: Mapping[str, Any]) -> None:
    """Raise OSError where a folder does not hold what was written to it."""
    manifest, found = verified(folder), load_file(os.path.join(folder, _TENSORS))
    same = found.keys() == tensors.keys() and all(found[n].tobytes() == a.tobytes() for n, a in tensors.items())
    if not same or any(manifest[key] != value for key, value in content.items()):
        raise OSError(f"{folder} was written, and is read back as something else: is the disk broken?")


def _put(temporary: str, target: str, run: Mapping[str, Any]) -> None:
    """Give a folder its name. One that has the name already makes way: removed where it is the same run's."""
    away = ""
    if os.path.isdir(target):
        if _is_of(target, run["id"]):
            away = f"{temporary}-old"
        else:
            away = next(name for i in itertools.count(1) if not os.path.exists(name := f"{target}.left-{i}"))
            logger.warning("%s is damaged, or of another run: it is set aside as %s", target, away)
        os.replace(target, away)
    os.replace(temporary, target)
    sync_directory(os.path.dirname(os.path.abspath(target)))
    if away.startswith(temporary):
        shutil.rmtree(away)


def _is_of(path: str, run_id: str) -> bool:
    try:
        return bool(read_manifest(path)["run"]["id"] == run_id)
    except (OSError, ValueError):
        return False
