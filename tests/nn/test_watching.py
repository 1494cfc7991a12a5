"""What is watched is each module's forward and backward, the inner ones first, and only within the block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.nn.evaluating import Seen, watching
from tests.tiny import tiny_bert

IDS = np.array([[3, 5, 2]])


def test_inner_modules_are_seen_before_outer_ones_and_backward_runs_the_other_way() -> None:
    model, seen = tiny_bert(), list[Seen]()
    with watching(model, seen.append):
        _, backward = model(IDS, labels=[1])
        outputs = [one.path for one in seen]
        backward()
    gradients = [one.path for one in seen[len(outputs) :]]
    dense = "bert.encoder.layer.1.intermediate.dense"
    assert outputs.index(dense) < outputs.index("bert.encoder.layer.1") < outputs.index("classifier") and "" in outputs
    assert gradients.index("classifier") < gradients.index(dense) < gradients.index("bert.encoder.layer.1")
    assert {one.what for one in seen[: len(outputs)]} == {"output"} and len(set(outputs)) == len(outputs)


def test_what_is_computed_is_the_same_and_nothing_is_left_behind() -> None:
    model = tiny_bert()
    plain = model(IDS)[0].logits.tobytes()
    with pytest.raises(KeyError), watching(model, lambda seen: None):
        assert model(IDS)[0].logits.tobytes() == plain
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())


def test_one_block_within_another_sees_nothing_twice() -> None:
    model, seen = tiny_bert(), list[Any]()
    with watching(model, seen.append), watching(model, seen.append):
        model(IDS)
    assert len({one.path for one in seen}) == len(seen)
