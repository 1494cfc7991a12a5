"""Conversations from a file to an answer: finetune, generate, evaluate and chat."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from npora import AutoTokenizer
from npora.cli import main
from npora.commands.chat import Conversation
from npora.commands.loading import Loaded
from npora.commands.tasks import TASKS
from npora.files import read_json, write_json
from npora.lora import read_record
from tests.chat_templates import dialogue
from tests.tiny_folders import WORDS, save_folder

Captured = pytest.CaptureFixture[str]
TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + {'assistant': 'a', 'user': 'the', 'system': 'very'}[m.role] + ' ' + m.content }}"
    "{{ ' </s>\\n' }}{% endfor %}{{ '<s>a ' if add_generation_prompt }}"
)
PAIRS = {"film": "good", "plot": "bad"}
CHATS = [dialogue(question, answer) for question, answer in PAIRS.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model, and an adapter that learnt its chats."""
    place = tmp_path_factory.mktemp("chats")
    model = chat_model(place)
    assert finetune(model, place / "chats.jsonl", place / "out", "--max-steps", "60", "--learning-rate", "5e-2") == 0
    return place


def chat_model(place: Path) -> str:
    """A tiny Llama with a template, and chats in a file."""
    pytest.importorskip("jinja2", reason="needs the extra `hf`")
    model = save_folder(place / "model", "llama", max_position_embeddings=40)
    settings = read_json(place / "model" / "tokenizer_config.json")
    write_json(place / "model" / "tokenizer_config.json", settings | {"chat_template": TEMPLATE})
    lines(place / "chats.jsonl", [{"messages": chat} for chat in CHATS])
    return model


def lines(path: Path, examples: list[Any]) -> str:
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return str(path)


def finetune(model: str, train: Path | str, output: Path, *more: str) -> int:
    return main(
        ["finetune", "--task", "causal-lm", "--model", model, "--train", str(train), "--output", str(output),
         "--target-modules", "all-linear", "--lora-dropout", "0", "--save-strategy", "no", *more]
    )  # fmt: skip


def talked(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, typed: str, *more: str) -> tuple[str, str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
    capsys.readouterr()
    assert main(["chat", "--adapter", str(folder / "out"), *more]) == 0
    found = capsys.readouterr()
    return found.out, found.err


def test_the_adapter_knows_columns_template_and_end(folder: Path) -> None:
    notes = read_record(str(folder / "out" / "adapter"))["notes"]
    assert notes["columns"] | {"text": "messages", "conversational": True} == notes["columns"]
    assert notes["chat_template"] == TEMPLATE and notes["end_token_ids"] == [WORDS.index("</s>")]


def test_what_was_taught_is_answered_and_measured(folder: Path, capsys: Captured) -> None:
    taken = ["--adapter", str(folder / "out")]
    for question, answer in PAIRS.items():
        capsys.readouterr()
        assert main(["generate", *taken, question]) == 0
        assert capsys.readouterr().out == f"{answer}\n"
    assert main(["generate", *taken, "--no-stream", "film"]) == 0
    assert capsys.readouterr().out == "good\n"
    assert main(["generate", *taken, "--no-chat", "--max-new-tokens", "1", "film"]) == 0
    assert capsys.readouterr().out.startswith("film")
    assert main(["evaluate", *taken, str(folder / "chats.jsonl")]) == 0
    figures = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(figures["perplexity"]) < 1.2 and figures["examples"] == "2"


def test_a_template_of_ones_own_reaches_everything(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = TEMPLATE.replace("</s>", "red <s>")  # at which the model does not stop by itself
    (tmp_path / "own.jinja").write_text(own)
    chats, model = str(folder / "chats.jsonl"), str(folder / "model")
    more = ("--chat-template-path", str(tmp_path / "own.jinja"), "--max-steps", "60", "--learning-rate", "5e-2")
    assert finetune(model, chats, tmp_path / "out", *more) == 0
    notes = read_record(str(tmp_path / "out" / "adapter"))["notes"]
    assert notes["chat_template"] == own and notes["end_token_ids"] == [WORDS.index("<s>")]
    assert talked(tmp_path, capsys, monkeypatch, "plot\n")[0] == "bad red\n"
    assert main(["generate", "--adapter", str(tmp_path / "out"), "plot"]) == 0
    assert capsys.readouterr().out == "bad red\n"
    for name, command in {"merged": ["merge"], "exported": ["export", "--to", "hf"]}.items():
        assert main([*command, "--adapter", str(tmp_path / "out"), "--output", str(tmp_path / name)]) == 0
        ends = read_json(tmp_path / name / "generation_config.json")["eos_token_id"]
        assert ends == [WORDS.index("<s>"), WORDS.index("</s>")]
        capsys.readouterr()
        assert main(["generate", "--chat", "--model", str(tmp_path / name), "plot"]) == 0
        assert capsys.readouterr().out == "bad red\n"
    plain = save_folder(tmp_path / "plain", "llama")
    for template in (("--chat-template-path", model), ()):
        capsys.readouterr()
        assert main(["show-data", "--model", plain, *template, chats]) == (0 if template else 2)
    assert f"{plain} has no chat template" in capsys.readouterr().err
    file = lines(tmp_path / "texts.jsonl", [{"text": "film"}])
    for command in (["show-data", "--model", model, "--chat-template-path", model, file],
                    ["generate", "--model", model, "--chat-template-path", model, "film"]):  # fmt: skip
        assert main(command) == 2
    assert "--chat-template-path is for conversations, and" in (error := capsys.readouterr().err)
    assert "--chat-template-path needs --chat" in error


def test_many_prompts_are_answered_as_each_alone(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    taken = ["generate", "--adapter", str(folder / "out"), "--prompts"]
    (tmp_path / "p.txt").write_text("film\n\nthe very red plot\nplot\n")
    chats = [{"messages": dialogue("film", "x")}, {"messages": dialogue("film", "good", "plot")}]
    for file in (str(tmp_path / "p.txt"), lines(tmp_path / "p.jsonl", chats)):
        capsys.readouterr()
        assert main([*taken, file, "--batch-size", "2"]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert main([*taken, file, "--batch-size", "1"]) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == found
        assert found[0]["text"] == "good"
    assert [one["prompt"] for one in found] == [dialogue("film"), dialogue("film", "good", "plot")]
    questions = lines(tmp_path / "q.jsonl", [{"prompt": "film"}, {"prompt": "plot"}])
    for column in ((), ("--prompt-column", "prompt")):
        assert main([*taken, questions, *column]) == 0
        assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["good", "bad"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--prompts", "p.txt", "film"], "--prompts p.txt and the prompt 'film': choose one"),
        (["--prompts", "p.txt", "--stream"], "--prompts writes several at once: choose one"),
        (["--prompts", "p.txt", "--batch-size", "0"], "--batch-size must be at least 1; got 0"),
        (["--prompts", "p.txt", "--prompt-column", "x"], "--prompt-column: p.txt has no columns"),
        (["--prompts", "empty.txt"], "empty.txt has no prompts"),
        (["--prompts", "space.jsonl", "--no-chat"], "space.jsonl: prompt 2 is empty"),
        (["--prompts", "chats.jsonl", "--no-chat"], "chats.jsonl has conversations: pass --chat"),
        (["--batch-size", "3", "film"], "--batch-size needs --prompts"),
        (["--stream", "--num-beams", "2", "film"], "--stream needs --num-beams 1"),
        ([""], ""),
    ],
)
def test_what_generate_cannot_do_is_said(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "p.txt").write_text("film\n")
    (folder / "empty.txt").write_text("\n")
    lines(folder / "space.jsonl", [{"prompt": "film"}, {"prompt": " "}])
    assert main(["generate", "--adapter", "out", *arguments]) == (2 if message else 0)
    assert message in capsys.readouterr().err


def test_what_is_written_is_compared_with_what_should_be(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    asked = [*CHATS, dialogue("film", "bad"), dialogue("plot", "good plot"), dialogue("film"), dialogue("", "good")[1:]]
    file = lines(tmp_path / "x.jsonl", [{"messages": chat} for chat in asked])
    wanted = ["--metrics", "rouge-l, bleu,exact-match,perplexity", "--predictions", str(tmp_path / "found.jsonl")]
    capsys.readouterr()
    assert main(["evaluate", "--adapter", str(folder / "out"), "--batch-size", "3", *wanted, file]) == 0
    printed = capsys.readouterr()
    figures = {name: float(value) for name, value in map(str.split, printed.out.splitlines())}
    assert "x.jsonl: 2 of 6 conversations do not end with a text of the assistant, and are left out" in printed.err
    assert figures["rouge-l"] == figures["exact-match"] == 0.5 and figures["bleu"] == 0  # no text has four words
    assert {*figures} == {"rouge-l", "exact-match", "bleu", "perplexity", "loss", "examples"}
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [(one["text"], one["reference"]) for one in found] == [
        ("good", "good"), ("bad", "bad"), ("good", "bad"), ("bad", "good plot"),
    ]  # fmt: skip
    assert found[0]["prompt"] == dialogue("film")
    prompts = lines(tmp_path / "p.jsonl", [{"prompt": "film", "sentence": "a"}])
    for model in (("--model", str(folder / "model")), ("--model", save_folder(tmp_path / "t5", "t5"))):
        options = ["--metrics", "exact-match", "--prompt-column", "prompt", "--max-new-tokens", "2"]
        assert main(["evaluate", *model, *options, prompts]) == 0
        assert capsys.readouterr().out.split() == ["exact-match", "0.0000", "examples", "1"]


def test_what_is_measured_is_written_greedily_whatever_the_model_says_of_itself(tmp_path: Path) -> None:
    model = save_folder(tmp_path / "t5", "t5")
    prompts = lines(tmp_path / "p.jsonl", [{"prompt": "film", "sentence": "a"}])
    wanted = ["--metrics", "bleu", "--prompt-column", "prompt", "--max-new-tokens", "12", "--predictions"]
    for name in ("one", "other"):
        assert main(["evaluate", "--model", model, *wanted, str(tmp_path / name), prompts]) == 0
        said = {"do_sample": True, "temperature": 9.0, "num_beams": 2, "decoder_start_token_id": 0}
        Path(model, "generation_config.json").write_text(json.dumps(said))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--metrics", "rouge"], "--metrics: there is no 'rouge'; there are rouge-l, bleu, exact-match, perplexity"),
        (["--metrics", "perplexity", "--predictions", "x"], "--predictions needs --metrics with one of rouge-l, bleu"),
        (["--metrics", "bleu", "--predictions", "lost/x"], "npora: lost/x: "),
        (["--max-new-tokens", "3"], "--max-new-tokens needs --metrics with one of rouge-l, bleu, exact-match"),
        (["--metrics", "bleu"], "texts.jsonl has texts without prompts: there is nothing to answer, and bleu measures"),
        (["--metrics", "bleu", "asked.jsonl"], "asked.jsonl: no conversation ends with a text of the assistant, with"),
    ],
)
def test_what_cannot_be_measured_is_said(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    lines(folder / "texts.jsonl", [{"text": "film"}])
    lines(folder / "asked.jsonl", [{"messages": dialogue("film")}])
    file = [] if options[-1].endswith(".jsonl") else ["texts.jsonl"]
    assert main(["evaluate", "--model", "model", *options, *file]) == 2
    assert message in capsys.readouterr().err


def test_a_conversation_through_a_pipe(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = " film \n\nplot\n/reset\nplot\n/what\n/exit\nfilm\n"
    out, err = talked(folder, capsys, monkeypatch, typed)
    first, second, third = out.splitlines()
    assert (first, third) == ("good", "bad")
    assert err == "there is no /what: /reset, /system TEXT, /exit\n"
    assert talked(folder, capsys, monkeypatch, "film\nplot")[0] == f"good\n{second}\n"


def test_a_model_sees_all_that_was_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, seen = conversation(folder, monkeypatch, system="red")
    talk.answer("film")
    talk.answer("plot")
    assert seen[1] == [*seen[0], *ids_of("green </s> <s> the plot </s> <s> a")]
    assert seen[0] == ids_of("<s> very red </s> <s> the film </s> <s> a")
    talk.reset()
    talk.answer("plot")
    assert seen[2] == ids_of("<s> very red </s> <s> the plot </s> <s> a")


def test_where_the_places_of_the_model_end_the_oldest_is_forgotten(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    talk, seen = conversation(folder, monkeypatch, places=20, chosen={"max_new_tokens": 4})
    for _ in range(3):
        talk.answer("film")
    assert seen[2] == seen[1] and len(seen[1]) == 14  # and not 22
    assert capsys.readouterr().err == "the model takes 20 tokens: the oldest question and its answer are forgotten\n"
    talk.reset()
    with pytest.raises(ValueError, match="what was said has 23 tokens, and this model takes 20"):
        talk.answer("film " * 18)
    assert talk.messages == []


def test_an_answer_that_is_stopped_is_remembered_as_far_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    talk, _ = conversation(folder, monkeypatch, stopped=True)
    talk.answer("film")
    assert talk.messages == dialogue("film", "green") and capsys.readouterr().out.strip() == "green"


def ids_of(words: str) -> list[int]:
    return [WORDS.index(word) for word in words.split()]


def conversation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, places: int = 99, stopped: bool = False, **options: Any
) -> tuple[Conversation, list[list[int]]]:
    """One with a model that says "green" to everything, and the prompts that it is given."""
    seen: list[list[int]] = []

    class Model:
        class config:
            named_length = places

        def generate(self, ids: list[list[int]], streamer: Any, **options: Any) -> None:
            seen.append(list(ids[0]))
            for part in (ids[0], *([n] for n in ids_of("green")), *([] if stopped else [ids_of("</s>")])):
                streamer.put(part)
            if stopped:
                raise KeyboardInterrupt
            streamer.end()

    loaded = Loaded(TASKS["causal-lm"], Model(), str(folder / "model"))
    loaded.__dict__["tokenizer"] = AutoTokenizer.from_pretrained(folder / "model")
    return Conversation(loaded, options.pop("chosen", {"max_new_tokens": 1}), **options), seen
