"""Which run this is: what decides its numbers, so that a resumed run is the run that it goes on with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from npora.data.fingerprint import fingerprint
from npora.lora import PeftModel
from npora.lora.files import digest
from npora.nn.module import Module
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
# What a run that has come to its checkpoint would have been the same without: it never had to stop.
_IDLE_SO_FAR = (("on_nonfinite", "stop"),)
_REMEDIES = {  # of what an option does not say by its name
    "total_step": "AdaLoRA cuts ranks on a schedule of all its steps: ask for as many epochs or steps as before, or "
    "begin a new run",
}
# Of data: what a difference is called.
_DIGESTS = {
    "sha256": "on other training data: there are as many examples, and they are not the same",
    "made": "on other training data: what is made of the same examples is not the same",
    "holds": "on other training data: what its examples are made from is not the same (where that changes as it is "
    "used, a method fingerprint() that returns a dict tells what does not)",
}


def identity(
    model: Module,
    args: TrainingArguments,
    data: Sequence[Example],
    own: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """What a resumed run must share with the one that it goes on from, in a form that JSON can hold.

    own : what is the user's own, by name, as it can be told: some of it in the place of arguments
    """
    optim = "sgd" if args.optim == "sgd" else "adamw_torch"  # under whichever of its names
    names = (*_ARGUMENTS, *(_OF_PLATEAUS if args.lr_scheduler_type == PLATEAU else ()))
    given = {"optim": optim, **{name: getattr(args, name) for name in names}, **own}
    given["data_seed"] = None if args.data_seed == args.seed else args.data_seed
    adapter = model.active_peft_config.to_dict() if isinstance(model, PeftModel) else {}
    config: Any = getattr(base_of(model), "config", None)
    fields = config.to_dict() if hasattr(config, "to_dict") else {}
    form: Any = getattr(base_of(model), "form", None)  # of sentence embeddings
    if form is not None:
        fields |= {"pooling": form.pooling, "normalize": form.normalize}
    dtypes = sorted({str(parameter.dtype) for parameter in trainable(model).values()})
    found: dict[str, Any] = plain({
        "arguments": given, "adapter": _without_idle(adapter),
        "model": {**_without_idle(fields), "trained in": ", ".join(dtypes)},
        "data": {"examples": len(data), **_fingerprint(data)}, "base_sha256": base_sha256(model),
    })  # fmt: skip
    return found


def refuse_another(path: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise ValueError where two identities differ, with the names of all that does."""
    wrong = []
    for part in ("arguments", "adapter", "model"):
        for key in sorted(theirs[part].keys() | mine[part].keys()):
            one, other = theirs[part].get(key), mine[part].get(key)
            if one != other and (key, one) not in _IDLE_SO_FAR:
                remedy = f" ({_REMEDIES[key]})" if key in _REMEDIES else ""
                wrong.append(f"with {key}={one!r}, this one has {other!r}{remedy}")
    wrong += _other_data(theirs["data"], mine["data"])
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


def _other_data(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    if theirs.get("examples") != mine["examples"]:
        yield f"with examples={theirs.get('examples')!r}, this one has {mine['examples']!r}"
        return
    for key in sorted(theirs.keys() | mine.keys()):
        one, other = theirs.get(key), mine.get(key)
        drawn = key in _DIGESTS and key in theirs and key in mine and None in (one, other)  # others each time
        if drawn or (one == other and (key in theirs) == (key in mine)):
            continue
        yield _DIGESTS.get(key) or f"with {key}={one!r}, this one has {other!r}"


def _fingerprint(data: Sequence[Example]) -> dict[str, Any]:
    """That of the data. Says where it is not of all of them."""
    found = fingerprint(data)
    if not all(found.get(name, "") is not None for name in _DIGESTS):
        logger.warning("the examples of train_dataset are others each time: a resumed run cannot be told from another")
    elif "looked at" in found:
        more = ", and what it holds in memory" * ("holds" in found)
        logger.warning(
            "train_dataset is a %s of %d examples: %d of them, spread over all%s, tell it from others when a run is "
            "resumed. A list, a Dataset, or a method fingerprint() that returns a dict tells all",
            type(data).__qualname__, len(data), found["looked at"], more,
        )  # fmt: skip
    return found
