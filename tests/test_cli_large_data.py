"""A file of many examples: each is encoded when it is needed, and the run is the one of examples that are encoded
before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from npora.cli import main
from npora.commands import encoding
from npora.commands.encoding import EncodedExamples
from npora.commands.tasks import TASKS, Columns
from npora.data import ByteTokenizer, Dataset
from npora.train import loaders
from tests.tiny_folders import WORDS, save_folder

TEXTS = [" ".join(WORDS[4 + (i * j) % 10] for j in range(1, 2 + i % 5)) for i in range(23)]
LONG = " ".join(WORDS[4 + i % 10] for i in range(61))


def written(path: Path, examples: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return str(path)


CASES: dict[str, tuple[str, list[dict[str, Any]], list[str]]] = {
    "classification": ("bert", [{"sentence": t, "label": i % 2} for i, t in enumerate([*TEXTS, ""])], []),
    "pairs": ("bert", [{"sentence": t, "other": t[::-1], "label": "ab"[i % 2]} for i, t in enumerate(TEXTS)],
              ["--text-pair-column", "other"]),
    "causal-lm": ("gpt2", [{"sentence": t} for t in (*TEXTS, LONG, LONG + " film", TEXTS[3])], []),
    "prompts": ("gpt2", [{"prompt": t, "sentence": " good film"} for t in TEXTS], ["--prompt-column", "prompt"]),
    "seq2seq-lm": ("t5", [{"prompt": t, "sentence": t} for t in TEXTS], []),
}  # fmt: skip
TASK = {"pairs": "classification", "prompts": "causal-lm"}


@pytest.mark.parametrize("name", CASES)
def test_the_run_is_bit_for_bit_that_of_rows_that_are_encoded_before(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, examples, more = CASES[name]
    task = TASK.get(name, name)
    heads = {"classification": "ForSequenceClassification"}
    model = save_folder(tmp_path / "model", family, heads.get(task)) if task in heads else save_folder(
        tmp_path / "model", family
    )  # fmt: skip
    train, logs = written(tmp_path / "train.jsonl", examples), []
    for at_once, cache in ((10**6, []), (0, []), (0, ["--cache", str(tmp_path / "cache")])):
        monkeypatch.setattr(encoding, "AT_ONCE", at_once)
        out = tmp_path / f"{at_once} {len(cache)}"
        given = ["finetune", "--task", task, "--model", model, "--train", train, "--eval", train, "--output", str(out),
                 "--batch-size", "4", "--epochs", "2", *more, *cache]  # fmt: skip
        assert main(given) == 0
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        logs.append([{k: v for k, v in e.items() if "second" not in k and "runtime" not in k} for e in log])
        adapter = (out / "adapter" / "adapter_model.safetensors").read_bytes()
        data = json.loads((out / "run.json").read_text())["data"]
        logs[-1].append({"adapter": adapter, "data": data})
    assert logs[0] == logs[1] == logs[2] and {path.name for path in (tmp_path / "cache").iterdir()} == {"train", "eval"}


def test_a_cache_is_encoded_once_and_one_of_another_length_or_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model = save_folder(tmp_path / "model", "gpt2")
    train = written(tmp_path / "train.jsonl", [{"sentence": t} for t in (*TEXTS, LONG)])

    def run(*more: str) -> int:
        given = ["--model", model, "--train", train, "--output", str(tmp_path / "out"), "--max-steps", "2",
                 "--save-strategy", "steps", "--save-steps", "1", "--cache", str(tmp_path / "cache")]  # fmt: skip
        return main(["finetune", "--task", "causal-lm", *given, *more])

    assert run() == 0
    first = (tmp_path / "out" / "adapter" / "adapter_model.safetensors").read_bytes()

    def encode(*args: Any) -> Any:
        raise AssertionError("it is in the cache")

    with monkeypatch.context() as patch:
        patch.setattr(TASKS["causal-lm"], "encode", encode)
        assert run("--overwrite") == 0
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").read_bytes() == first
    assert run("--overwrite", "--max-length", "9") == 2
    assert "other examples than these, of max_length=24, and not 9: remove it" in capsys.readouterr().err
    written(tmp_path / "train.jsonl", [{"sentence": t} for t in (*TEXTS, LONG[1:])])
    assert run("--overwrite") == 2
    assert "other examples than these, of sha256=" in capsys.readouterr().err


@pytest.mark.parametrize("at_once", [0, 10**6])
def test_a_text_that_cannot_be_encoded_is_reported_with_its_line_when_it_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Whatever the order in which the examples are asked for."""
    monkeypatch.setattr(encoding, "AT_ONCE", at_once)
    path = written(tmp_path / "a.jsonl", [{"sentence": "a" if i != 7 else "", "label": i % 2} for i in range(9)])
    examples = TASKS["classification"].read(path, Columns()).shuffle(3)
    said = r"a\.jsonl, line 8: a text is empty, and this tokenizer has no token"
    with pytest.raises(ValueError, match=said):
        list(encoding.encoded(TASKS["classification"], examples, ByteTokenizer(), 5, path))
    with pytest.raises(ValueError, match=said):
        encoding.encoded(TASKS["classification"], examples, ByteTokenizer(), 5, path, str(tmp_path / "cache"))
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_long_texts_become_windows_and_short_ones_are_not_read_before(tmp_path: Path) -> None:
    class Counting(ByteTokenizer):
        texts = 0

        def encode_parts(self, text: str) -> Any:
            Counting.texts += 1
            return super().encode_parts(text)

    examples = Dataset([{"text": "a" * n} for n in (3, 40, 1, 13, 2)])
    tokenizer, task = Counting(eos=True), TASKS["causal-lm"]
    lazy = EncodedExamples(task, examples, tokenizer, 14, "it")
    assert len(lazy) == 5 + 3 and Counting.texts == 2  # 40; 13, which might be too long with what a tokenizer adds
    eager = [part for example in examples for part in task.encode(example, tokenizer, 14)]
    lengths = [len(part["input_ids"]) for part in eager]
    assert [len(lazy[i]["input_ids"]) for i in range(8)] == lengths and list(lazy) == eager
    assert lazy.__getitems__([6, 2, 0]) == [eager[6], eager[2], eager[0]]


def test_what_is_cut_is_told_of_when_it_is_met(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(encoding, "AT_ONCE", 0)
    examples = [{"sentence": t, "label": i % 2} for i, t in enumerate([*TEXTS, LONG, LONG])]
    model = save_folder(tmp_path / "model", "bert", "ForSequenceClassification")
    train = written(tmp_path / "train.jsonl", examples)
    assert (
        main(["finetune", "--model", model, "--train", train, "--output", str(tmp_path / "out"), "--epochs", "1"]) == 0
    )
    told = capsys.readouterr().err
    assert told.count("has more than 24 tokens and is cut to that (--max-length)") == 1


def test_rows_are_permuted_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from npora import Trainer
    from tests.tiny import tiny_peft
    from tests.train.test_trainer import ROWS, arguments

    calls: list[int] = []
    order = loaders.order
    monkeypatch.setattr(
        loaders, "order", lambda args, examples, epoch: calls.append(epoch) or order(args, examples, epoch)
    )
    Trainer(tiny_peft(), arguments(tmp_path, num_train_epochs=3), ROWS).train()
    assert calls == [0, 1, 2]


@pytest.mark.long
def test_the_first_step_of_a_million_rows_takes_little_memory(tmp_path: Path) -> None:
    """300 MB, and 10 seconds of the processor: the clock on the wall is the machine's."""
    model = save_folder(tmp_path / "model", "bert", "ForSequenceClassification")
    with (tmp_path / "train.tsv").open("w") as file:
        file.write("sentence\tlabel\n")
        for i in range(1_000_000):
            file.write(f"{TEXTS[i % 23]}\t{i % 2}\n")
    program = (
        "import resource, sys; from npora.cli import main; assert main(sys.argv[1:]) == 0\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('used', used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)"
    )
    given = ["finetune", "--model", model, "--train", str(tmp_path / "train.tsv"), "--output", str(tmp_path / "out"),
             "--max-steps", "1", "--save-strategy", "no"]  # fmt: skip
    cached = [*given, "--overwrite", "--cache", str(tmp_path / "cache")]
    for arguments, bound in ((given, 10), (cached, 60), (cached, 10)):  # without a cache; writing one; reading it
        result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        seconds, megabytes = map(float, result.stdout.split("used ")[1].split())
        assert seconds < bound and megabytes < 300
