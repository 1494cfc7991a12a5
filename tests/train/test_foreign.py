"""Names of transformers' Trainer and TrainingArguments: taken, said to have no effect, or refused."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import pytest

from npora import Trainer, TrainingArguments
from tests.tiny import tiny_bert, tiny_peft, tiny_rows


class Interval(str, enum.Enum):
    EPOCH = "epoch"
    COSINE = "cosine"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("report_to", "wandb"), ("report_to", ["tensorboard"]), ("report_to", "all"), ("fp16", True), ("bf16", True),
        ("tf32", True), ("optim", "adafactor"), ("optim", "paged_adamw_8bit"), ("deepspeed", "ds.json"),
        ("fsdp", "full_shard"), ("push_to_hub", True), ("neftune_noise_alpha", 5),
        ("lr_scheduler_kwargs", {"num_cycles": 2}), ("save_safetensors", False), ("label_names", ["start_positions"]),
        ("include_inputs_for_metrics", True), ("adafactor", True), ("lr_scheduler_type", "greedy"),
    ],
)  # fmt: skip
def test_what_npora_does_not_do_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"TrainingArguments: {name}"):
        TrainingArguments(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logging_dir", "./logs"), ("run_name", "lora"), ("dataloader_num_workers", 4), ("torch_compile", True),
        ("overwrite_output_dir", True), ("group_by_length", True), ("gradient_checkpointing_kwargs", {"a": 0}),
        ("save_only_model", True), ("use_mps_device", True), ("ddp_find_unused_parameters", False),
        ("train_sampling_strategy", "group_by_length"),
    ],
)  # fmt: skip
def test_what_can_change_nothing_is_said_to_have_no_effect(
    name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    TrainingArguments(**{name: value})
    (record,) = caplog.records
    assert "has no effect: " in record.getMessage()
    assert record.getMessage().startswith(f"TrainingArguments: {name if name[0] != 't' or value is True else 'group'}")


def test_an_unknown_name_is_a_type_error_with_the_near_ones() -> None:
    with pytest.raises(TypeError, match=r"TrainingArguments has no 'lerning_rate'; did you mean learning_rate"):
        TrainingArguments(lerning_rate=1e-3)
    with pytest.raises(TypeError, match=r"has no 'reportto'; did you mean report_to"):
        TrainingArguments(reportto="none")
    with pytest.raises(TypeError, match=r"Trainer has no 'evaldataset'; did you mean eval_dataset"):
        Trainer(tiny_peft(), evaldataset=[])


def test_enums_stand_for_their_values() -> None:
    args = TrainingArguments(evaluation_strategy=Interval.EPOCH, lr_scheduler_type=Interval.COSINE)
    assert args.eval_strategy == "epoch" and args.lr_scheduler_type == "cosine" and args.num_warmup_steps(10) == 0


def test_a_script_may_read_the_names_that_it_wrote() -> None:
    args = TrainingArguments("out", do_train=True, report_to=["none"])
    assert args.do_train is True and args.report_to == ["none"] and args.output_dir == "out"
    assert TrainingArguments(output_dir=None).output_dir == "trainer_output"


def test_keywords_of_trainer_that_have_no_meaning_are_refused_by_name(tmp_path: Path) -> None:
    for name, value in (("optimizer_cls_and_kwargs", (object, {})), ("peft_config", object())):
        with pytest.raises(ValueError, match=f"Trainer: {name}="):
            Trainer(tiny_peft(), TrainingArguments(str(tmp_path)), **{name: value})
    Trainer(tiny_peft(), callbacks=None, optimizers=(None, None), compute_loss_func=None)


def test_a_model_or_what_makes_one_is_needed_and_not_both() -> None:
    trainer = Trainer(model_init=tiny_peft, eval_dataset=tiny_rows(3))
    assert trainer.evaluate()["eval_loss"] > 0
    for keywords in ({}, {"model": tiny_peft(), "model_init": tiny_peft}):
        with pytest.raises(ValueError, match="a model, or a model_init"):
            Trainer(**keywords)


def test_a_collator_in_the_third_place_is_told_its_name() -> None:
    with pytest.raises(TypeError, match="third argument is train_dataset: pass a data_collator by name"):
        Trainer(tiny_peft(), TrainingArguments(), lambda examples: examples)


@pytest.mark.parametrize("name", ["compute_loss", "training_step", "create_optimizer", "get_train_dataloader", "log"])
def test_a_method_that_would_never_be_called_is_refused_where_it_is_written(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Own\.{name} would never be called by npora's Trainer: \w+"):
        type("Own", (Trainer,), {name: lambda self: None})


def test_a_method_that_there_is_not_says_what_to_do_in_its_place(tmp_path: Path) -> None:
    trainer = Trainer(tiny_bert(), TrainingArguments(output_dir=str(tmp_path)))
    for name, advice in (("save_metrics", "json.dump"), ("push_to_hub", "hf upload"), ("is_world_process_zero", "one")):
        with pytest.raises(AttributeError, match=f"npora's Trainer has no '{name}': .*{advice}"):
            getattr(trainer, name)
    assert not hasattr(trainer, "what_nobody_has")


def test_a_model_and_arguments_of_another_library_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"takes npora's Module; got a builtins\.str"):
        Trainer("bert")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes npora's TrainingArguments; got a pathlib\."):
        Trainer(tiny_bert(), tmp_path)  # type: ignore[arg-type]


def test_the_names_that_there_are_are_listed_where_none_is_near() -> None:
    with pytest.raises(TypeError, match="TrainingArguments has no 'qqqqqqq'; it has ") as error:
        TrainingArguments(qqqqqqq=1)  # type: ignore[call-arg]
    names = str(error.value).partition("it has ")[2].split(", ")
    assert "output_dir" in names and "self" not in names
