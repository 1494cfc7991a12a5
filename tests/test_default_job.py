"""What `npora finetune` does without arguments, with a small model and a few steps."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import PeftModel
from npora.cli import main
from npora.commands import default_job
from npora.commands.default_job import Recipe, bits_per_byte, pretrained, run
from npora.lora.methods.lora import LoRA
from npora.models import GPT2Config, GPT2LMHeadModel

SMALL = Recipe(
    width=12, layers=1, heads=3, train_bytes=20_000, held_out_bytes=3_000, pretraining_steps=4, steps=6, r=3
)  # fmt: skip
PRETRAINING, ADAPTING = "pretraining a GPT-2", "adapting it"


@pytest.fixture(scope="module", autouse=True)
def library_is_read_once() -> Iterator[None]:
    """tests/data reads it again and again; here it is the same text each time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("stdlib_prose", "stdlib_source"):
            patch.setattr(default_job, name, functools.cache(getattr(default_job, name)))
        yield


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has the base model."""
    cache = tmp_path_factory.mktemp("cache")
    pretrained(cache, SMALL)
    return cache


@pytest.fixture
def cache(kept: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    copy = tmp_path / "cache" / folder(kept).name
    copy.mkdir(parents=True)
    for file in folder(kept).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return tmp_path / "cache"


def folder(cache: Path) -> Path:
    (only,) = cache.iterdir()
    return only


def state(model: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def test_the_job_shows_what_lora_changes_and_what_it_does_not(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run(str(tmp_path), seed=5, cache=kept, recipe=SMALL)
    printed = capsys.readouterr()
    assert PRETRAINING not in printed.err and ADAPTING in printed.err
    assert figures["off"] == figures["before"] != figures["after"]  # to the last bit
    assert figures["after"]["source"] < figures["before"]["source"]
    assert figures["sha256_before"] == figures["sha256_after"]
    assert printed.out.count(figures["sha256_before"]) == 2
    assert 0 < figures["merged_difference"] <= figures["merged_bound"]  # two orders of products, and not one twice
    assert 0 < figures["trainable"] < figures["all"]
    for key in ("before", "after", "off"):
        assert f"{figures[key]['prose']:.4f}" in printed.out and f"{figures[key]['source']:.4f}" in printed.out
    assert printed.out.count("goes on from 'def '") == 2
    saved = tmp_path / "adapter" / "adapter_model.safetensors"
    assert figures["adapter_bytes"] > saved.stat().st_size > 4 * figures["trainable"]


def test_the_adapter_loads_onto_the_base_model_and_gives_the_same_bits_per_byte(kept: Path, tmp_path: Path) -> None:
    figures = run(str(tmp_path), seed=5, cache=kept, recipe=SMALL)
    texts, base = pretrained(kept, SMALL)
    model = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert {kind: bits_per_byte(model, text[-3_000:]) for kind, text in texts.items()} == figures["after"]


def test_the_same_seed_gives_the_same_adapter(kept: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(str(tmp_path / name), seed=seed, cache=kept, recipe=SMALL)
    a, b, c = ((tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_the_base_model_is_pretrained_once_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, base = pretrained(tmp_path, SMALL)
    assert PRETRAINING in capsys.readouterr().err
    untrained = GPT2LMHeadModel(SMALL.config(), rng=0)
    assert bits_per_byte(base, texts["prose"][-3_000:]) < bits_per_byte(untrained, texts["prose"][-3_000:])

    monkeypatch.setattr(default_job, "Trainer", None)  # not to be called
    monkeypatch.setattr(default_job, "stdlib_prose", None)
    found, again = pretrained(tmp_path, SMALL)
    assert str(folder(tmp_path)) in capsys.readouterr().err
    assert state(again) == state(base)
    assert all(np.array_equal(found[kind], texts[kind]) for kind in ("prose", "source"))


def test_another_recipe_is_another_base_model(kept: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretrained(cache, Recipe(**{**vars(SMALL), "pretraining_steps": 3}))
    assert PRETRAINING in capsys.readouterr().err and len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer_config.json", "texts.safetensors", "sha256.json"]
)
@pytest.mark.parametrize("damage", ["lost", "cut", "changed"])
def test_a_broken_base_model_is_made_anew(
    kept: Path, cache: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder(cache) / name
    whole = file.read_bytes()
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(whole[:-9] if damage == "cut" else whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    _, base = pretrained(cache, SMALL)
    assert PRETRAINING in capsys.readouterr().err
    assert state(base) == state(pretrained(kept, SMALL)[1])
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    _, base = pretrained(tmp_path / "file" / "cache", SMALL)
    assert "the base model cannot be kept for the next run: " in capsys.readouterr().err
    assert isinstance(base, GPT2LMHeadModel)


def test_an_output_that_cannot_be_written_is_an_error_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(str(tmp_path / "file" / "out"), seed=0, cache=tmp_path / "cache", recipe=SMALL)
    assert not (tmp_path / "cache").exists() and not capsys.readouterr().err


def test_a_library_without_text_is_an_error_that_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default_job, "stdlib_prose", lambda most: "spam")
    with pytest.raises(RuntimeError, match="library has 4 bytes of prose; 11,192 are needed"):
        pretrained(tmp_path, SMALL)


def test_a_changed_base_is_an_error(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = iter(["a", "b"])
    monkeypatch.setattr(default_job, "frozen_sha256", lambda model: next(sums))
    with pytest.raises(RuntimeError, match="the frozen weights have changed"):
        run(str(tmp_path), seed=0, cache=kept, recipe=SMALL)


def test_a_merge_that_computes_another_thing_is_an_error(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LoRA.merged

    def wrong(self: LoRA, W: Any, b: Any, A: Any, B: Any) -> Any:
        return right(self, W, b, A, np.float32(1.001) * B)

    monkeypatch.setattr(LoRA, "merged", wrong)
    with pytest.raises(RuntimeError, match="the merged weights do not compute what W and B A apart do"):
        run(str(tmp_path), seed=5, cache=kept, recipe=SMALL)


def test_generate_goes_on_with_the_command_that_is_printed(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # not needed
    run(str(tmp_path / "an output"), seed=5, cache=kept, recipe=SMALL)
    line = capsys.readouterr().out.splitlines()[-1]
    arguments = shlex.split(line.split("npora ", 1)[1])
    assert main([*arguments, "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    base = GPT2LMHeadModel.from_pretrained(folder(kept))
    model = PeftModel.from_pretrained(base, tmp_path / "an output")
    ids = model.generate(
        np.array([list(b"def ")]), max_new_tokens=100, do_sample=True, temperature=0.7, seed=3
    )  # fmt: skip
    assert printed == bytes(ids[0].astype(np.uint8)).decode(errors="replace") + "\n"


def test_the_demonstration_replaces_its_own_adapter_and_no_other(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPORA_CACHE", str(kept))
    monkeypatch.setattr(default_job, "Recipe", lambda: SMALL)
    arguments, adapter = ["finetune", "--output", str(tmp_path)], tmp_path / "adapter" / "adapter_model.safetensors"
    assert main([*arguments, "--seed", "5"]) == 0
    first = adapter.read_bytes()
    assert main([*arguments, "--seed", "6"]) == 0
    assert adapter.read_bytes() != first
    (tmp_path / "log.jsonl").write_text("")  # as another run leaves
    second = adapter.read_bytes()
    assert main([*arguments, "--seed", "5"]) == 2 and "holds a run already" in capsys.readouterr().err
    assert adapter.read_bytes() == second
    assert main([*arguments, "--seed", "5", "--overwrite"]) == 0
    assert adapter.read_bytes() == first and sorted(os.listdir(tmp_path)) == ["adapter"]


def test_the_cache_is_the_users_cache_folder_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NPORA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_job.cache_folder() == tmp_path / "xdg" / "npora"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_job.cache_folder() == Path.home() / ".cache" / "npora"
    monkeypatch.setenv("NPORA_CACHE", str(tmp_path / "own"))
    assert default_job.cache_folder() == tmp_path / "own"


def test_finetune_without_arguments_runs_it(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPORA_CACHE", str(kept))
    monkeypatch.setattr(default_job, "Recipe", lambda: SMALL)
    assert main(["finetune", "--output", str(tmp_path / "out"), "--seed", "7"]) == 0
    assert "with the adapter" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "out" / "adapter")) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "m"], "npora: --model needs --train too"),
        (["--train", "a", "--eval", "b"], "npora: --train needs --model too"),
        (["--eval", "b"], "npora: --eval needs --model and --train"),
        (["--learning-rate", "1e-3"], "npora: --learning-rate needs --model and --train"),
        (["--learning-rate", "5e-4"], "npora: --learning-rate needs --model and --train"),  # its default
        (["--resume"], "npora: --resume needs --model and --train"),
    ],
)
def test_a_part_of_the_arguments_is_an_error_of_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message) and captured.err.count("\n") == 1 and not captured.out


def test_bits_per_byte_are_the_mean_over_the_bytes_of_all_windows() -> None:
    """Of 129 windows, which are not computed at once nor in equal parts; a rest that fills no window is left out."""
    config = GPT2Config(
        vocab_size=256, n_positions=128, n_embd=4, n_layer=1, n_head=2, initializer_range=0.8, eos_token_id=None
    )
    model = GPT2LMHeadModel(config, rng=1)
    rng = np.random.default_rng(0)
    # Later windows have other bytes, so that their losses are others.
    text = np.concatenate([rng.integers(0, 2 + 2 * i // 3, 128) for i in range(129)] + [np.zeros(99)]).astype(np.uint8)
    bits = []
    for window in text[: 129 * 128].reshape(129, 128).astype(np.int64):
        logits = model(window[None])[0].logits[0].astype(np.float64)  # [t,v]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        bits += [-np.log2(p[i, byte]) for i, byte in enumerate(window[1:])]
    assert bits_per_byte(model, text) == pytest.approx(np.mean(bits), rel=1e-6)
