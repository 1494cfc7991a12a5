"""The commands, from files to files; an error is one line and exit code 2."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification, AutoTokenizer, PeftModel
from npora.cli import main
from npora.commands import finetune
from npora.data import collate
from tests.tiny import save_bert, tiny_bert

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "plot", "a", "the", "very", "was"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A tiny BERT on disk, with a tokenizer that fixes a padded length as real ones may."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.enable_padding(length=12)
    directory = save_bert(tiny_bert(num_labels=2, seed=2), tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # six features bear none
    (directory / "config.json").write_text(json.dumps(config))
    backend.save(str(directory / "tokenizer.json"))
    return str(directory)


@pytest.fixture
def examples(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    examples = []
    for _ in range(24):
        label = int(rng.integers(2))
        examples.append(
            f"the {rng.choice(['film', 'plot'])} was {'very ' * int(rng.integers(3))}{['bad', 'good'][label]}"
        )
        examples[-1] += f"\t{label}"
    path = tmp_path / "examples.tsv"
    path.write_text("sentence\tlabel\n" + "\n".join(examples) + "\n")
    return str(path)


def run_finetune(model: str, examples: str, output: Path, *more: str) -> int:
    return main(
        ["finetune", "--model", model, "--train", examples, "--eval", examples, "--output", str(output),
         "--batch-size", "5", "--epochs", "25", "--learning-rate", "1e-2", "--target-modules", "all-linear", *more]
    )  # fmt: skip


def test_finetune_learns_saves_the_adapter_alone_and_predict_gives_the_trainers_predictions(
    model: str, examples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_finetune(model, examples, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    summary = dict(line.split(maxsplit=1) for line in printed.replace("frozen bytes ", "").splitlines())
    assert float(summary["accuracy"]) == 1.0
    assert summary["before"] == summary["after"] and len(summary["after"]) == 64
    found = sorted(os.listdir(tmp_path / "out"))
    assert [name for name in found if not name.startswith("checkpoint-")] == [
        "adapter", "log.jsonl", "log_history.jsonl", "run.json",
    ]  # fmt: skip
    assert sorted(os.listdir(tmp_path / "out" / "adapter")) == ["adapter_config.json", "adapter_model.safetensors"]

    sentences = [line.split("\t")[0] for line in Path(examples).read_text().splitlines()[1:]]
    labels = [line.split("\t")[1] for line in Path(examples).read_text().splitlines()[1:]]
    assert main(["predict", "--model", model, "--adapter", str(tmp_path / "out"), *sentences]) == 0
    predicted = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in predicted] == labels and [line[2] for line in predicted] == sentences


def test_predict_reads_standard_input_and_takes_the_adapter_itself(
    model: str, examples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_finetune(model, examples, tmp_path / "out", "--max-steps", "2")
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("the film was good\nthe plot was bad\n"))
    assert main(["predict", "--model", model, "--adapter", str(tmp_path / "out" / "adapter")]) == 0
    assert [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()] == [
        "the film was good", "the plot was bad",
    ]  # fmt: skip
    assert main(["predict", "--model", model, "--adapter", str(tmp_path / "out"), "the film\nwas\u2028good"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("\tthe film was good")


def test_a_resumed_finetune_gives_the_same_adapter(model: str, examples: str, tmp_path: Path) -> None:
    run_finetune(model, examples, tmp_path / "a", "--epochs", "2", "--save-strategy", "epoch")
    # The run that stops early is planned for the same steps, and cut by a bad example at the end of its first epoch.
    whole = (tmp_path / "a" / "adapter" / "adapter_model.safetensors").read_bytes()
    again = tmp_path / "a" / "checkpoint-10"
    for file in again.iterdir():
        file.unlink()
    again.rmdir()
    assert run_finetune(model, examples, tmp_path / "a", "--epochs", "2", "--save-strategy", "epoch", "--resume") == 0
    assert (tmp_path / "a" / "adapter" / "adapter_model.safetensors").read_bytes() == whole


def test_packed_batches_give_the_logits_of_sentences_alone(model: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    bert = AutoModelForSequenceClassification.from_pretrained(model)
    sentences = ["good", "the film was very very bad", "a plot"]
    examples = [tokenizer(sentence) for sentence in sentences]
    assert [len(example["input_ids"]) for example in examples] == [3, 8, 4]  # the file's padding to 12 is off
    logits = bert(**collate(examples, {"input_ids", "attention_mask", "token_type_ids"}))[0].logits
    for sentence, together in zip(sentences, logits, strict=True):
        alone = bert(**tokenizer(sentence, return_tensors="np"))[0].logits[0]
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)  # float32 through two layers


def test_the_tokenizer_cuts_pads_and_tells_pairs_apart(model: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer("the film was good", truncation=True, max_length=4)["input_ids"] == [2, 9, 6, 3]
    assert tokenizer("good", "bad")["token_type_ids"] == [0, 0, 0, 1, 1]
    batch = tokenizer(["good", "very bad"], padding=True, return_tensors="np")
    assert batch["input_ids"].tolist() == [[2, 4, 3, 0], [2, 10, 5, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    with pytest.raises(ValueError, match="padding=True"):
        tokenizer(["good", "very bad"], return_tensors="np")
    with pytest.raises(ValueError, match="npora is NumPy only"):
        tokenizer("good", return_tensors="pt")


def test_info_says_what_a_checkpoint_holds(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", model]) == 0
    printed = capsys.readouterr().out
    assert "model_type = bert" in printed
    line = next(line for line in printed.splitlines() if "word_embeddings" in line)
    assert line.split() == ["bert.embeddings.word_embeddings.weight", "F32", "31×6", "744", "bytes"]
    parameters = sum(parameter.size for parameter in tiny_bert(num_labels=2).parameters())
    assert f"{parameters:,} parameters" in printed.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere"], "npora: there is no file nowhere"),
        (["finetune", "--train", "x"], "--train needs --model too"),
        (["predict", "x"], "npora: pass --model, or --adapter, or both"),
        (["merge", "--model", "x"], "the following arguments are required: --adapter, --output"),
        (["train"], "invalid choice: 'train'"),
        (["predict", "--model", "nowhere", "--adapter", "nowhere", "x"], "there is no directory nowhere"),
        (["finetune", "--model", "m", "--train", "no.tsv", "--eval", "no.tsv", "--output", "o"], "no file no.tsv"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err
    assert captured.err.count("\n") == 1 and not captured.out


def test_errors_of_a_run_are_one_line_too(
    model: str, examples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.tsv"
    bad.write_text("sentence\tlabel\nthe film\t0\nthe plot\t7\n")
    empty = tmp_path / "empty.tsv"
    empty.write_text("sentence\tlabel\n")
    for path, more, message in (
        (bad, ["--num-labels", "2"], "bad.tsv, line 3: the label 7 is out of range; labels are 0 … 1"),
        (
            bad,
            [],
            "bad.tsv: labels count from 0, and no example has the label 1, though one has 7: pass --num-labels 8",
        ),
        (Path(examples), ["--eval", str(bad)], "bad.tsv, line 3: the label 7 is out of range; labels are 0 … 1"),
        (empty, [], "empty.tsv has no examples"),
        (Path(examples), ["--r", "0"], "the rank must be a whole number of at least 1; got 0"),
        (Path(examples), ["--target-modules", "qurey"], "'qurey' matches no module; near names: query"),
        (Path(examples), ["--text-column", "review"], "line 1: there is no column 'review'; there are: sentence"),
        (Path(examples), ["--learning-rate", "1e38", "--max-grad-norm", "0"], "step 1: the update, with the learning"),
    ):
        assert run_finetune(model, str(path), tmp_path / "out", *more) == 2
        error = capsys.readouterr().err.splitlines()
        assert [line for line in error if line.startswith("npora: ")] == error[-1:] and message in error[-1]
    kept = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(model), tmp_path / "out" / "last-good"
    )
    assert np.isfinite(kept(np.array([[2, 4, 3]]))[0].logits).all()


def test_help_states_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option, value in (("--learning-rate", "0.0005"), ("--lora-alpha", "16"), ("--target-modules", "query")):
        assert value in text.split(option, 2)[2].split(" --", 1)[0], option
    assert finetune.__doc__ is not None and finetune.__doc__.splitlines()[0] in text


def test_the_log_of_a_run_is_json_lines(model: str, examples: str, tmp_path: Path) -> None:
    run_finetune(model, examples, tmp_path / "out", "--max-steps", "3")
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3] and "eval_accuracy" in lines[-1]
