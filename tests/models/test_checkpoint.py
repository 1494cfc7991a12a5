"""Loading a checkpoint: what is missing, unexpected or misshapen is said."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification
from npora.files import save_file
from npora.models.checkpoint import drawn_modules, is_constant, room_for
from npora.nn import Linear, Module
from tests.models.test_generation_families import FAMILIES
from tests.tiny import save_bert, tiny_bert
from tests.tiny_encoders import tiny_encoder

IDS = np.array([[3, 5, 7], [2, 4, 1]])


def load(directory: Path, **keywords: Any) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(directory, **keywords)


def rewritten(directory: Path, tensors: dict[str, Any]) -> Path:
    (directory / "model.safetensors").unlink()
    save_file(tensors, directory / "model.safetensors")
    return directory


def test_a_model_loads_as_read_only_maps_that_compute_the_same_bits(tmp_path: Path) -> None:
    model = tiny_bert()
    again = load(save_bert(model, tmp_path / "m"))
    assert again(IDS)[0].logits.tobytes() == model(IDS)[0].logits.tobytes()
    assert not any(parameter.data.flags.writeable for parameter in again.parameters())
    wide = load(tmp_path / "m", dtype=np.float64)(IDS)[0].logits
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, model(IDS)[0].logits, rtol=0, atol=1e-4)  # 2 layers of float32 roundings


def test_a_body_without_its_prefix_and_a_head_that_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_bert()
    body = {k.removeprefix("bert."): v for k, v in model.state_dict().items() if k.startswith("bert.")}
    directory = rewritten(save_bert(model, tmp_path / "m"), {**body, "cls.predictions.bias": np.zeros(3, np.float32)})
    with caplog.at_level(logging.WARNING, "npora"):
        again = load(directory, num_labels=4)
    assert "not used by BertForSequenceClassification: cls.predictions.bias" in caplog.text
    assert again.newly_initialized == ("classifier.weight", "classifier.bias")
    hidden = [m.bert(IDS)[0].last_hidden_state.tobytes() for m in (model, again)]
    assert hidden[0] == hidden[1]
    head = [load(directory, seed=seed).classifier.weight.data.tobytes() for seed in (1, 1, 2)]
    assert head[0] == head[1] != head[2]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "gpt2", "llama"])
def test_a_body_loads_from_the_file_of_a_model_with_a_head(family: str, tmp_path: Path) -> None:
    model = FAMILIES[family]() if family in FAMILIES else tiny_encoder(family, "MaskedLM")
    model.save_pretrained(tmp_path)
    body = getattr(model, model.base_model_prefix)
    read = {name: value.tobytes() for name, value in type(body).from_pretrained(tmp_path).state_dict().items()}
    assert {name: read[name] for name in body.state_dict()} == {k: v.tobytes() for k, v in body.state_dict().items()}


def test_tensorflows_names_of_the_norms_are_known(tmp_path: Path) -> None:
    model = tiny_bert()
    renamed = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in model.state_dict().items()
    }
    again = load(rewritten(save_bert(model, tmp_path / "m"), renamed))
    assert again(IDS)[0].logits.tobytes() == model(IDS)[0].logits.tobytes()


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    model = tiny_bert()
    state = dict(model.state_dict())
    state.pop("bert.encoder.layer.1.output.dense.weight")
    state["classifier.weight"] = np.zeros((5, 6), np.float32)
    with pytest.raises(ValueError) as error:
        load(rewritten(save_bert(model, tmp_path / "m"), state))
    assert "missing: bert.encoder.layer.1.output.dense.weight" in str(error.value)
    assert "classifier.weight has shape (5, 6), expected (3, 6)" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "mamba"},
            "model_type 'mamba' is not supported by AutoModelForSequenceClassification, which knows: bert",
        ),
        ({"hidden_act": "prelu"}, "hidden_act 'prelu' is not one of"),
        ({"num_attention_heads": 4}, "hidden_size 6 is not a multiple of num_attention_heads 4"),
        ({"vocab_size": -3}, "vocab_size must be a positive whole number; got -3"),
        ({"hidden_size": 6.0}, "hidden_size must be a positive whole number; got 6.0"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key' is not supported"),
        ({"is_decoder": True}, "is_decoder=True is not supported"),
    ],
)
def test_a_config_that_cannot_be_honoured_is_an_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    directory = save_bert(tiny_bert(), tmp_path / "m")
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError) as error:
        load(directory)
    assert message in str(error.value)


def test_files_that_are_missing_or_cut_short_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*config\.json"):
        load(tmp_path)
    directory = save_bert(tiny_bert(), tmp_path / "m")
    weights = directory / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*model\.safetensors"):
        load(directory)
    weights.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated"):
        load(directory)
    with pytest.raises(ValueError, match="dtype must be float32, float64, bfloat16 or float16; got int16"):
        load(directory, dtype=np.int16)


def test_a_batch_that_makes_no_sense_is_an_error() -> None:
    model = tiny_bert()
    for ids, mask, message in (
        (np.array([1, 2]), None, r"input_ids must be \[batch, length\]; got shape \(2,\)"),
        (IDS, np.ones((2, 2)), r"attention_mask has shape \(2, 2\), input_ids \(2, 3\)"),
        (IDS, np.array([[1, 1, 1], [0, 0, 0]]), "sequence 1 of the batch has no token"),
        (np.ones((1, 13), int), None, "13 tokens is longer than the 12 positions"),
        (np.array([[31]]), None, r"id 31 at \(0,\) is not in this embedding's range 0 … 30"),
    ):
        with pytest.raises(ValueError, match=message):
            model(ids, mask)


@pytest.mark.parametrize("labels, numbers", [(0, 2 * 22 + 1_000_000), (4, 2 * 22 + 4 * 7 + 1_000_000)])
def test_there_is_room_for_twice_what_a_file_holds_and_a_new_head(labels: int, numbers: int) -> None:
    tensors = {"a": np.zeros((3, 5)), "b": np.zeros(7)}
    room_for(tensors, labels).zeros((numbers,), np.uint8)
    with pytest.raises(ValueError, match="this is more, by far, than the 2 tensors beside it, which hold 22 numbers"):
        room_for(tensors, labels).zeros((numbers + 1,), np.uint8)
    room = room_for(tensors, labels)
    for _ in range(2 * 2 + 100):
        room.zeros((0,), np.uint8)
    with pytest.raises(ValueError, match="by far"):
        room.zeros((0,), np.uint8)
    with pytest.raises(ValueError, match="by far"):
        room_for({}, 4).zeros((1_000_001,), np.uint8)


def test_what_is_the_same_throughout_is_constant() -> None:
    assert [is_constant(np.array(value)) for value in ([], [3.0], [2, 2], [[1, 1], [1, 2]])] == [
        True,
        True,
        True,
        False,
    ]


def test_a_module_is_below_another_by_whole_parts_of_its_path() -> None:
    class Two(Module):
        def __init__(self) -> None:
            self.head, self.header = Linear(2, 3, rng=0), Linear(3, 2, rng=1)

    model = Two()
    drawn = {name: parameter.data for name, parameter in model.named_parameters()}
    assert drawn_modules(model, drawn) == ("head", "header")
