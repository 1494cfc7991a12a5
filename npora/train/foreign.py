"""Names that transformers' Trainer and TrainingArguments have and npora's do not, and what becomes of each.

A value that asks for what npora does anyway is taken. One that can change nothing here is taken too, and a line of the
log says so. One that asks for what npora does not do is an error that says what to do. No name is passed over.
"""

from __future__ import annotations

import difflib
import enum
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("npora")


@dataclass(frozen=True)
class Foreign:
    """Which values are taken as they are (None: all), and why no other has an effect, or what to do in its place."""

    taken: tuple[Any, ...] | None = None
    why: str = ""
    refused: bool = False


def _names(*groups: tuple[str, Foreign]) -> dict[str, Foreign]:
    return {name: foreign for names, foreign in groups for name in names.split()}


def _no_effect(why: str, *taken: Any) -> Foreign:
    return Foreign((None, *taken), why)


def _refused(advice: str, *taken: Any) -> Foreign:
    return Foreign((None, *taken), advice, refused=True)


_SAME = Foreign()
_ONE_PROCESS = "training runs in one process"
_CPU = "npora computes on the CPU"
_TORCH = "there is no torch here to make faster"
_LOADER = "examples are read as they are needed, by the process that trains"
_PRECISION = "npora trains in float32: leave it out"
_LOG = "npora writes log.jsonl in output_dir, and reports to no service but by a TrainerCallback of yours"
_UPLOAD = "npora uploads nothing: call save_pretrained, and upload the folder with `hf upload`"

ARGUMENTS: Mapping[str, Foreign] = _names(
    # All values mean the same here: one process, on the CPU, the same bits for a seed, no upload, tokens are counted; a
    # resumed run goes on with the state of its callbacks.
    ("average_tokens_across_devices log_on_each_node log_level_replica save_on_each_node eval_use_gather_object "
     "ddp_timeout dataloader_pin_memory dataloader_in_order use_cpu no_cuda full_determinism eval_accumulation_steps "
     "include_num_input_tokens_seen include_tokens_per_second logging_nan_inf_filter length_column_name use_cache "
     "hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision push_to_hub_model_id "
     "push_to_hub_organization push_to_hub_token restore_callback_states_from_checkpoint", _SAME),
    # These are for scripts to read, there too.
    ("do_train do_eval do_predict", _SAME),
    ("resume_from_checkpoint", _no_effect("pass it to train()", False)),
    ("report_to", _refused(f"{_LOG}: use report_to='none', and read that file", "none", [], ["none"])),
    ("logging_dir run_name", _no_effect(_LOG)),
    ("project", _no_effect(_LOG, "huggingface")),
    ("trackio_space_id trackio_bucket_id trackio_static_space_id", _no_effect(_LOG, False)),
    ("log_level", _no_effect("set the level of logging.getLogger('npora')", "passive")),
    ("overwrite_output_dir", _no_effect("nothing in output_dir is deleted; an older log is set aside", False)),
    ("bf16 fp16 bf16_full_eval fp16_full_eval", _refused(_PRECISION, False)),
    ("tf32", _refused("npora computes in whole float32: leave it out", False)),
    ("half_precision_backend fp16_backend", _no_effect(_PRECISION, "auto")),
    ("fp16_opt_level", _no_effect(_PRECISION, "O1")),
    ("torch_compile use_liger_kernel use_ipex jit_mode_eval", _no_effect(_TORCH, False)),
    ("torch_compile_backend torch_compile_mode torchdynamo liger_kernel_config torch_empty_cache_steps",
     _no_effect(_TORCH)),
    ("gradient_checkpointing_kwargs activation_checkpointing_kwargs", _no_effect("there is one way to recompute", {})),
    ("auto_find_batch_size", _no_effect("a batch is cut into pieces of tokens_at_once already", False)),
    ("group_by_length", _no_effect("padding costs nothing here: examples are shuffled whatever their length", False)),
    ("dataloader_num_workers", _no_effect(_LOADER, 0)),
    ("dataloader_persistent_workers", _no_effect(_LOADER, False)),
    ("dataloader_prefetch_factor dataloader_multiprocessing_context", _no_effect(_LOADER)),
    ("local_rank", _no_effect(_ONE_PROCESS, -1, 0)),
    ("ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend",
     _no_effect(_ONE_PROCESS)),
    ("xpu_backend tpu_num_cores ray_scope", _no_effect(_CPU, "last")),
    ("use_mps_device tpu_metrics_debug", _no_effect(_CPU, False)),
    ("accelerator_config dispatch_batches split_batches", _no_effect(_ONE_PROCESS)),
    ("mp_parameters", _no_effect(_ONE_PROCESS, "")),
    ("debug", _no_effect("training stops at the first value that is not finite, and names it", "", [])),
    ("skip_memory_metrics", _no_effect("npora.train.measure.peak_memory() tells the memory", True)),
    ("save_only_model", _no_effect("a checkpoint always holds what it takes to resume", False)),
    ("enable_jit_checkpoint", _no_effect("SIGTERM saves a checkpoint without it", False)),
    ("ignore_data_skip", _no_effect("a resumed run goes on with the examples that are next", False)),
    ("past_index", _no_effect("no model here has such an output", -1)),
    ("use_legacy_prediction_loop", _no_effect("there is one loop", False)),
    ("save_safetensors", _refused("files are safetensors, and nothing is ever pickled: leave it out", True)),
    ("push_to_hub", _refused(_UPLOAD, False)),
    ("deepspeed fsdp_config parallelism_config fsdp_transformer_layer_cls_to_wrap",
     _refused(f"{_ONE_PROCESS}: leave it out")),
    ("fsdp sharded_ddp", _refused(f"{_ONE_PROCESS}: leave it out", "", [], False)),
    ("fsdp_min_num_params", _refused(f"{_ONE_PROCESS}: leave it out", 0)),
    ("adafactor", _refused("AdamW and SGD are the optimisers of training: use optim='adamw_torch'", False)),
    ("optim_target_modules", _refused("adam_beta1, adam_beta2, adam_epsilon and weight_decay set the optimiser")),
    ("generation_config", _refused("pass generation_max_length, generation_num_beams, or keywords to evaluate()")),
    ("sortish_sampler", _no_effect("padding costs nothing here: examples are shuffled whatever their length", False)),
    ("neftune_noise_alpha", _refused("no noise is added to embeddings here: leave it out", 0)),
    ("batch_eval_metrics include_inputs_for_metrics",
     _refused("compute_metrics is called once, with predictions and label_ids: leave it out", False)),
    ("include_for_metrics", _refused("compute_metrics is given predictions and label_ids: leave it out", [])),
    ("eval_do_concat_batches", _refused("compute_metrics is given the examples of all batches as one array", True)),
    ("label_names", _refused("labels are read from the column labels, label or label_ids: rename yours",
                             ["labels"], ["label"], ["label_ids"])),
    ("per_gpu_train_batch_size per_gpu_eval_batch_size",
     _refused("write per_device_train_batch_size, per_device_eval_batch_size")),
    ("evaluate_during_training", _refused("write eval_strategy='steps'", False)),
)  # fmt: skip

KEYWORDS: Mapping[str, Foreign] = _names(
    ("optimizer_cls_and_kwargs", _refused("TrainingArguments' optim makes the optimiser, or optimizers has yours")),
    ("peft_config", _refused("call get_peft_model(model, peft_config), and pass what it returns as model")),
)  # fmt: skip

_CALLED: Mapping[str, str] = dict.fromkeys(
    "training_step prediction_step evaluation_loop get_train_dataloader get_eval_dataloader "
    "get_test_dataloader get_batch_samples log inner_training_loop".split(),
    "the loop is npora's own: listen to it with a TrainerCallback, or write another with "
    "npora.train.accumulate_gradients and npora.optim",
) | dict.fromkeys(
    "create_optimizer create_scheduler create_optimizer_and_scheduler get_decay_parameter_names "
    "get_optimizer_cls_and_kwargs".split(),
    "TrainingArguments' optim, learning_rate and lr_scheduler_type make the optimiser and its schedule, or Trainer's "
    "optimizers has yours",
) | {
    "compute_loss": "pass compute_loss_func, which returns the loss and its backward, or write a Module that does",
}  # fmt: skip
_METHODS: Mapping[str, str] = {
    **_CALLED,
    "log_metrics": "print what train() and evaluate() return",
    "save_metrics": "write what train() and evaluate() return with json.dump; log.jsonl has it too",
    "save_state": "every checkpoint has it, by save_strategy",
    "push_to_hub": _UPLOAD,
    "create_model_card": _UPLOAD,
    "hyperparameter_search": "make a Trainer for each choice",
    "is_world_process_zero": f"{_ONE_PROCESS}: leave it out",
    "is_local_process_zero": f"{_ONE_PROCESS}: leave it out",
    "lr_scheduler": "each train() makes its own, and tells callbacks of it; log.jsonl has each step's learning_rate",
    "optimizer": "each train() makes its own, and tells callbacks of it; npora.optim has those for a loop of your own",
    "model_wrapped": "there is the model alone",
    "accelerator": f"{_ONE_PROCESS}: leave it out",
}


class Methods:
    """Names of transformers' Trainer that npora's has not: to use one is an error that says what to do in its place,
    and so is to override one that is called there, which would be passed over."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name in _CALLED.keys() & vars(cls).keys():
            raise TypeError(f"{cls.__name__}.{name} would never be called by npora's Trainer: {_CALLED[name]}")

    def __getattr__(self, name: str) -> Any:
        advice = f": {_METHODS[name]}" if name in _METHODS else ""
        raise AttributeError(f"npora's Trainer has no {name!r}{advice}")


def accept(owner: str, table: Mapping[str, Foreign], given: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """The foreign ones among the keywords that were given, after saying which of them have no effect.

    own : the names that the owner has itself, for the message about one that nobody has

    Raises
    ------
    TypeError: a name that neither has.  ValueError: a value that asks for what npora does not do.
    """
    values = {name: _plain(value) for name, value in given.items()}
    for name in values:
        if name not in table:
            near = difflib.get_close_matches(name, [*own, *table], 3)
            meant = f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(sorted(own))}"
            raise TypeError(f"{owner} has no {name!r}{meant}")
    for name, value in values.items():
        foreign = table[name]
        if foreign.taken is None or value in foreign.taken:
            continue
        said = f"{owner}: {name}={value!r}"
        if foreign.refused:
            raise ValueError(f"{said} is not supported: {foreign.why}")
        logger.warning("%s has no effect: %s", said, foreign.why)
    return values


def _plain(value: Any) -> Any:
    """An enum's value, and a tuple or set of several as a list: the forms in which the table has them."""
    if isinstance(value, enum.Enum):
        return value.value
    return sorted(value, key=str) if isinstance(value, set | frozenset) else value
