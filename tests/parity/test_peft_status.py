"""get_layer_status and get_model_status against PEFT's, in each state that PEFT has."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from npora import LoraConfig, get_peft_model
from tests.parity.reference import npora_bert, reference_bert
from tests.parity.test_peft import peft

FIRST: dict[str, Any] = {"r": 3, "target_modules": ["query", "value"]}
SECOND: dict[str, Any] = {"r": 2, "target_modules": ["value", "key"]}


def both(folder: Path, **also: Any) -> list[Any]:
    models: list[Any] = [peft.get_peft_model(copy.deepcopy(reference_bert(folder)), peft.LoraConfig(**FIRST, **also)),
                         get_peft_model(npora_bert(folder), LoraConfig(**FIRST, **also))]  # fmt: skip
    models[0].add_adapter("second", peft.LoraConfig(**SECOND, **also))
    models[1].add_adapter("second", LoraConfig(**SECOND, **also))
    return models


@pytest.mark.parametrize("state", ["new", "second", "frozen", "merged", "merged second", "off"])
def test_the_fields_are_pefts(tmp_path: Path, state: str) -> None:
    # To PEFT a head that is trained whole is an adapter that is not merged, and the model irregular.
    models = both(tmp_path, **({} if "merged" in state else {"task_type": "SEQ_CLS"}))
    statuses = []
    for model in models:
        if state == "second":
            model.set_adapter("second")
        if state == "frozen":
            model.set_adapter("default", inference_mode=True)
        if state.startswith("merged"):
            model.merge_adapter(["second"] if "second" in state else None)
        if state == "off":
            with model.disable_adapter():
                statuses.append((model.get_model_status(), model.get_layer_status()))
        else:
            statuses.append((model.get_model_status(), model.get_layer_status()))
    (theirs, their_layers), (ours, our_layers) = statuses
    found, expected = asdict(ours), asdict(theirs)
    if state == "off":  # PEFT freezes what is off, and thaws it after
        found.pop("requires_grad"), expected.pop("requires_grad")
        found.pop("trainable_params"), expected.pop("trainable_params")
    assert found == expected
    assert {layer.name for layer in our_layers} == {layer.name for layer in their_layers}
    by_name = {layer.name: layer for layer in their_layers}
    for layer in our_layers:
        mine, other = asdict(layer), asdict(by_name[layer.name])
        for status in (mine, other):
            status.pop("devices")
            if state == "off":
                status.pop("requires_grad")
        assert mine == other
