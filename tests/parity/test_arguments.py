"""Every name that transformers' TrainingArguments and Trainer have is known, with its default there."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from typing import Any

import pytest

from npora import Trainer, TrainingArguments
from tests.tiny import tiny_peft

transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
FIELDS = {field.name: field for field in dataclasses.fields(transformers.Seq2SeqTrainingArguments)}
# What older versions had, and scripts still write.
FORMER = {
    "evaluation_strategy": "no", "logging_dir": None, "overwrite_output_dir": False, "no_cuda": False,
    "use_mps_device": False, "group_by_length": False, "save_safetensors": True, "warmup_ratio": 0.0,
    "half_precision_backend": "auto", "fp16_backend": "auto", "fp16_opt_level": "O1", "jit_mode_eval": False,
    "use_ipex": False, "past_index": -1, "adafactor": False, "sharded_ddp": "", "fsdp_min_num_params": 0,
    "fsdp_transformer_layer_cls_to_wrap": None, "tpu_num_cores": None, "tpu_metrics_debug": False, "torchdynamo": None,
    "ray_scope": "last", "mp_parameters": "", "push_to_hub_model_id": None, "push_to_hub_organization": None,
    "push_to_hub_token": None, "include_inputs_for_metrics": False, "include_tokens_per_second": False,
    "dispatch_batches": None, "split_batches": None, "use_legacy_prediction_loop": False, "xpu_backend": None,
}  # fmt: skip


def default(field: Any) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def test_every_field_is_taken_at_its_default_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "npora"):
        args = TrainingArguments(**{name: default(field) for name, field in FIELDS.items()})
        for name, value in FORMER.items():
            TrainingArguments(**{name: value})
    assert not caplog.records
    for name, field in FIELDS.items():
        if name not in ("output_dir", "eval_steps", "optim", "disable_tqdm", "gradient_checkpointing"):
            if name != "activation_checkpointing":
                assert getattr(args, name) == default(field), name


def test_the_defaults_are_theirs() -> None:
    ours = TrainingArguments()
    for field in dataclasses.fields(TrainingArguments):
        if field.name in FIELDS and field.name not in ("output_dir", "optim", "disable_tqdm", "gradient_checkpointing"):
            expected = default(FIELDS[field.name])
            assert getattr(ours, field.name) == (500 if field.name == "eval_steps" else expected), field.name


@pytest.mark.parametrize("name", FIELDS)
def test_no_other_value_of_a_field_is_passed_over(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is npora's own field, or one in which all values mean the same here, or named in an error or the log."""
    from npora.train.foreign import ARGUMENTS

    own = {field.name for field in dataclasses.fields(TrainingArguments)} | {"activation_checkpointing"}
    if name in own or ARGUMENTS[name].taken is None:
        return
    try:
        TrainingArguments(**{name: "something else"})
    except ValueError as error:
        assert name in str(error)
    else:
        assert name in caplog.text


def test_their_enums_are_taken() -> None:
    from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType
    from transformers.training_args import OptimizerNames

    args = TrainingArguments(
        eval_strategy=IntervalStrategy.EPOCH, save_strategy=SaveStrategy.BEST, optim=OptimizerNames.ADAMW_TORCH,
        lr_scheduler_type=SchedulerType.COSINE, logging_strategy=IntervalStrategy.EPOCH,
    )  # fmt: skip
    assert (args.eval_strategy, args.save_strategy, args.optim) == ("epoch", "best", "adamw_torch")
    assert (args.lr_scheduler_type, args.logging_strategy) == ("cosine", "epoch")


def test_every_keyword_of_their_trainer_is_known() -> None:
    names = set(inspect.signature(transformers.Seq2SeqTrainer.__init__).parameters) - {"self", "model"}
    nothing = {name: (None, None) if name == "optimizers" else None for name in names}
    Trainer(tiny_peft(), tokenizer=None, **nothing)
