"""A config that asks for more than its weights hold is refused before that is made."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from npora import PeftModel
from npora.models import AutoModelForCausalLM, AutoModelForSequenceClassification
from tests.tiny import save_bert, tiny_bert, tiny_peft
from tests.tiny_folders import save_folder


def changed(path: Path, **values: Any) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", 10**5), ("vocab_size", 10**9), ("vocab_size", 10**25), ("intermediate_size", 10**8),
        ("max_position_embeddings", 10**10), ("hidden_size", 6 * 10**4), ("type_vocab_size", 10**12),
        ("num_labels", 10**5), ("num_labels", 10**9),
    ],
)  # fmt: skip
def test_a_model_far_larger_than_its_weights_is_refused_before_it_is_made(
    tmp_path: Path, field: str, value: int
) -> None:
    path = changed(save_bert(tiny_bert(), tmp_path) / "config.json", **{field: value})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as error:
            AutoModelForSequenceClassification.from_pretrained(tmp_path)
        assert str(path) in str(error.value) or "classifier" in str(error.value)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_number_of_classes_is_not_counted_up_to(tmp_path: Path) -> None:
    names = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    path = changed(save_bert(tiny_bert(), tmp_path) / "config.json", **names, num_labels=10**9)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{path}.* names 2 classes, .*; expected num_labels=1000000000 of them"):
            AutoModelForSequenceClassification.from_pretrained(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_head_far_wider_than_any_is_refused_before_its_frequencies_are_computed(tmp_path: Path) -> None:
    save_folder(tmp_path, "llama")
    path = changed(tmp_path / "config.json", head_dim=10**9, num_hidden_layers=0)
    with pytest.raises(ValueError, match=r"head_dim is 1,000,000,000; at most 16,384 is read") as error:
        AutoModelForCausalLM.from_pretrained(tmp_path)
    assert str(path) in str(error.value)


def test_one_that_is_somewhat_larger_is_told_what_does_not_fit(tmp_path: Path) -> None:
    changed(save_bert(tiny_bert(), tmp_path) / "config.json", num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"does not fit .* missing: bert\.encoder\.layer\.2\.") as error:
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_the_caller_may_ask_for_a_large_new_head(tmp_path: Path) -> None:
    save_bert(tiny_bert(), tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=20_000, ignore_mismatched_sizes=True
    )
    assert model.classifier.weight.shape == (20_000, 6)


@pytest.mark.parametrize("method", [{}, {"use_dora": True}])
@pytest.mark.parametrize("field", [{"r": 10**6}, {"rank_pattern": {"query": 10**9}}, {"rank_pattern": {"x": 10**6}}])
def test_an_adapter_of_a_far_higher_rank_than_its_tensors_is_refused_before_it_is_made(
    tmp_path: Path, field: dict[str, Any], method: dict[str, Any]
) -> None:
    tiny_peft(**method).save_pretrained(tmp_path)
    changed(tmp_path / "adapter_config.json", **field)
    base = tiny_bert()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"the rank is 1,000,000,?0*, and the longest axis") as error:
            PeftModel.from_pretrained(base, tmp_path)
        assert str(tmp_path) in str(error.value)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are pipes with names on Unix alone")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        folder = save_bert(tiny_bert(), tmp_path / name)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(OSError, match=name):
            AutoModelForSequenceClassification.from_pretrained(folder)
    tiny_peft().save_pretrained(tmp_path / "adapter")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / "adapter" / name).unlink()
        os.mkfifo(tmp_path / "adapter" / name)
        with pytest.raises(OSError, match=name):
            PeftModel.from_pretrained(tiny_bert(), tmp_path / "adapter")
