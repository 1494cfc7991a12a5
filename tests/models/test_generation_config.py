"""generation_config.json: generate does what it says unless the caller says otherwise, or refuses what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LoraConfig, get_peft_model
from npora.models.generate.generation_config import GenerationConfig, chosen_options, text_end, text_ends
from tests.models.test_generation_families import FAMILIES

PROMPT = np.array([[3, 8, 5]])


def model_that_says(directory: Path, family: str = "gpt2", config: dict[str, Any] | None = None, **said: Any) -> Any:
    FAMILIES[family]().save_pretrained(directory)
    if said:
        (directory / "generation_config.json").write_text(json.dumps(said))
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": None, **(config or {})}))
    auto = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
    return auto.from_pretrained(directory)


def new(model: Any, **options: Any) -> list[int]:
    return [int(i) for i in model.generate(PROMPT, **options)[0, PROMPT.shape[1] :]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return model_that_says(tmp_path_factory.mktemp("plain"))


def test_the_file_says_what_the_caller_does_not(tmp_path: Path, plain: Any) -> None:
    said = {"max_new_tokens": 4, "do_sample": True, "temperature": 0.7, "top_k": 3, "top_p": 0.9}
    model = model_that_says(tmp_path, **said)
    assert new(model, seed=5) == new(plain, seed=5, **said)
    assert new(model, do_sample=False, max_new_tokens=5) == new(plain, max_new_tokens=5)
    assert new(model, seed=5, top_k=1) == new(plain, max_new_tokens=4)
    beams = model_that_says(tmp_path, num_beams=3, max_new_tokens=4, length_penalty=2.0, early_stopping=True)
    assert new(beams) == new(plain, num_beams=3, max_new_tokens=4, length_penalty=2.0, early_stopping=True)


def test_every_one_of_several_ends_ends_a_text(tmp_path: Path, plain: Any) -> None:
    free = new(plain, max_new_tokens=8)
    model = model_that_says(tmp_path, eos_token_id=[30, free[2]], max_new_tokens=8, config={"eos_token_id": free[0]})
    assert new(model) == free[: free.index(free[2]) + 1]
    assert new(model, eos_token_id=[]) == free
    assert new(model, eos_token_id=free[0]) == free[:1]
    model.generation_config.eos_token_id = None  # the config's own
    assert new(model) == free[:1]


def test_max_length_counts_the_prompt_and_max_new_tokens_wins(tmp_path: Path, plain: Any) -> None:
    for said, asked, count in (
        ({"max_length": 7}, {}, 4), ({"max_length": 7, "max_new_tokens": 2}, {}, 2), ({}, {"max_length": 5}, 2),
        ({"max_length": 7}, {"max_new_tokens": 6}, 6), ({"max_new_tokens": 2}, {"max_length": 6}, 3), ({}, {}, None),
    ):  # fmt: skip
        model = model_that_says(tmp_path, **said)
        if count is not None:
            assert len(new(model, **asked)) == count
    with pytest.raises(ValueError, match="max_length=3 counts the prompt, which has 3 tokens"):
        plain.generate(PROMPT, max_length=3)


def test_an_encoder_decoder_begins_with_the_token_that_the_file_says(tmp_path: Path) -> None:
    model = model_that_says(tmp_path, "t5", decoder_start_token_id=7, max_length=5)
    ids = model.generate(PROMPT)
    assert ids[0, 0] == 7 and ids.shape == (1, 5)
    assert model.generate(PROMPT, decoder_start_token_id=4)[0, 0] == 4


def test_without_the_file_the_older_fields_of_the_config_hold(tmp_path: Path, plain: Any) -> None:
    model = model_that_says(tmp_path / "a", config={"max_length": 6, "num_beams": 2, "task_specific_params": {"x": 1}})
    assert new(model) == new(plain, max_new_tokens=3, num_beams=2)
    strict = model_that_says(tmp_path / "b", config={"diversity_penalty": 3.0})
    with pytest.raises(ValueError, match=r"diversity_penalty=3\.0"):
        strict.generate(PROMPT)
    file_wins = model_that_says(tmp_path / "c", config={"max_length": 6}, max_new_tokens=2)
    assert len(new(file_wins)) == 2


@pytest.mark.parametrize(
    ("name", "value", "nothing"),
    [
        ("encoder_no_repeat_ngram_size", 2, 0), ("eta_cutoff", 0.1, 0.0), ("penalty_alpha", 0.6, None),
        ("num_beam_groups", 2, 1), ("exponential_decay_length_penalty", [3, 1.5], None), ("guidance_scale", 2.0, None),
        ("force_words_ids", [[4]], []),
    ],
)  # fmt: skip
def test_what_generate_cannot_do_is_refused_when_it_generates(
    tmp_path: Path, plain: Any, name: str, value: Any, nothing: Any
) -> None:
    model = model_that_says(tmp_path, **{name: value})
    with pytest.raises(ValueError, match=f"this model's generation config says {name}=.* pass {name}="):
        model.generate(PROMPT)
    assert new(model, **{name: nothing}) == new(plain)
    with pytest.raises(ValueError, match=f"{name}=.* is not supported by npora"):
        plain.generate(PROMPT, **{name: value})
    idle = model_that_says(tmp_path, **{name: nothing, "transformers_version": "4.40", "_from_model_config": True})
    assert new(idle) == new(plain)


def test_keywords_that_are_none_ask_for_nothing_and_a_config_is_told_its_place(plain: Any) -> None:
    nothing = dict.fromkeys(("generation_config", "stopping_criteria", "logits_processor", "assistant_model"))
    assert (plain.generate(PROMPT, **nothing) == plain.generate(PROMPT)).all()
    with pytest.raises(ValueError, match=r"generation_config=.* pass its fields by name"):
        plain.generate(PROMPT, generation_config=GenerationConfig(num_beams=2))


@pytest.mark.parametrize("end", ["3", 3.0, True, [3, "7"]])
def test_a_token_that_is_named_by_no_number_is_refused(tmp_path: Path, plain: Any, end: Any) -> None:
    with pytest.raises(ValueError, match="eos_token_id must be a token's number; got"):
        plain.generate(PROMPT, eos_token_id=end)
    plain.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    with pytest.raises(ValueError, match="eos_token_id must be a token's number; got"):
        AutoModelForCausalLM.from_pretrained(tmp_path).generate(PROMPT)


def test_an_unknown_option_is_an_error_that_lists_near_names(plain: Any) -> None:
    with pytest.raises(
        TypeError, match=r"generate\(\) got an unexpected keyword argument 'max_new_token'.*max_new_tokens"
    ):
        plain.generate(PROMPT, max_new_token=3)


def test_what_is_said_can_be_assigned_and_is_written_again(tmp_path: Path) -> None:
    model = model_that_says(tmp_path / "a", eos_token_id=[4, 5], repetition_penalty=1.1, own={"x": 1})
    model.generation_config.max_new_tokens = 3
    model.generation_config.repetition_penalty = 1.0
    model.save_pretrained(tmp_path / "b")
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    assert again.generation_config == model.generation_config
    assert again.generation_config.to_dict() == {
        "eos_token_id": [4, 5], "repetition_penalty": 1.0, "own": {"x": 1}, "max_new_tokens": 3
    }  # fmt: skip
    assert len(new(again, eos_token_id=[])) == 3
    assert again.generation_config.num_beams is None
    with pytest.raises(AttributeError, match="has no field 'num_beems'"):
        _ = again.generation_config.num_beems


def test_a_model_that_says_nothing_writes_no_file(tmp_path: Path, plain: Any) -> None:
    plain.save_pretrained(tmp_path)
    assert not (tmp_path / "generation_config.json").exists()
    assert GenerationConfig() == plain.generation_config


def test_a_config_of_older_fields_that_say_nothing_says_nothing(tmp_path: Path) -> None:
    model = model_that_says(tmp_path / "a", config={"max_length": None, "bad_words_ids": None, "num_beams": None})
    assert model.generation_config.to_dict() == {}
    model.save_pretrained(tmp_path / "b")
    assert not (tmp_path / "b" / "generation_config.json").exists()


def test_what_ends_a_text_is_what_generate_stops_at(tmp_path: Path) -> None:
    tokenizer = SimpleNamespace(eos_token_id=6)
    says = model_that_says(tmp_path / "a", eos_token_id=[4, 6], config={"eos_token_id": 5})
    configured = model_that_says(tmp_path / "b", config={"eos_token_id": 5})
    silent = model_that_says(tmp_path / "c")
    adapted = get_peft_model(says, LoraConfig(r=2))
    for model, ends, end in ((says, [4, 6], 6), (configured, [5], 5), (silent, [6], 6), (adapted, [4, 6], 6)):
        assert text_ends(model, tokenizer) == ends and text_end(model, tokenizer) == end
    assert text_ends(silent) == [] and text_end(says) == 4
    with pytest.raises(ValueError, match="name a token that ends a text"):
        text_end(silent, SimpleNamespace(eos_token_id=None))


def test_limits_hold_whoever_sets_them() -> None:
    model: Any = FAMILIES["gpt2"]()
    free = new(model, max_new_tokens=6, eos_token_id=[])
    assert new(model, max_length=5, eos_token_id=[]) == free[:2]
    assert new(model, max_length=4, eos_token_id=[]) == free[:1]
    assert new(model, max_length=4, max_new_tokens=3, eos_token_id=[]) == free[:3]
    for length in (2, 3):
        with pytest.raises(ValueError, match=f"max_length={length} counts the prompt, which has 3 tokens"):
            new(model, max_length=length)
    for name in ("max_length", "max_new_tokens"):
        for number in (0, -1, 2.5):
            with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
                new(model, **{name: number})


def test_the_fill_is_the_configs_own_or_the_first_end() -> None:
    prompts = np.array([[3, 8, 5], [9, 1, 2]])
    for pad, said, expected in ((7, None, 7), (None, 6, 6), (7, 6, 6), (None, None, None)):
        model: Any = FAMILIES["gpt2"]()
        model.config.pad_token_id, model.generation_config = pad, GenerationConfig(pad_token_id=said)
        free = model.generate(prompts, max_new_tokens=3, eos_token_id=[])
        ends = [int(free[0, 3]), 30]
        ids = model.generate(prompts, max_new_tokens=3, eos_token_id=ends)
        if ends[0] not in free[1, 3:]:
            assert ids[0, 4:].tolist() == [ends[0] if expected is None else expected] * 2


def test_a_decoder_begins_with_what_is_asked_said_or_configured() -> None:
    model: Any = FAMILIES["t5"]()
    model.config.decoder_start_token_id = 3
    assert model.generate(PROMPT, max_new_tokens=1)[0, 0] == 3
    model.generation_config = GenerationConfig(decoder_start_token_id=5)
    assert model.generate(PROMPT, max_new_tokens=1)[0, 0] == 5
    assert model.generate(PROMPT, max_new_tokens=1, decoder_start_token_id=8)[0, 0] == 8
    model.generation_config, model.config.decoder_start_token_id = None, None
    with pytest.raises(ValueError, match="no decoder_start_token_id"):
        model.generate(PROMPT, max_new_tokens=1)


def test_what_is_not_said_is_what_transformers_does() -> None:
    said = {name: value for name, value in chosen_options(GenerationConfig(), {}).items() if value is not None}
    assert said == {
        "max_new_tokens": 20, "do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "num_beams": 1,
        "use_cache": True, "length_penalty": 1.0, "early_stopping": False, "num_return_sequences": 1,
        "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "typical_p": 1.0, "epsilon_cutoff": 0.0,
        "renormalize_logits": False,
    }  # fmt: skip


IDLE = {"diversity_penalty": 0, "encoder_no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1, "eta_cutoff": 0,
        "guidance_scale": 1, "num_beam_groups": 1, "penalty_alpha": 0}  # fmt: skip


@pytest.mark.parametrize("name", IDLE)
def test_what_is_not_done_may_be_asked_for_by_what_does_nothing(name: str) -> None:
    chosen_options(GenerationConfig(), {name: IDLE[name]})
    with pytest.raises(ValueError, match=f"{name}=2 is not supported by npora"):
        chosen_options(GenerationConfig(), {name: 2})


LEAST = {"max_new_tokens": 1, "max_length": 1, "num_beams": 1, "num_return_sequences": 1, "no_repeat_ngram_size": 0,
         "min_length": 0, "min_new_tokens": 0}  # fmt: skip


@pytest.mark.parametrize("name", LEAST)
def test_a_count_has_a_least_value(name: str) -> None:
    assert chosen_options(GenerationConfig(), {name: LEAST[name]})[name] == LEAST[name]
    for value in (LEAST[name] - 1, 1.5):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least {LEAST[name]}; got {value}"):
            chosen_options(GenerationConfig(), {name: value})
