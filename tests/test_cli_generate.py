"""npora generate: the text that the model's ids say, as they come."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, LoraConfig, PeftModel, get_peft_model
from npora.cli import main
from npora.commands.writing import TextPrinter
from npora.models import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration
from tests.tiny import spread


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A tiny GPT-2 over bytes, with its tokenizer; id 256 ends a text."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    config = GPT2Config(vocab_size=257, n_positions=64, n_embd=6, n_layer=1, n_head=2, n_inner=7, eos_token_id=256)
    directory = tmp_path / "model"
    spread(GPT2LMHeadModel(config, rng=0), seed=1).save_pretrained(directory)
    backend.save(str(directory / "tokenizer.json"))
    return str(directory)


def text_of(model: str, prompt: str, base: Any = None, **options: Any) -> str:
    """What the library's own generate says."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    base = base or AutoModelForCausalLM.from_pretrained(model)
    ids = base.generate(tokenizer([prompt], return_tensors="np")["input_ids"], tokenizer=tokenizer, **options)
    return str(tokenizer.decode(ids[0], skip_special_tokens=True)) + "\n"


def options_of(words: str) -> dict[str, Any]:
    return {
        "": {},
        "--max-new-tokens 7": {"max_new_tokens": 7},
        "--num-beams 3 --length-penalty 0.5 --early-stopping": {
            "num_beams": 3, "length_penalty": 0.5, "early_stopping": True
        },
        "--do-sample --seed 4 --temperature 0.7 --top-k 9 --top-p 0.8": {
            "do_sample": True, "seed": 4, "temperature": 0.7, "top_k": 9, "top_p": 0.8
        },
        "--no-cache --eos-token-id 65 --eos-token-id 66": {"use_cache": False, "eos_token_id": [65, 66]},
        "--do-sample --seed 4 --min-p 0.02": {"do_sample": True, "seed": 4, "min_p": 0.02},
        "--repetition-penalty 1.4 --no-repeat-ngram-size 2 --min-new-tokens 9": {
            "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 9
        },
        "--stop To --stop b --max-new-tokens 50": {"stop_strings": ["To", "b"], "max_new_tokens": 50},
    }[words]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    ["", "--max-new-tokens 7", "--num-beams 3 --length-penalty 0.5 --early-stopping",
     "--do-sample --seed 4 --temperature 0.7 --top-k 9 --top-p 0.8", "--no-cache --eos-token-id 65 --eos-token-id 66",
     "--do-sample --seed 4 --min-p 0.02", "--repetition-penalty 1.4 --no-repeat-ngram-size 2 --min-new-tokens 9",
     "--stop To --stop b --max-new-tokens 50"],
)  # fmt: skip
def test_generate_prints_what_the_model_generates(model: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--model", model, *words.split(), "To be"]) == 0
    printed = capsys.readouterr().out
    assert printed == text_of(model, "To be", **options_of(words)) and printed.startswith("To be")


def test_generate_reads_standard_input(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Two\nlines\n"))
    assert main(["generate", "--model", model]) == 0
    assert capsys.readouterr().out == text_of(model, "Two\nlines")


def test_generate_takes_an_adapter_or_the_folder_around_it(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peft_model = get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(r=2, task_type="CAUSAL_LM"))
    spread_adapter(peft_model)
    peft_model.save_pretrained(tmp_path / "out" / "adapter")
    expected = text_of(model, "To be", peft_model)
    assert expected != text_of(model, "To be")
    for directory in (tmp_path / "out", tmp_path / "out" / "adapter"):
        assert main(["generate", "--model", model, "--adapter", str(directory), "To be"]) == 0
        assert capsys.readouterr().out == expected


def test_an_encoder_decoder_answers(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = T5Config(
        vocab_size=257,
        d_model=6,
        d_kv=3,
        num_heads=2,
        d_ff=7,
        num_layers=1,
        decoder_start_token_id=256,
        eos_token_id=255,
    )
    directory = tmp_path / "t5"
    spread(T5ForConditionalGeneration(config, rng=0), seed=1).save_pretrained(directory)
    shutil.copy(Path(model) / "tokenizer.json", directory)
    assert main(["generate", "--model", str(directory), "To be"]) == 0
    printed = capsys.readouterr().out
    assert printed == text_of(str(directory), "To be", AutoModelForSeq2SeqLM.from_pretrained(directory))
    assert printed.strip() and "To be" not in printed


def spread_adapter(model: PeftModel) -> None:
    rng = np.random.default_rng(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = rng.standard_normal(parameter.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([""], "there is no text to continue"), (["--top-p", "2", "--do-sample", "a"], "top_p must lie in [0, 1]"),
     (["--adapter", "nowhere", "a"], "nowhere"), (["a" * 65], "the prompt has 65 tokens, and this model takes at most"),
     (["--eos-token-id", "257", "a"], "--eos-token-id 257: the ids of this model are 0 … 256"),
     (["--eos-token-id", "-1", "a"], "--eos-token-id -1: the ids")],
)  # fmt: skip
def test_an_error_is_one_line(
    model: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--model", model, *arguments]) == 2
    printed, error = capsys.readouterr()
    assert not printed and message in error and error.count("\n") == 1 and error.startswith("npora: ")


@pytest.mark.parametrize(
    ("given", "prompt"),
    [(["--max-new-tokens", "70"], 3), (["--max-new-tokens", "70", "--num-beams", "2"], 3), ([], 60),
     (["--max-new-tokens", "2"], 64)],
)  # fmt: skip
def test_a_text_ends_where_the_positions_of_the_model_do(
    model: str, given: list[str], prompt: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"num_beams": 2} if "--num-beams" in given else {}
    expected = text_of(model, "a" * prompt, max_new_tokens=65 - prompt, **options)
    assert main(["generate", "--model", model, *given, "a" * prompt]) == 0
    printed, said = capsys.readouterr()
    assert printed == expected
    assert f"at most 64 tokens: the text ends after {65 - prompt} new ones, if not before" in said


def test_of_several_prompts_the_longest_says_how_much_room_there_is(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (prompts := tmp_path / "p.txt").write_text("aa\n" + "a" * 60 + "\na\n")
    assert main(["generate", "--model", model, "--max-new-tokens", "7", "--prompts", str(prompts)]) == 0
    assert "at most 64 tokens: the text ends after 5 new ones, if not before" in capsys.readouterr().err


def test_an_option_of_beams_is_taken_where_the_model_itself_says_that_there_are_some(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(model, "generation_config.json").write_text('{"num_beams": 2, "eos_token_id": 256}')
    assert main(["generate", "--model", model, "--length-penalty", "0.5", "aa"]) == 0
    assert capsys.readouterr().out == text_of(model, "aa", num_beams=2, length_penalty=0.5)


def test_a_text_within_the_positions_of_the_model_ends_as_it_does(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--model", model, "--max-new-tokens", "62", "aaa"]) == 0
    printed, said = capsys.readouterr()
    assert printed == text_of(model, "aaa", max_new_tokens=62) and not said


def test_a_character_is_printed_when_its_last_token_has_come(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    printer = TextPrinter(tokenizer)
    ids = tokenizer("aé€b")["input_ids"]
    assert len(ids) == 1 + 2 + 3 + 1
    printed = []
    for i in ids[:-1]:
        printer.put(np.array([i]))
        printed.append(capsys.readouterr().out)
    assert printed == ["a", "", "é", "", "", "€"]
    printer.put(np.array([[ids[-1], 256, ids[1]]]))  # ends within a character, after a token that is not shown
    printer.end()
    assert capsys.readouterr().out == "b�\n"
