"""Tensors that do not fit are said alike wherever tensors are taken, and nothing is then changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification, PeftModel, Trainer, TrainingArguments
from npora.files import load_file, save_file
from npora.nn import Module
from npora.train.checkpoints import load_trained
from tests.tiny import save_bert, tiny_bert, tiny_peft, tiny_rows

Array = np.ndarray
Door = tuple[dict[str, Array], Callable[[dict[str, Array]], object], Callable[[], Module]]


def of_a_module(_: Path) -> Door:
    model = tiny_bert()
    return dict(model.state_dict()), model.load_state_dict, lambda: model


def of_a_checkpoint(folder: Path) -> Door:
    file = save_bert(tiny_bert(), folder / "model") / "model.safetensors"

    def load(state: dict[str, Array]) -> object:
        save_file(state, file)
        return AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=3)

    return dict(load_file(file)), load, tiny_bert


def of_an_adapter(folder: Path) -> Door:
    tiny_peft(target_modules="all-linear").save_pretrained(folder)
    file, model = folder / "adapter_model.safetensors", tiny_bert()

    def load(state: dict[str, Array]) -> object:
        save_file(state, file)
        return PeftModel.from_pretrained(model, folder)

    return dict(load_file(file)), load, lambda: model


def wrong(state: dict[str, Array]) -> Iterator[tuple[dict[str, Array], str]]:
    """The state with something wrong, and what is said of it. The first tensors, which are no head's."""
    name, value = next((name, value) for name, value in state.items() if value.ndim == 2 and "classifier" not in name)
    others = {key: tensor for key, tensor in state.items() if key != name}
    yield others, f"missing: {name}"
    yield {**state, name: value[:, :-1].copy()}, f"{name} has shape {value[:, :-1].shape}, expected {value.shape}"
    yield {**state, name: value.astype(np.int8)}, f"{name} is int8: npora computes with floating point"


@pytest.mark.parametrize("door", [of_a_module, of_a_checkpoint, of_an_adapter], ids=lambda door: door.__name__)
def test_what_does_not_fit_is_said_alike_everywhere(door: Callable[[Path], Door], tmp_path: Path) -> None:
    state, load, model = door(tmp_path)
    state = {name: np.array(value) for name, value in state.items()}
    before = {name: value.tobytes() for name, value in model().state_dict().items()}
    for changed, sentence in wrong(state):
        with pytest.raises(ValueError) as error:
            load(changed)
        assert sentence in str(error.value)
    with pytest.raises(ValueError, match=r"does not fit .*missing: .*; and \d+ more of this kind") as error:
        load({name: value for name, value in state.items() if "classifier" in name})
    assert str(error.value).count("missing: ") == 12
    assert {name: value.tobytes() for name, value in model().state_dict().items()} == before
    load(state)


def test_a_checkpoint_that_is_loaded_into_another_model_says_what_does_not_fit(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), max_steps=2, save_strategy="steps", save_steps=1, disable_tqdm=True)
    Trainer(tiny_peft(), arguments, tiny_rows(4)).train()
    query = r"\S+0\.attention\.self\.query\.lora_A\.default\.weight"
    for model, sentence in (
        (tiny_peft(r=3), rf"{query} has shape \(2, 6\), expected \(3, 6\)"),
        (tiny_peft(target_modules=["value"]), f"unexpected: {query}"),
        (tiny_peft(target_modules="all-linear"), r"missing: \S+\.key\.lora_A\.default\.weight"),
    ):
        before = {name: value.tobytes() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError, match=f"checkpoint-1 does not fit .*{sentence}"):
            load_trained(str(tmp_path / "checkpoint-1"), model)
        assert {name: value.tobytes() for name, value in model.state_dict().items()} == before
