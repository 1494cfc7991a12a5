"""npora finetune --task causal-lm, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from npora import AutoModelForCausalLM, AutoTokenizer, PeftModel
from npora.cli import main
from npora.models import GPT2Config, GPT2LMHeadModel

WORDS = ["</s>", "<unk>", "red", "green", "apple", "leaf", "is", "a"]
COLOURS = {"apple": "red", "leaf": "green"}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A tiny GPT-2 on disk."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=8, n_embd=16, n_layer=1, n_head=2, initializer_range=0.4,
        bos_token_id=None, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    GPT2LMHeadModel(config, rng=0).save_pretrained(tmp_path / "model")
    backend.save(str(tmp_path / "model" / "tokenizer.json"))
    return str(tmp_path / "model")


def finetune(model: str, examples: Path, output: Path, *more: str) -> int:
    return main(
        ["finetune", "--task", "causal-lm", "--model", model, "--train", str(examples), "--eval", str(examples),
        "--output",
         str(output), "--text-column", "answer", "--learning-rate", "5e-2", "--lora-dropout", "0", "--target-modules",
         "all-linear", "--max-steps", "150", *more]
    )  # fmt: skip


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "examples.jsonl"
    lines = [{"question": f"a {thing} is", "answer": f" {colour}"} for thing, colour in COLOURS.items()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_language_model_learns_to_complete_prompts(
    model: str, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(model, examples, tmp_path / "out", "--prompt-column", "question") == 0
    summary = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.replace("frozen bytes ", "").splitlines())
    assert 1 <= float(summary["perplexity"]) < 1.1 and summary["before"] == summary["after"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), tmp_path / "out" / "adapter")
    for thing, colour in COLOURS.items():
        prompt = tokenizer(f"a {thing} is", return_tensors="np")["input_ids"]
        assert tokenizer.decode(adapted.generate(prompt)[0]) == f"a {thing} is {colour} </s>"
    assert json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"


def test_a_text_that_runs_into_its_prompt_is_said(
    model: str, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--prompt-column", "question", "--max-steps", "1")
    assert finetune(model, examples, tmp_path / "a", *more) == 0 and "without a space" not in capsys.readouterr().err
    examples.write_text(examples.read_text().replace('" red', '"red'))
    assert finetune(model, examples, tmp_path / "b", *more) == 0
    error = capsys.readouterr().err
    assert (
        "examples.jsonl: in 1 of 2 examples the text stands behind its prompt without a space, as in 'a apple isred'"
        in error
    )


def test_without_a_prompt_column_the_texts_are_learnt_whole(
    model: str, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(model, examples, tmp_path / "out", "--text-column", "question", "--max-steps", "1") == 0
    loss = float(capsys.readouterr().out.split("training loss")[1].split()[0])
    ids = np.array([[WORDS.index(word) for word in (*f"a {thing} is".split(), "</s>")] for thing in COLOURS])
    expected, _ = AutoModelForCausalLM.from_pretrained(model)(ids, labels=ids)
    assert abs(loss - float(expected.loss)) < 1e-4  # printed with four digits


def test_the_layers_that_are_adapted_are_the_familys_unless_named(model: str, examples: Path, tmp_path: Path) -> None:
    arguments = ["finetune", "--task", "causal-lm", "--model", model, "--train", str(examples), "--eval", str(examples),
                 "--output", str(tmp_path / "out"), "--text-column", "answer", "--max-steps", "1"]  # fmt: skip
    assert main(arguments) == 0
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["c_attn"] and config["fan_in_fan_out"] is True


def test_what_a_text_is_in_plain_files_is_no_matter_of_others(
    model: str, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "texts.txt"
    plain.write_text("a red apple\n\na green leaf\n")
    taught = ["finetune", "--task", "causal-lm", "--model", model, "--max-steps", "1", "--sample-by", "document"]
    out = str(tmp_path / "out")
    assert main([*taught, "--train", str(plain), "--output", out]) == 0
    assert main(["evaluate", "--adapter", out, str(plain)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["examples", "1"]
    assert main(["evaluate", "--adapter", out, "--text-column", "answer", str(examples)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["examples", "2"]
    assert main([*taught, "--train", str(examples), "--output", str(tmp_path / "other")]) == 2
    assert f"--sample-by is for .txt files, and {examples} is none" in capsys.readouterr().err


def test_what_is_wrong_is_one_line(
    model: str, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = tmp_path / "numbers.jsonl"
    numbers.write_text('{"question": "a", "answer": "red"}\n{"question": 3, "answer": "red"}\n')
    for path, more, message in (
        (examples, ["--prompt-column", "query"], "line 1: there is no column 'query'; there are: question, answer"),
        (numbers, ["--prompt-column", "question"], "numbers.jsonl, line 2: question must be a string; got 3"),
        (examples, ["--prompt-column", "question", "--max-length", "1"], "max_length must be at least 2"),
        (
            examples,
            ["--task", "classification", "--prompt-column", "question"],
            "--prompt-column needs --task causal-lm",
        ),
    ):
        assert finetune(model, path, tmp_path / "out", *more) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
