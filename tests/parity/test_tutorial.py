"""The scripts that PEFT's and transformers' tutorials teach: other imports, and `output, _ = model(…)`."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ByteTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    LoraConfig,
    PeftModel,
    TaskType,
    Trainer,
    TrainingArguments,
    get_peft_model,
)
from tests.shared_data import data

datasets = pytest.importorskip("datasets", reason="needs the extra `parity`")
SENTENCES = [("a great and moving film", 1), ("dull and far too long", 0), ("i loved it", 1), ("a complete mess", 0)]


def written(path: Path, ending: str) -> str:
    rows = [{"sentence": text, "label": label} for text, label in 4 * SENTENCES]
    file = path / f"rows.{ending}"
    if ending == "json":
        datasets.Dataset.from_list(rows).to_json(file)
    else:
        with open(file, "w", newline="") as opened:
            writer = csv.DictWriter(opened, ["sentence", "label"], delimiter="\t" if ending == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return str(file)


@pytest.mark.parametrize(("ending", "form"), [("tsv", "numpy"), ("csv", "torch"), ("json", None)])
def test_a_classifier(tmp_path: Path, ending: str, form: str | None, caplog: pytest.LogCaptureFixture) -> None:
    if form == "torch":
        pytest.importorskip("torch", reason="needs the extra `parity`")
    file, model_name = written(tmp_path, ending), data("checkpoints", "minilm-l6")
    # Here the tutorial begins.
    options = {"delimiter": "\t"} if ending == "tsv" else {}
    kind = "json" if ending == "json" else "csv"
    dataset = datasets.load_dataset(kind, data_files={"train": file, "validation": file},
                                    cache_dir=str(tmp_path / "cache"), **options)  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(model_name)

    def tokenize(examples: Any) -> Any:
        return tokenizer(examples["sentence"], truncation=True, padding="max_length", max_length=128)

    encoded = dataset.map(tokenize, batched=True)
    encoded = encoded.remove_columns(["sentence"]).rename_column("label", "labels")
    if form:
        encoded.set_format(form)
    model = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=2)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], lora_dropout=0.1, bias="none",
                        task_type=TaskType.SEQ_CLS)  # fmt: skip
    model = get_peft_model(model, config)

    def compute_metrics(eval_pred: Any) -> dict[str, Any]:
        logits, labels = eval_pred
        predictions = np.argmax(logits, axis=1)
        return {"accuracy": (predictions == labels).astype(np.float32).mean()}

    args = TrainingArguments(
        output_dir=str(tmp_path / "results"), learning_rate=5e-3, per_device_train_batch_size=8,
        per_device_eval_batch_size=8, num_train_epochs=3, weight_decay=0.01, evaluation_strategy="epoch",
        save_strategy="epoch", logging_dir=str(tmp_path / "logs"), logging_steps=10, load_best_model_at_end=True,
        metric_for_best_model="accuracy", report_to="none", fp16=False, optim="adamw_torch", run_name="lora",
        remove_unused_columns=True, push_to_hub=False, seed=42,
    )  # fmt: skip
    trainer = Trainer(model=model, args=args, train_dataset=encoded["train"], eval_dataset=encoded["validation"],
                      tokenizer=tokenizer, compute_metrics=compute_metrics)  # fmt: skip
    model.train()
    trainer.train()
    model.eval()
    assert trainer.evaluate()["eval_accuracy"] == 1.0
    inputs = tokenizer("a moving film , i loved it", return_tensors="np")
    output, _ = model(**inputs)
    assert output.logits.argmax(-1).item() == 1
    model.save_pretrained(tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=2)
    again, _ = PeftModel.from_pretrained(base, tmp_path / "adapter")(**inputs)
    assert again.logits.tobytes() == output.logits.tobytes()
    named = [record.getMessage() for record in caplog.records if "has no effect" in record.getMessage()]
    assert [message.split("=")[0] for message in named] == [
        "TrainingArguments: logging_dir",
        "TrainingArguments: run_name",
    ]


def test_a_classifier_whose_batches_a_collator_pads(tmp_path: Path) -> None:
    """As transformers' course has it: tokenized without padding, a text column beside, DataCollatorWithPadding."""
    model_name = data("checkpoints", "minilm-l6")
    raw = datasets.Dataset.from_list(
        [{"idx": i, "sentence": s, "label": label} for i, (s, label) in enumerate(SENTENCES)]
    )
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    encoded = raw.map(lambda example: tokenizer(example["sentence"], truncation=True), batched=True)

    def predictions(**keywords: Any) -> bytes:
        model = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=2)
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
        args = TrainingArguments(str(tmp_path), num_train_epochs=1, per_device_train_batch_size=2, save_strategy="no")
        trainer = Trainer(model, args, train_dataset=encoded, processing_class=tokenizer, **keywords)
        trainer.train()
        return trainer.predict(encoded).predictions.tobytes()

    assert predictions(data_collator=DataCollatorWithPadding(tokenizer=tokenizer)) == predictions()


def test_a_causal_language_model(tmp_path: Path) -> None:
    model_name = data("checkpoints", "stories260K")
    tokenizer = ByteTokenizer(eos=True)  # the checkpoint has none that npora reads
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    raw = datasets.Dataset.from_list([{"text": text} for text, _ in SENTENCES])
    encoded = raw.map(
        lambda example: tokenizer(example["text"], truncation=True, padding="max_length", max_length=32), batched=True
    )
    model = AutoModelForCausalLM.from_pretrained(model_name)
    config = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type=TaskType.CAUSAL_LM)
    model = get_peft_model(model, config)
    args = TrainingArguments(output_dir=str(tmp_path), num_train_epochs=8, learning_rate=2e-2, save_strategy="no",
                             per_device_train_batch_size=4, warmup_steps=2, group_by_length=False)  # fmt: skip
    trainer = Trainer(
        model=model, args=args, train_dataset=encoded.remove_columns(["text"]), eval_dataset=encoded,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )  # fmt: skip
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.9 * before
    # Padding is nobody's target: the loss is that of the texts alone.
    short = [tokenizer(text, truncation=True, max_length=32) for text, _ in SENTENCES]
    losses = [model(np.array([row["input_ids"]]), labels=np.array([row["input_ids"]]))[0] for row in short]
    mean = sum(output.loss * output.num_items for output in losses) / sum(output.num_items for output in losses)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(mean, rel=1e-5)


def test_training_arguments_say_nothing_of_what_is_as_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "npora"):
        TrainingArguments(
            "out", report_to=[], fp16=False, bf16=False, use_cpu=True, no_cuda=True, dataloader_num_workers=0,
            save_safetensors=True, label_names=["labels"], optim="adamw_torch_fused", dataloader_pin_memory=False,
        )  # fmt: skip
    assert not caplog.records


def test_the_tasks_are_pefts_and_theirs_are_taken() -> None:
    peft = pytest.importorskip("peft", reason="needs the extra `parity`")
    assert {task.name: task.value for task in TaskType} == {task.name: task.value for task in peft.TaskType}
    for task in (*TaskType, *peft.TaskType):
        assert type(LoraConfig(task_type=task).task_type) is str and LoraConfig(task_type=task).task_type == task.value
