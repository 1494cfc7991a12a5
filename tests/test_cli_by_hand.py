"""A command is the few calls of Python that its help describes: the same numbers, bit for bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LoraConfig,
    Trainer,
    TrainingArguments,
    get_peft_model,
)
from npora.cli import main
from npora.data import ByteTokenizer, Dataset, encode_text, read_texts, windows
from npora.files import load_file
from npora.models import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

OPTIONS: dict[str, Any] = {
    "r": 3, "lora-alpha": 5, "lora-dropout": 0.2, "batch-size": 3, "eval-batch-size": 4, "epochs": 3, "max-steps": 5,
    "gradient-accumulation-steps": 2, "learning-rate": 0.02, "weight-decay": 0.3, "scheduler": "cosine",
    "warmup-steps": 2, "max-grad-norm": 0.05, "seed": 7, "max-train-rows": 9, "max-length": 11,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A GPT-2 of bytes, and texts of unequal lengths; none of it needs a package."""
    config = GPT2Config(
        vocab_size=257, n_positions=16, n_embd=6, n_layer=1, n_head=2, initializer_range=0.5, eos_token_id=256
    )
    GPT2LMHeadModel(config, rng=1).save_pretrained(tmp_path / "model")
    ByteTokenizer(eos=True).save_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    for name, count in (("train", 14), ("eval", 7)):
        texts = ["".join(rng.choice(list("abcdef "), rng.integers(2, 25))) for _ in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"said": text}) + "\n" for text in texts))
    return tmp_path


def encoded(folder: Path, name: str, tokenizer: Any, most: int | None = None) -> Dataset:
    examples = read_texts(folder / f"{name}.jsonl", "said")
    if most is not None:
        examples = examples.shuffle(seed=42).select(range(most))
    return Dataset(part for example in examples for part in windows(encode_text(tokenizer, example["text"]), 11))


def test_finetune_and_evaluate_are_a_trainer_with_the_options_as_its_arguments(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for name, value in OPTIONS.items() for part in (f"--{name}", str(value))]
    files = ["--model", str(folder / "model"), "--train", str(folder / "train.jsonl"), "--output", str(folder / "out")]
    also = ["--task", "causal-lm", "--text-column", "said", "--eval", str(folder / "eval.jsonl")]
    assert main(["finetune", *files, *also, "--target-modules", "c_attn", "c_fc", *given]) == 0
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    config = LoraConfig(r=3, lora_alpha=5, lora_dropout=0.2, target_modules=["c_attn", "c_fc"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder / "model"), config, seed=7)
    args = TrainingArguments(
        str(folder / "hand"), per_device_train_batch_size=3, per_device_eval_batch_size=4, max_steps=5,
        gradient_accumulation_steps=2, learning_rate=0.02, weight_decay=0.3, lr_scheduler_type="cosine",
        warmup_steps=2, max_grad_norm=0.05, seed=7, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, args, encoded(folder, "train", tokenizer, 9), encoded(folder, "eval", tokenizer))
    result, loss = trainer.train(), trainer.evaluate()["eval_loss"]
    trainer.save_model()
    ours, theirs = (load_file(folder / name / "adapter_model.safetensors") for name in ("out/adapter", "hand"))
    assert ours.keys() == theirs.keys() and len(ours) == 4
    for name, array in theirs.items():
        assert ours[name].tobytes() == array.tobytes(), name
    saved = json.loads((folder / "out" / "adapter" / "adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"], saved["lora_dropout"]) == (3, 5, 0.2)
    expected = {"perplexity": math.exp(loss), "evaluation loss": loss, "training loss": result.training_loss}
    for name, value in expected.items():
        assert float(printed[name]) == pytest.approx(value, abs=1e-4), name

    taken = ["--model", str(folder / "model"), "--adapter", str(folder / "out"), str(folder / "eval.jsonl")]
    assert main(["evaluate", *taken]) == 0  # the column and the length are those of the training
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    assert float(printed["loss"]) == pytest.approx(loss, abs=1e-4)
    assert main(["evaluate", *taken, "--max-length", "16"]) == 0  # what is asked for wins
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    assert abs(float(printed["loss"]) - loss) > 1e-3


def figures_by_hand(problem: str, z: Any, labels: Any) -> dict[str, float]:
    if problem == "regression":
        found, true = z[:, 0] - z[:, 0].mean(), labels - labels.mean()
        pearson = (found * true).sum() / math.sqrt((found**2).sum() * (true**2).sum())
        return {"pearson": pearson, "rmse": math.sqrt(((z[:, 0] - labels) ** 2).mean())}
    if problem == "single_label_classification":
        return {"accuracy": np.mean([example.argmax() == label for example, label in zip(z, labels, strict=True)])}
    given, true = 1 / (1 + np.exp(-z)) > 0.5, labels == 1
    precision, recall = (given & true).sum() / given.sum(), (given & true).sum() / true.sum()
    whole = np.mean([(a == b).all() for a, b in zip(given, true, strict=True)])
    return {"accuracy": whole, "f1": 2 * precision * recall / (precision + recall)}


@pytest.mark.parametrize(
    ("problem", "classes"),
    [("regression", 1), ("single_label_classification", 4), ("multi_label_classification", 3)],
)
def test_what_evaluate_measures_is_what_the_logits_of_each_text_alone_say(
    problem: str, classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = GPT2Config(
        vocab_size=257, n_positions=16, n_embd=6, n_layer=1, n_head=2, initializer_range=0.5, num_labels=classes,
        problem_type=problem, pad_token_id=256,
    )  # fmt: skip
    model = GPT2ForSequenceClassification(config, rng=3)
    model.save_pretrained(tmp_path / "model")
    ByteTokenizer(eos=True).save_pretrained(tmp_path / "model")
    rng = np.random.default_rng(4)
    texts = ["".join(rng.choice(list("abcdef "), rng.integers(2, 15))) for _ in range(17)]
    z = np.concatenate([model(np.array([list(text.encode())]))[0].logits for text in texts]).astype(np.float64)
    labels = {
        "regression": 2 * z[:, 0] + 3 + z.std() * rng.standard_normal(17),
        "single_label_classification": np.where(rng.random(17) < 0.6, z.argmax(axis=1), rng.integers(0, classes, 17)),
        "multi_label_classification": np.where(rng.random(z.shape) < 0.8, z > 0, rng.random(z.shape) < 0.5).astype(int),
    }[problem]
    path = tmp_path / "examples.jsonl"
    examples = [{"sentence": text, "label": label} for text, label in zip(texts, labels.tolist(), strict=True)]
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    expected = figures_by_hand(problem, z, labels)
    assert all(0.05 < value < 0.99 for name, value in expected.items() if name != "rmse")  # nothing is at an edge
    assert main(["evaluate", "--model", str(tmp_path / "model"), "--batch-size", "5", str(path)]) == 0
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    for name, value in expected.items():
        assert float(printed[name]) == pytest.approx(value, abs=1e-4), name


def test_a_new_head_begins_where_the_seed_says(folder: Path) -> None:
    path = folder / "examples.tsv"
    path.write_text("sentence\tlabel\n" + "".join(f"{'abc'[i]} film\t{'zyx'[i]}\n" for i in (0, 1, 2)))
    heads = []
    for seed in (7, 8):
        given = ["--model", str(folder / "model"), "--train", str(path), "--output", str(folder / f"{seed}")]
        assert main(["finetune", *given, "--learning-rate", "0", "--max-steps", "1", "--seed", str(seed)]) == 0
        model = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=3, seed=seed)
        heads.append(model.state_dict()["score.weight"])
        saved = load_file(folder / f"{seed}" / "adapter" / "adapter_model.safetensors")
        assert saved["base_model.model.score.weight"].tobytes() == heads[-1].tobytes()
    assert heads[0].tobytes() != heads[1].tobytes()
