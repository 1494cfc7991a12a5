"""Which run this is: what decides its numbers, so that a resumed run is the run that it goes on with."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from npora.lora import PeftModel
from npora.lora.files import digest
from npora.nn.module import Module
from npora.optim import Optimizer
from npora.train.arguments import PLATEAU, TrainingArguments
from npora.train.batches import Example, base_of
from npora.train.plain import plain
from npora.train.state import trainable

logger = logging.getLogger("npora")

# What else an argument says (epochs, when to log, to evaluate, to save, the batch of evaluation, whether layers
# recompute) may be another in a resumed run.
_ARGUMENTS = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay", "adam_beta1",
    "adam_beta2", "adam_epsilon", "max_grad_norm", "on_nonfinite", "lr_scheduler_type", "warmup_steps", "seed",
    "data_seed", "tokens_at_once", "train_sampling_strategy", "dataloader_drop_last", "optim_args",
    "lr_scheduler_kwargs", "label_smoothing_factor", "class_weights",
)  # fmt: skip
# Where evaluations decide the rates, so does what is evaluated, and when.
_OF_PLATEAUS = ("eval_strategy", "eval_steps", "eval_delay", "metric_for_best_model", "greater_is_better")
# Of an adapter's and a model's config: what changes no number.
_IDLE = {"inference_mode", "base_model_name_or_path", "revision", "auto_mapping", "peft_version", "id2label",
         "label2id", "architectures", "_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache",
         "gradient_checkpointing"}  # fmt: skip
_ROWS = 256  # that are looked at


def identity(
    model: Module,
    args: TrainingArguments,
    data: Sequence[Example],
    optimizer: Optimizer | None = None,
    rates: Sequence[float] = (),
) -> dict[str, Any]:
    """What a resumed run must share with the one that it goes on from, in a form that JSON can hold.

    optimizer, rates : where it is the user's, and the rates that its groups came with
    """
    optim: Any = "sgd" if args.optim == "sgd" else "adamw_torch"  # under whichever of its names
    if optimizer is not None:
        groups = zip(optimizer.param_groups, rates, strict=True)
        optim = [type(optimizer).__name__, *({**g, "params": len(g["params"]), "lr": rate} for g, rate in groups)]
    names = (*_ARGUMENTS, *(_OF_PLATEAUS if args.lr_scheduler_type == PLATEAU else ()))
    given = {"optim": optim, **{name: getattr(args, name) for name in names}}
    adapter = model.active_peft_config.to_dict() if isinstance(model, PeftModel) else {}
    config: Any = getattr(base_of(model), "config", None)
    fields = config.to_dict() if hasattr(config, "to_dict") else {}
    dtypes = sorted({str(parameter.dtype) for parameter in trainable(model).values()})
    found: dict[str, Any] = plain({
        "arguments": given, "adapter": _without_idle(adapter),
        "model": {**_without_idle(fields), "trained in": ", ".join(dtypes)},
        "data": {"examples": len(data), "sha256": _digest(data)}, "base_sha256": base_sha256(model),
    })  # fmt: skip
    return found


def refuse_another(path: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise ValueError where two identities differ, with the names of all that does."""
    wrong = []
    for part in ("arguments", "adapter", "model"):
        for key in sorted(theirs[part].keys() | mine[part].keys()):
            one, other = theirs[part].get(key), mine[part].get(key)
            if one != other:
                wrong.append(f"with {key}={one!r}, this one has {other!r}")
    one, other = theirs["data"], mine["data"]
    if one["examples"] != other["examples"]:
        wrong.append(f"with examples={one['examples']!r}, this one has {other['examples']!r}")
    elif one["sha256"] != other["sha256"] and None not in (one["sha256"], other["sha256"]):
        wrong.append("on other training data: there are as many examples, and they are not the same")
    if theirs["base_sha256"] != mine["base_sha256"]:
        wrong.append(
            f"on another base model: the SHA-256 of its weights was {theirs['base_sha256']}, this base's is "
            f"{mine['base_sha256']}"
        )
    if wrong:
        raise ValueError(
            f"{path} is of a run {'; '.join(wrong)}: a resumed run can equal an uninterrupted one only where they agree"
        )


def base_sha256(model: Module) -> str:
    """The SHA-256 of what is not trained: of a base as an adapter's file records it."""
    if isinstance(model, PeftModel):
        return model.base_sha256()
    return digest({name: p.data for name, p in model.named_parameters() if not p.requires_grad})


def _without_idle(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _IDLE}


def _digest(data: Sequence[Example]) -> str | None:
    """The SHA-256 of some examples, spread over all; None where an example is not the same when it is asked for
    again."""
    number, sha = min(len(data), _ROWS), hashlib.sha256()
    for i in range(number):
        text = _text(data[i * len(data) // number])
        if i == 0 and text != _text(data[0]):
            logger.warning(
                "the examples of train_dataset are others each time: a resumed run cannot be told from another"
            )
            return None
        sha.update(text)
    return sha.hexdigest()


def _text(example: Any) -> bytes:
    """An example in bytes; a collator may take examples of any kind."""
    value = dict(example) if isinstance(example, Mapping) else example
    try:
        return json.dumps(value, sort_keys=True, default=_said).encode() + b"\n"
    except (TypeError, ValueError):  # keys that cannot be sorted, or a thing that holds itself
        return type(example).__qualname__.encode() + b"\n"


def _said(value: Any) -> Any:
    """Of what JSON lacks: an array's numbers; of a thing without numbers its type, since its name may be an address."""
    if isinstance(value, bytes):
        return value.hex()
    return value.tolist() if hasattr(value, "tolist") else type(value).__qualname__
