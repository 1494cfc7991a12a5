"""What a family that varies another one changes, by values: norms' places and widths, layers without positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.models.auto import tasks_of
from npora.nn.module import Array
from tests.tiny_decoders import tiny_decoder

IDS = np.array([[5, 3, 9, 2, 7]])


def logits(model: Any, ids: Array = IDS) -> Array:
    found: Array = model(ids)[0].logits
    return found


def test_norms_of_olmo_2_stand_behind_the_sublayers_and_see_all_heads_of_queries_and_keys() -> None:
    """So the size of what comes before a norm is nothing, but one head's among the others."""
    model = tiny_decoder("olmo2", rms_norm_eps=1e-30, attention_bias=False)
    expected, attention = logits(model), model.model.layers[1].self_attn
    for path in ("o_proj", "q_proj", "k_proj"):
        weight = getattr(attention, path).weight
        weight.data = 3 * weight.data
    model.model.layers[0].mlp.down_proj.weight.data = 5 * model.model.layers[0].mlp.down_proj.weight.data
    np.testing.assert_allclose(logits(model), expected, rtol=0, atol=1e-12)
    attention.q_proj.weight.data = attention.q_proj.weight.data * np.repeat([1, 4, 1, 1], 4)[:, None]
    assert np.abs(logits(model) - expected).max() > 1e-3
    attention.v_proj.weight.data = 3 * attention.v_proj.weight.data  # its size alone would be normed away
    attention.v_proj.weight.data[:4] *= 2
    assert np.abs(logits(model) - expected).max() > 1e-3


def test_a_layer_of_smollm3_without_rotary_sees_no_order_of_the_tokens_before() -> None:
    """In one layer; of two, the second sees what the first made of each token's own past."""
    swapped = IDS[:, [2, 1, 3, 0, 4]]
    for is_turned in (0, 1):
        model = tiny_decoder(
            "smollm3", no_rope_layers=[is_turned, 1 - is_turned], layer_types=None, sliding_window=None,
            num_hidden_layers=1,
        )  # fmt: skip
        difference = np.abs(logits(model)[0, -1] - logits(model, swapped)[0, -1]).max()
        assert (difference > 1e-3) if is_turned else (difference < 1e-12)


@pytest.mark.parametrize(
    ("fields", "turned"),
    [
        ({}, [1, 1, 1, 0, 1]), ({"no_rope_layer_interval": 2}, [1, 0, 1, 0, 1]),
        ({"no_rope_layers": [0, 0, 1, 1, 0, 1]}, [0, 0, 1, 1, 0, 1]),
    ],
)  # fmt: skip
def test_layers_of_smollm3_are_turned_as_its_config_says(fields: dict[str, Any], turned: list[int]) -> None:
    kind: Any = tasks_of("smollm3")["CausalLM"].config_class
    config = kind(num_hidden_layers=5, **fields)
    assert config.no_rope_layers == turned and set(config.layer_types) == {"full_attention"}
    asked = kind(num_hidden_layers=5, use_sliding_window=True, sliding_window=8, **fields)
    assert [kind == "full_attention" for kind in asked.layer_types] == [bool(t) for t in turned[:5]]
    assert kind.from_dict(asked.to_dict()) == asked


@pytest.mark.parametrize("said", [[1, 0], [1, 2, 0], [-1, 1, 0]])
def test_layers_that_are_neither_turned_nor_not_are_refused(said: list[Any]) -> None:
    with pytest.raises(ValueError, match="no_rope_layers must say 0 or 1 for each of 3 layers; got"):
        tasks_of("smollm3")["CausalLM"].config_class(num_hidden_layers=3, no_rope_layers=said)
