"""What finetune or a model knows reaches evaluate, predict, generate, merge and info."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PeftModel
from npora.cli import main
from npora.files import read_json, write_json
from tests.test_cli_tasks import finetune, predicted, sentences, summary, table
from tests.tiny_folders import FAMILIES, WORDS, save_folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_predicts_what_the_adapter_does(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, train = save_folder(tmp_path / "model", family), table(tmp_path / "train.tsv", sentences("x", "y", "z"))
    length = ("--max-length", "5")
    assert finetune(model, train, tmp_path / "out", "--max-steps", "9", "--seed", "43", "--eval", train, *length) == 0
    measured = summary(capsys)
    taken, merged = ("--model", model, "--adapter", str(tmp_path / "out")), str(tmp_path / "merged")
    assert main(["merge", *taken, "--output", merged]) == 0
    texts = ["film was good", "the very plot was red", "bad", "good film was bad " * 5]
    for with_adapter, alone in zip(
        predicted(capsys, *taken, *texts), predicted(capsys, "--model", merged, *texts), strict=True
    ):
        assert with_adapter[::2] == alone[::2] and with_adapter[0] in "xyz"
        assert abs(float(with_adapter[1]) - float(alone[1])) < 2e-4
    for named in (taken, ("--model", merged)):
        assert main(["evaluate", *named, train]) == 0
        again = summary(capsys)
        assert again["accuracy"].strip() == measured["accuracy"].strip()
        assert abs(float(again["loss"]) - float(measured["evaluation loss"])) < 2e-4


def test_merging_needs_no_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, train = save_folder(tmp_path / "model", "gpt2"), table(tmp_path / "train.tsv", sentences("x", "y"))
    assert finetune(model, train, tmp_path / "out", "--max-steps", "1", "--task", "causal-lm") == 0
    for file in (tmp_path / "model").glob("tokenizer*"):
        file.unlink()
    assert main(["merge", "--adapter", str(tmp_path / "out"), "--output", str(tmp_path / "merged")]) == 0
    assert (tmp_path / "merged" / "model.safetensors").exists()


def test_nothing_is_said_to_be_new_that_the_adapter_brings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model, train = save_folder(tmp_path / "model", "roberta"), table(tmp_path / "train.tsv", sentences(0, 1))
    assert finetune(model, train, tmp_path / "out", "--max-steps", "1") == 0
    caplog.clear()
    assert predicted(capsys, "--model", model, "--adapter", str(tmp_path / "out"), "film")
    assert "newly" not in caplog.text


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_head_that_nothing_has_trained_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, train = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.tsv", sentences(0, 1))
    assert main([command, "--model", model, train]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "classifier.weight" in error and "what the model says would be random" in error


def test_the_length_of_the_training_is_that_of_the_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_folder(tmp_path / "model", "bert", "ForSequenceClassification")
    train = table(tmp_path / "train.tsv", sentences(0, 1))
    assert finetune(model, train, tmp_path / "out", "--max-steps", "3", "--max-length", "5") == 0
    taken = ("--model", model, "--adapter", str(tmp_path / "out"))
    (cut,), (short,) = predicted(capsys, *taken, "the film was very bad"), predicted(capsys, *taken, "the film was")
    assert cut[:2] == short[:2]
    (longer,) = predicted(capsys, *taken, "--max-length", "7", "the film was very bad")
    assert longer[1] != cut[1]
    assert main(["predict", *taken, "--max-length", "7", "film"]) == 0
    assert "--max-length 7: the adapter was trained with 5" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["llama", "qwen3", "t5"])
def test_a_model_with_relative_positions_takes_more_tokens_than_it_names(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_folder(tmp_path / "model", family, "ForSequenceClassification")
    settings = read_json(tmp_path / "model" / "tokenizer_config.json") | {"model_max_length": 24}
    write_json(tmp_path / "model" / "tokenizer_config.json", settings)
    text = "a film " * 13
    (cut,) = predicted(capsys, "--model", model, text)
    assert main(["predict", "--model", model, "--max-length", "30", text]) == 0
    printed, said = capsys.readouterr()
    assert "--max-length 30: the checkpoint names 24 as the most tokens of a text" in said and "were cut" not in said
    assert printed.split("\t")[1] != cut[1]


def test_the_end_that_is_taught_is_one_at_which_generation_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_folder(tmp_path / "model", "gpt2", eos_token_id=WORDS.index("green"))  # its tokenizer says </s>
    train = table(tmp_path / "train.jsonl", [{"prompt": "the film was", "sentence": " very good"}])
    more = ("--task", "causal-lm", "--prompt-column", "prompt", "--max-steps", "60")
    assert finetune(model, train, tmp_path / "out", *more) == 0
    assert "a text ends with 'green', at which this model stops; its tokenizer names '</s>'" in capsys.readouterr().err
    taken = ["--model", model, "--adapter", str(tmp_path / "out")]
    assert main(["generate", *taken, "the film was"]) == 0
    assert capsys.readouterr().out == "the film was very good green\n"  # and not twenty tokens
    assert main(["merge", *taken, "--output", str(tmp_path / "merged")]) == 0
    capsys.readouterr()
    assert main(["generate", "--model", str(tmp_path / "merged"), "the film was"]) == 0
    assert capsys.readouterr().out == "the film was very good green\n"
    assert main(["evaluate", *taken, train]) == 0
    assert float(summary(capsys)["perplexity"]) < 1.5  # of the same end


def test_generate_does_what_the_models_own_config_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_folder(tmp_path / "model", "gpt2")
    config = tmp_path / "model" / "generation_config.json"
    config.write_text(json.dumps({"max_new_tokens": 3, "do_sample": True, "top_k": 5, "eos_token_id": 3}))
    assert main(["generate", "--model", model, "--temperature", "0.5", "--seed", "1", "the film"]) == 0
    base, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    ids = base.generate(tokenizer("the film", return_tensors="np")["input_ids"].reshape(1, -1), temperature=0.5, seed=1)
    assert ids.shape[1] <= 5
    assert capsys.readouterr().out == tokenizer.decode(ids[0], skip_special_tokens=True) + "\n"
    assert main(["generate", "--model", model, "--no-do-sample", "the film"]) == 0
    ids = base.generate(tokenizer("the film", return_tensors="np")["input_ids"].reshape(1, -1), do_sample=False)
    assert capsys.readouterr().out == tokenizer.decode(ids[0], skip_special_tokens=True) + "\n"


def test_the_model_is_found_by_the_adapters_name_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, train = save_folder(tmp_path / "model", "distilbert"), table(tmp_path / "train.tsv", sentences(0, 1))
    assert finetune(model, train, tmp_path / "out", "--max-steps", "2") == 0
    out = str(tmp_path / "out")
    assert predicted(capsys, "--adapter", out, "film") == predicted(capsys, "--adapter", out, "--model", model, "film")


def test_info_and_python_take_the_output_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, train = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.tsv", sentences("x", "y"))
    assert finetune(model, train, tmp_path / "out", "--max-steps", "2", "--max-length", "9") == 0
    capsys.readouterr()
    for folder in (tmp_path / "out", tmp_path / "out" / "adapter"):
        assert main(["info", str(folder)]) == 0
        printed = capsys.readouterr().out
        assert "r = 8" in printed and "'max_length': 9" in printed and "{0: 'x', 1: 'y'}" in printed
        base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2)
        assert PeftModel.from_pretrained(base, folder).notes["task"] == "classification"


def wrong(tmp_path: Path) -> dict[str, Any]:
    """Folders, of which each is right for another option or another command."""
    classifier = save_folder(tmp_path / "classifier", "bert", "ForSequenceClassification")
    writer = save_folder(tmp_path / "writer", "gpt2")
    train = table(tmp_path / "train.tsv", sentences(0, 1))
    assert finetune(classifier, train, tmp_path / "a", "--max-steps", "1") == 0
    assert finetune(writer, train, tmp_path / "b", "--max-steps", "1", "--task", "causal-lm") == 0
    return {"classifier": classifier, "writer": writer, "a": str(tmp_path / "a"), "b": str(tmp_path / "b")}


def test_a_folder_in_the_wrong_place_is_named_with_its_right_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = wrong(tmp_path)
    for arguments, message in (
        (
            ["predict", "--model", at["a"], "x"],
            f"--model {at['a']} is an adapter: pass it as --adapter",
        ),
        (["predict", "--model", at["a"] + "/adapter", "x"], f"and as --model its base, {at['classifier']}"),
        (["generate", "--model", at["b"], "x"], "is an adapter: pass it as --adapter"),
        (["finetune", "--model", at["a"], "--train", str(tmp_path / "train.tsv"), "--output", "o"], "is an adapter"),
        (["predict", "--adapter", at["classifier"], "x"], "it holds a whole model"),
        (
            ["predict", "--model", at["writer"], "--adapter", at["b"], "x"],
            "is for causal-lm: npora generate is the command",
        ),
        (["generate", "--adapter", at["a"], "x"], "is for classification: npora predict is the command"),
        (
            ["generate", "--model", at["classifier"], "x"],
            "is for classification: npora predict is the command",
        ),
        (["merge", "--adapter", at["a"], "--output", at["b"]], "is not empty: name a new folder"),
        (["generate", "--model", at["writer"], "--temperature", "1", "x"], "--temperature needs --do-sample"),
        (["generate", "--model", at["writer"], "--seed", "1", "x"], "--seed needs --do-sample"),
        (
            ["generate", "--model", at["writer"], "--length-penalty", "1", "x"],
            "--length-penalty needs --num-beams above 1",
        ),
        (["predict", "--model", at["classifier"], "--batch-size", "0", "x"], "--batch-size must be at least 1; got 0"),
        (["predict", "--model", at["classifier"], "--max-length", "99", "x"], "this model takes at most 24 tokens"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_transformers_loads_a_merged_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, train = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.tsv", sentences("x", "y"))
    assert finetune(model, train, tmp_path / "out", "--max-steps", "9") == 0
    taken = ("--model", model, "--adapter", str(tmp_path / "out"))
    assert main(["merge", *taken, "--output", str(tmp_path / "merged")]) == 0
    shutil.rmtree(tmp_path / "model")  # nothing of it is needed
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    for line in predicted(capsys, "--model", str(tmp_path / "merged"), "the film was very good", "plot"):
        with torch.no_grad():
            p = theirs(**tokenizer(line[2], return_tensors="pt")).logits.softmax(-1).numpy()[0]
        assert theirs.config.id2label[int(np.argmax(p))] == line[0] and abs(p.max() - float(line[1])) < 1e-4


def test_what_learnt_lines_finds_the_columns_of_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, train = save_folder(tmp_path / "model", "llama"), tmp_path / "train.txt"
    train.write_text("the film was good\n\nthe plot\nwas red\n")
    more = ("--max-steps", "1", "--task", "causal-lm")
    assert finetune(model, str(train), tmp_path / "out", *more, "--sample-by", "paragraph") == 0
    for file, examples in ((str(train), "2"), (table(tmp_path / "x.jsonl", [{"text": "a film"}] * 3), "3")):
        capsys.readouterr()
        assert main(["evaluate", "--adapter", str(tmp_path / "out"), file]) == 0
        assert summary(capsys)["examples"].strip() == examples
    assert finetune(model, str(train), tmp_path / "both", *more, "--eval", str(tmp_path / "x.jsonl")) == 0
    assert finetune(model, str(tmp_path), tmp_path / "other", *more) == 2
    assert f"npora: {tmp_path} is a folder: causal-lm reads a file" in capsys.readouterr().err
    assert main(["check-data", "--task", "causal-lm", str(tmp_path)]) == 2
    assert f"npora: {tmp_path} is a directory; pass a file of examples" in capsys.readouterr().err
