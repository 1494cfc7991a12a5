"""npora show-data, and what finetune refuses to learn: conversations from files, in every form."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.cli import main
from npora.commands import encoding
from npora.commands.drawn import drawn
from npora.commands.show_data import _letters
from tests.chat_templates import chat_tokenizer, dialogue
from tests.test_cli_chat import CHATS, Captured, chat_model, finetune, lines
from tests.test_cli_images import save_vit
from tests.tiny_folders import save_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shown")
    chat_model(place)
    return place


@pytest.mark.parametrize(
    "example, columns, shown",
    [
        ({"messages": dialogue("film", "good", "plot", "bad")}, "'messages', no prompt",
         "<s>the film </s><s>a⟦good </s>⟧<s>the plot </s><s>a⟦bad </s>⟧"),
        ({"conversations": [{"from": "human", "value": "film"}, {"from": "gpt", "value": "red"}]},
         "'conversations', no prompt", "<s>the film </s><s>a⟦red </s>⟧"),
        ({"prompt": dialogue("film", "red", "plot"), "completion": [{"role": "assistant", "content": "bad"}]},
         "'completion', what stands before it in 'prompt'",
         "<s>the film </s><s>a red </s><s>the plot </s><s>a⟦bad </s>⟧"),
        ({"prompt": dialogue("film"), "chosen": [{"role": "assistant", "content": "good"}], "rejected": ""},
         "'chosen', what stands before it in 'prompt'; rejected is not looked at (--task dpo and orpo do)",
         "<s>the film </s><s>a⟦good </s>⟧"),
        ({"prompt": "the film was", "completion": " bad"}, "'completion', what stands before it in 'prompt'",
         "the film was⟦bad </s>⟧"),
        ({"text": "red plot"}, "'text', no prompt", "⟦red plot </s>⟧"),
    ],
)  # fmt: skip
def test_the_usual_columns_are_found_and_what_is_learnt_is_shown(
    folder: Path, tmp_path: Path, capsys: Captured, example: dict[str, Any], columns: str, shown: str
) -> None:
    file = lines(tmp_path / "x.jsonl", [example])
    assert main(["show-data", "--task", "causal-lm", "--model", str(folder / "model"), file]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"{file}: the text is in the column {columns}\n"
    text = printed.out.splitlines()[1]
    assert "".join(text.split()) == "".join(shown.split())
    learnt = 2 * shown.count("⟦") + ("plot </s>⟧" in shown)
    assert printed.out.splitlines()[0].endswith(f"tokens, {learnt} learnt")
    assert printed.out.splitlines()[-1].endswith(f"tokens, {learnt} of them learnt")
    assert main(["check-data", "--task", "causal-lm", file]) == 0
    assert capsys.readouterr().out == f"{file}: 1 examples, all good\n"


def test_on_a_terminal_tokens_have_colours(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    show = ["show-data", "--model", str(folder / "model"), "--examples", "1", str(folder / "chats.jsonl")]
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(show) == 0
    coloured = capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(show) == 0
    assert "\033" not in capsys.readouterr().out
    assert [part.split("\033[0m")[0].strip() for part in coloured.split("\033[1;32m")[1:]] == ["</s>"]
    assert [part.split("\033[0m")[0].strip() for part in coloured.split("\033[32m")[1:]] == ["good"]


@pytest.mark.parametrize("kind, text", [("byte-level", "a film 🦊 é中"), ("metaspace", "good film, bad dog")])
def test_letters_of_several_tokens_are_shown_as_one_and_no_space_is_lost(kind: str, text: str) -> None:
    tokenizer = chat_tokenizer(kind=kind)
    ids = tokenizer.encode(text, add_special_tokens=False)
    parts = [*_letters(tokenizer, ids)]
    assert "".join(parts) == tokenizer.decode(ids) and not any("�" in part for part in parts)
    assert len(ids) - len(parts) == 2 * (kind == "byte-level")


def test_other_tasks_are_shown_too(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    file = lines(tmp_path / "x.jsonl", [{"sentence": "film", "label": name} for name in ("y", "x")])
    assert main(["show-data", "--task", "classification", "--model", str(folder / "model"), file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "── example 1: 1 tokens, label y", "film", "── example 2: 1 tokens, label x", "film",
        f"── {file}: 2 examples, 2 tokens, 0 of them learnt",
    ]  # fmt: skip
    t5 = save_folder(tmp_path / "t5", "t5")
    file = lines(tmp_path / "y.jsonl", [{"prompt": "film", "sentence": "bad plot"}])
    assert main(["show-data", "--task", "seq2seq-lm", "--model", t5, file]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["── example 1: 2 tokens, 3 learnt", "film </s>⟦bad plot </s>⟧"]


@pytest.mark.parametrize(
    "examples, message",
    [
        ([{"messages": dialogue("film")}], "there is nothing to learn: no message is of the role assistant; there are"),
        ([{"messages": dialogue("x")}] * 300, "no message is of the role assistant; there are user"),
        ([{"messages": dialogue("film " * 40, "bad")}], "there is nothing to learn: what is to be learnt is cut off"),
        ([{"messages": []}, {"messages": 1}], "line 1: messages must be a list of messages; got []"),
        ([{"messages": CHATS[0]}, {"messages": 1}], "line 2: messages must be a list of messages; got 1"),
        ([{"messages": CHATS[0]}, {"messages": [1]}], "line 2: message 1 of messages must be an object with role and"),
        ([{"messages": [{"content": "a"}]}], "message 1 of messages needs a role, as user or assistant; it has"),
        ([{"messages": [{"role": "user"}]}], "message 1 of messages needs a content, a string; got None"),
        ([{"messages": [{"from": "x", "value": "a"}]}], "message 1 of messages is from 'x'; known are human, user"),
        ([{"messages": dialogue("a\ud800")}], "line 1: a message has half of a pair of surrogates"),
        ([{"messages": CHATS[0], "tools": "["}], "line 1: tools is no JSON: Expecting value"),
        ([{"messages": CHATS[0], "documents": 1}], "line 1: documents must be a list; got 1"),
    ],
)  # fmt: skip
def test_what_teaches_nothing_is_refused(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, examples: list[Any], message: str
) -> None:
    monkeypatch.setattr(encoding, "AT_ONCE", 200)
    file = lines(tmp_path / "x.jsonl", examples)
    assert finetune(str(folder / "model"), file, tmp_path / "out", "--max-steps", "1") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    if "line" in message:
        assert main(["check-data", "--task", "causal-lm", file]) == 1
        assert message in capsys.readouterr().out


def test_of_examples_that_teach_nothing_among_others_the_number_is_said(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    file = lines(tmp_path / "x.jsonl", [{"messages": CHATS[0]}, {"messages": dialogue("film " * 40, "bad")}])
    assert main(["show-data", "--model", str(folder / "model"), file]) == 0
    printed = capsys.readouterr()
    assert "x.jsonl: of 1 of 2 examples nothing is learnt\n" in printed.err
    assert "1 of 2 examples have more than 40 tokens and were cut" in printed.err


def test_choices_and_answers_are_marked(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    given = [{"question": "red", "choices": ["bad", "good"], "label": 1}]
    asked = {"question": "red", "context": "the film was very good"}
    several = [{**asked, "answers": {"text": ["very good"], "answer_start": [13]}}, {**asked, "answers": None}]
    for task, examples, expected in (
        ("multiple-choice", given, ["── example 1: 5 tokens, 0 learnt; 5 tokens, 5 learnt, label 1",
                                    "<s>red</s>bad</s>", "⟦<s>red</s>good</s>⟧", "10 tokens, 5 of them learnt"]),
        ("question-answering", several, ["── example 1: 9 tokens, 2 learnt", "<s>red</s>thefilmwas⟦verygood⟧</s>",
                                         "── example 2: 9 tokens, 1 learnt", "⟦<s>⟧red</s>thefilmwasverygood</s>",
                                         "2 examples, 18 tokens, 3 of them learnt"]),
    ):  # fmt: skip
        model = save_folder(tmp_path / task, "bert")
        assert main(["show-data", "--task", task, "--model", model, lines(tmp_path / f"{task}.jsonl", examples)]) == 0
        found = capsys.readouterr().out.splitlines()
        assert [line if "──" in line else "".join(line.split()) for line in found[:-1]] == expected[:-1]
        assert found[-1].endswith(expected[-1])


def test_classes_numbers_and_several_classes_are_shown(tmp_path: Path, capsys: Captured) -> None:
    model = save_folder(tmp_path / "model", "bert")
    for more, label, shown in (
        ([], "b", ", label b"), (["--num-labels", "1"], 0.5, ", label 0.5"),
        (["--problem-type", "multi_label_classification"], ["a", "c"], ", labels a, c"),
        (["--problem-type", "multi_label_classification"], [], ", labels none"),
    ):  # fmt: skip
        other = ["b"] if isinstance(label, list) else label
        file = lines(tmp_path / "x.jsonl", [{"text": "film", "label": label}, {"text": "plot", "label": other}])
        command = ["show-data", "--task", "classification", "--model", model, *more, "--examples", "1", file]
        assert main(command) == 0
        printed = capsys.readouterr().out
        assert printed.splitlines()[0].endswith(f"tokens{shown}") and "── example 2" not in printed


def test_images_are_drawn(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((2, 8, 12), np.uint8)
    image[:, 1, 2], image[:, 2, 3:5], image[1, 0, :] = 255, 127, 255
    np.savez(tmp_path / "x.npz", images=image, labels=["dot", "bar"])
    command = ["show-data", "--task", "image-classification", "--model", save_vit(tmp_path / "model")]
    assert main([*command, str(tmp_path / "x.npz")]) == 0
    found = capsys.readouterr().out.splitlines()
    assert found[:4] == ["── example 1: 1 × 8 × 12, label dot", "", "    @@", "      ===="]
    assert found[9:12] == ["── example 2: 1 × 8 × 12, label bar", "@" * 24, "    @@"]
    assert found[-1] == f"── {tmp_path / 'x.npz'}: 2 examples"
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main([*command, str(tmp_path / "x.npz")]) == 0
    assert "38;2;127;127;127;48;2;127;127;127m▀" in capsys.readouterr().out


def test_a_large_image_is_drawn_smaller() -> None:
    image = np.arange(2 * 128 * 256, dtype=float).reshape(2, 128, 256)
    found = [*drawn(image, False)]
    assert len(found) == 16 and {len(line) for line in found[2:]} == {64}
    means = image.mean(axis=0).reshape(16, 8, 64, 4).mean(axis=(1, 3)) / image.max()
    assert found == ["".join(" .:-=+*#%@"[round(shade * 9)] for shade in row).rstrip() for row in means]
    assert [*drawn(np.full((1, 2, 2), 7.0), False)] == ["", ""]
    (line,) = drawn(np.array([[[0.0], [1.0]], [[0.5], [0.0]], [[1.0], [0.2]]]).repeat(33, axis=2), True)
    assert line == "\033[38;2;0;128;255;48;2;255;0;51m▀" * 33 + "\033[0m"
    (line,) = drawn(np.array([[[0.0], [1.0]], [[0.4], [1.0]]]).repeat(33, axis=2), True)  # two channels are greys
    assert line == "\033[38;2;51;51;51;48;2;255;255;255m▀" * 33 + "\033[0m"
