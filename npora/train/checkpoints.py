"""A checkpoint: everything that the next step depends on, so that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from npora.files import load_file, read_json, save_file, write_json
from npora.nn.misfit import Misfit
from npora.nn.module import Array, Module
from npora.optim import Optimizer
from npora.train.arguments import TrainingArguments
from npora.train.plain import plain, unplain
from npora.train.state import TrainerState, trainable

logger = logging.getLogger("npora")

_STATE, _TENSORS = "trainer_state.json", "trainer_state.safetensors"
_FOLDER = re.compile(r"checkpoint-(\d+)")
# Fields of TrainerState that a checkpoint has where they say something alone, and those that it never has.
_SELDOM = ("steps_left_out", "ending", "stateful_callbacks")
_OF_THE_ARGUMENTS = ("logging_steps", "eval_steps", "save_steps", "train_batch_size", "num_train_epochs")


def shared(args: TrainingArguments, rows: int) -> dict[str, Any]:
    """What a resumed run must share with the one that it goes on from."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay",
             "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "lr_scheduler_type", "warmup_steps",
             "seed", "data_seed", "tokens_at_once", "train_sampling_strategy", "dataloader_drop_last")  # fmt: skip
    given = {name: getattr(args, name) for name in names}
    return {"optim": args.optim.removesuffix("_fused"), "rows": rows, "max_steps": args.steps(rows)[1], **given}


def save_checkpoint(
    output_dir: str, model: Module, optimizer: Optimizer, state: TrainerState, run: Mapping[str, Any]
) -> str:
    """Write output_dir/checkpoint-N whole, or not at all, and return its name.

    It holds the adapter as save_pretrained writes it, and beside it the trained values and the optimiser's state.
    `run` is what shared() says.
    """
    name = f"checkpoint-{state.global_step}"
    temporary = os.path.join(output_dir, f"{name}.tmp-{secrets.token_hex(4)}")
    os.makedirs(temporary)
    try:
        if hasattr(model, "save_pretrained"):
            model.save_pretrained(temporary)
        tensors: dict[str, Array] = {f"model.{key}": p.data for key, p in trainable(model).items()}
        saved = optimizer.state_dict()
        numbers: dict[str, Any] = {}
        for index, values in saved["state"].items():
            for key, value in values.items():
                if isinstance(value, np.ndarray):
                    tensors[f"optimizer.{index}.{key}"] = value
                else:
                    numbers[f"{index}.{key}"] = value
        save_file(tensors, os.path.join(temporary, _TENSORS))
        files = {file: _sha256(os.path.join(temporary, file)) for file in _files_below(temporary)}
        optimiser = {"numbers": numbers, "param_groups": saved["param_groups"]}
        manifest = {"state": _kept(state), "run": dict(run), "optimizer": optimiser, "sha256": files}
        write_json(os.path.join(temporary, _STATE), manifest)  # last: without it the folder is no checkpoint
        target = os.path.join(output_dir, name)
        if os.path.isdir(target):
            shutil.rmtree(target)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return name


def load_checkpoint(path: str, model: Module, optimizer: Optimizer, run: Mapping[str, Any]) -> TrainerState:
    """Put the trained values and the optimiser's state back.

    Raises
    ------
    ValueError: a damaged checkpoint; one of other parameters; one of a run with other data or arguments, each named.
    """
    manifest = _verified(path)
    for key, value in run.items():
        if manifest["run"].get(key) != value:
            raise ValueError(
                f"{path} is of a run with {key}={manifest['run'].get(key)!r}, this one has {value!r}: a resumed run "
                "can equal an uninterrupted one only where they agree"
            )
    tensors = load_file(os.path.join(path, _TENSORS))
    load_trained(path, model)
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor
    for key, number in manifest["optimizer"]["numbers"].items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = number
    optimizer.load_state_dict({"state": state, "param_groups": manifest["optimizer"]["param_groups"]})
    return TrainerState(**unplain(manifest["state"]))


def load_trained(path: str, model: Module) -> None:
    """Put a checkpoint's trained values into the model. Raises ValueError where they are not this model's."""
    tensors = load_file(os.path.join(path, _TENSORS))
    values = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    parameters = trainable(model)
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    if problems := Misfit.of(values, shapes).said(values, shapes):
        raise ValueError(f"{path} does not fit this model's trainable parameters: " + "; ".join(problems))
    for name, parameter in parameters.items():
        parameter.data = np.array(values[name], dtype=parameter.dtype)


def checkpoints(output_dir: str) -> list[str]:
    """The paths of the checkpoints in a folder, oldest first."""
    names = os.listdir(output_dir) if os.path.isdir(output_dir) else []
    found = sorted((int(match[1]), name) for name in names if (match := _FOLDER.fullmatch(name)))
    return [os.path.join(output_dir, name) for _, name in found]


def last_checkpoint(output_dir: str) -> str:
    """The newest whole checkpoint; a damaged one is passed over, and said so. Raises ValueError where there is none."""
    for path in reversed(checkpoints(output_dir)):
        try:
            _verified(path)
            return path
        except (ValueError, OSError) as error:
            logger.warning("passing over %s: %s", path, error)
    raise ValueError(f"there is no checkpoint to resume from in {output_dir}")


def prune(output_dir: str, keep: int, best: str | None) -> None:
    """Remove the oldest checkpoints until `keep` are left, the best one among them."""
    paths = [path for path in checkpoints(output_dir) if os.path.basename(path) != best]
    keep = max(keep - (best is not None), 0 if best else 1)
    for path in paths[: max(len(paths) - keep, 0)]:
        shutil.rmtree(path)


def _kept(state: TrainerState) -> dict[str, Any]:
    """What a checkpoint keeps of it."""
    return {
        name: plain(value)
        for name, value in asdict(state).items()
        if name not in _OF_THE_ARGUMENTS and (value or name not in _SELDOM)
    }


def _verified(path: str) -> dict[str, Any]:
    manifest = read_json(os.path.join(path, _STATE))
    for file, expected in manifest["sha256"].items():
        if _sha256(os.path.join(path, file)) != expected:
            raise ValueError(f"{os.path.join(path, file)} is not the file that was saved: its SHA-256 differs")
    return manifest


def _files_below(folder: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(root, name), folder) for root, _, names in os.walk(folder) for name in names
    )


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
