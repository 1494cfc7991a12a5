"""What a family that varies another one changes, by values: norms' places and widths, layers without positions."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import numpy as np
import pytest

from npora.models.auto import FAMILIES, tasks_of
from npora.models.body import Body
from npora.nn.module import Array
from tests.tiny_decoders import tiny_decoder
from tests.tiny_encoders import tiny_encoder

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


def test_the_parts_of_the_fused_products_of_phi3_are_llamas_layers() -> None:
    """q, k and v one under the other; the gate above what goes through it."""
    phi3, llama = tiny_decoder("phi3", sliding_window=None), tiny_decoder("llama", attention_bias=False, mlp_bias=False)
    state = {name: parameter.data for name, parameter in phi3.named_parameters()}
    for name, weight in [*state.items()]:
        parts = {
            "qkv_proj": (["q_proj", "k_proj", "v_proj"], [16, 24]),
            "gate_up_proj": (["gate_proj", "up_proj"], [7]),
        }
        for fused, (names, at) in parts.items():
            if fused in name:
                state |= {name.replace(fused, own): w for own, w in zip(names, np.split(weight, at), strict=True)}
    for name, parameter in llama.named_parameters():
        parameter.data = state[name]
    llama.model.norm.eps = 1e-5
    for layer in llama.model.layers:
        layer.input_layernorm.eps = layer.post_attention_layernorm.eps = 1e-5
    np.testing.assert_allclose(logits(phi3), logits(llama), rtol=0, atol=1e-12)


LONG: dict[str, Any] = {
    "head_dim": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 800,
    "original_max_position_embeddings": 100, "partial_rotary_factor": 0.5, "rope_theta": 9.0,
    "rope_scaling": {"type": "longrope", "short_factor": [2.0, 4.0], "long_factor": [3.0, 5.0]},
}  # fmt: skip


def test_longrope_by_hand() -> None:
    """Two pairs of a head of 8 features turn, by 1 and 1/3 a position, here 2 and 4 times more slowly."""
    kind: Any = tasks_of("phi3")["CausalLM"].config_class
    config, scaling = kind.from_dict(LONG), LONG["rope_scaling"]
    np.testing.assert_allclose(config.frequencies(), [1 / 2, 1 / 12], rtol=1e-15)
    assert config.turn_scale == pytest.approx(math.sqrt(1 + math.log(8) / math.log(100)), rel=1e-15)
    for said, scale in (({"factor": 100}, math.sqrt(2)), ({"factor": 1.0}, 1), ({"attention_factor": 1.25}, 1.25)):
        changed = kind.from_dict({**LONG, "rope_scaling": {**scaling, **said}})
        assert changed.turn_scale == pytest.approx(scale, rel=1e-15)
    plain = kind.from_dict({**LONG, "rope_scaling": None})
    np.testing.assert_allclose(plain.frequencies(), [1, 1 / 3], rtol=1e-15)
    assert plain.turn_scale == 1 and (plain.most_tokens, plain.named_length) == (None, 800)
    assert (config.most_tokens, config.named_length) == (100, 100)


def test_phi3_reads_what_older_files_and_newer_ones_say_of_the_angles() -> None:
    kind: Any = tasks_of("phi3")["CausalLM"].config_class
    config, longrope = kind.from_dict(LONG), {**LONG["rope_scaling"], "rope_type": "longrope"}
    del longrope["type"]
    assert config.rope_scaling == longrope
    for name in ("su", "yarn"):
        assert kind.from_dict({**LONG, "rope_scaling": {**LONG["rope_scaling"], "type": name}}) == config
    newer = {name: value for name, value in LONG.items() if name not in ("partial_rotary_factor", "rope_scaling")}
    inside = {**longrope, "partial_rotary_factor": 0.5, "rope_theta": 9.0, "original_max_position_embeddings": 100}
    assert config.rope_parameters == inside
    assert kind.from_dict({**newer, "rope_theta": 1.0, "rope_parameters": inside}) == config
    for each in (config, kind.from_dict({}), kind.from_dict({"partial_rotary_factor": 0.75})):
        assert kind.from_dict(each.to_dict()) == each
    assert kind().rope_parameters == {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
    assert "partial_rotary_factor" not in kind().to_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type 'linear' is not supported in phi3; only 'd"),
        ({"partial_rotary_factor": 0.4}, "partial_rotary_factor must be a share of head_dim 8 that is a positive even"),
        ({"partial_rotary_factor": 1.5}, "a positive even number of features; got 1.5"),
        ({"partial_rotary_factor": 0.0}, "a positive even number of features; got 0.0"),
        ({"rope_scaling": {"type": "longrope"}}, "short_factor must be a list of 2 positive numbers; got None"),
        ({"partial_rotary_factor": 1.0}, "short_factor must be a list of 4 positive numbers; got [2.0, 4.0]"),
        ({"rope_scaling": {**LONG["rope_scaling"], "long_factor": [1.0, 0]}}, "long_factor must be a list of 2 posi"),
        ({"rope_scaling": {**LONG["rope_scaling"], "factor": 0.5}}, "factor must be a number of at least 1; got 0.5"),
        ({"rope_scaling": {**LONG["rope_scaling"], "attention_factor": -1}}, "attention_factor must be a number of"),
        (
            {"rope_scaling": {**LONG["rope_scaling"], "original_max_position_embeddings": 7}},
            "original_max_position_embeddings is 100, and 7 in rope_parameters",
        ),
        ({"attention_bias": True}, "attention_bias=True is not supported; only False is"),
        ({"lm_head_bias": True}, "lm_head_bias=True is not supported; only False is"),
        ({"original_max_position_embeddings": 0}, "original_max_position_embeddings must be a positive whole number"),
    ],
)  # fmt: skip
def test_what_phi3_has_not_here_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tasks_of("phi3")["CausalLM"].config_class.from_dict({**LONG, **fields})


def test_an_electra_is_a_bert_behind_a_projection_of_narrower_embeddings() -> None:
    """A token's first rows are the projection of the embeddings; there is none where these are as wide."""
    model = tiny_encoder("electra", "MaskedLM", np.float64).electra
    weight, bias = model.embeddings_project.weight.data, model.embeddings_project.bias.data
    assert weight.shape == (6, 4)
    tokens = model.tokens(IDS)
    narrow, _ = model.embeddings(tokens.words, tokens.positions, np.zeros(5, dtype=int))
    states = model(IDS, output_hidden_states=True)[0].hidden_states
    np.testing.assert_allclose(states[0][0], narrow @ weight.T + bias, rtol=0, atol=1e-14)
    wide = tiny_encoder("electra", "SequenceClassification", np.float64, embedding_size=6)
    assert not [name for name, _ in wide.named_parameters() if "embeddings_project" in name]
    bert = tiny_encoder("bert", "TokenClassification", np.float64).bert
    bert.load_state_dict({**wide.electra.state_dict()})
    np.testing.assert_array_equal(wide.electra(IDS)[0].last_hidden_state, bert(IDS)[0].last_hidden_state)


def test_the_heads_of_electra_have_the_exact_gelu_whatever_the_layers_have() -> None:
    for head, path in (("SequenceClassification", "classifier"), ("MaskedLM", "generator_predictions")):
        layer = tiny_encoder("electra", head, np.float64, hidden_act="relu").get_submodule(path)
        x = np.random.default_rng(0).standard_normal((3, 6))
        z, _ = layer.dense(x)
        z = z * np.vectorize(lambda value: 0.5 * (1 + math.erf(value / math.sqrt(2))))(z)
        expected, _ = (layer.out_proj if head.startswith("Seq") else layer.LayerNorm)(z)
        np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("bucket", "nearest", "furthest"),
    [(0, 0, 0), (3, -3, -3), (8, -8, -11), (15, -91, -199), (17, 1, 1), (25, 12, 15), (31, 91, 199)],
)
def test_scores_of_mpnet_see_distances_by_the_bias_of_their_buckets(bucket: int, nearest: int, furthest: int) -> None:
    """Without queries that bias alone says what a token takes of which others: the values' mean over one bucket."""
    sizes = {"num_hidden_layers": 1, "vocab_size": 300, "max_position_embeddings": 202}
    model = tiny_encoder("mpnet", "SequenceClassification", np.float64, **sizes).mpnet
    attention, table = model.encoder.layer[0].attention.attn, model.encoder.relative_attention_bias.weight
    for parameter in (attention.q.weight, attention.q.bias):
        parameter.data = np.zeros_like(parameter.data)
    table.data = np.full_like(table.data, -50.0)
    table.data[bucket] = 0.0
    first, captured = model.encoder.layer[0].attention, []
    first.attn = lambda x, **given: captured.append((x, attention(x, **given)[0])) or attention(x, **given)
    model(np.arange(2, 202)[None])
    ((x, y),) = captured
    values, _ = attention.v(x)
    for token in (0, 100, 199):
        distances = np.arange(200) - token
        seen = (distances >= min(nearest, furthest)) & (distances <= max(nearest, furthest))
        if seen.any():
            expected, _ = attention.o(values[seen].mean(axis=0, keepdims=True))
            np.testing.assert_allclose(y[token], expected[0], rtol=0, atol=1e-12)


def test_what_mpnet_counts_from_and_a_hole_between_distances_are_refused() -> None:
    kind: Any = tasks_of("mpnet")["MaskedLM"].config_class
    for fields in ({"pad_token_id": 0}, {"pad_token_id": None}, {"relative_attention_num_buckets": 16}):
        ((name, value),) = fields.items()
        only = {"pad_token_id": 1, "relative_attention_num_buckets": 32}[name]
        with pytest.raises(ValueError, match=f"{name}={value} is not supported; only {only} is"):
            kind.from_dict(fields)
    with pytest.raises(ValueError, match="mask of sequence 0 hides tokens between others: MPNet sees distances"):
        tiny_encoder("mpnet", "MaskedLM")(IDS, [[1, 1, 0, 1, 1]])
    left = tiny_encoder("mpnet", "TokenClassification", np.float64)
    padded = np.array([[1, 1, *IDS[0]]])
    found = left(padded, padded != 1)[0].logits[:, 2:]
    np.testing.assert_allclose(found, left(IDS)[0].logits, rtol=0, atol=1e-14)


def test_a_bias_of_keys_that_nothing_turns_is_named_as_idle() -> None:
    attention = tiny_encoder("mpnet", "MaskedLM").mpnet.encoder.layer[1].attention.attn
    assert attention.idle_parameters() == {"k.bias": slice(None)}
    turned, not_turned = (layer.self_attn for layer in tiny_decoder("smollm3", attention_bias=True).model.layers)
    assert not_turned.idle_parameters() == {"k_proj.bias": slice(None)} and turned.idle_parameters() == {}


def changed_rows(**fields: Any) -> list[int]:
    """Which tokens of five notice that the first is another."""
    model = tiny_encoder("modernbert", "MaskedLM", np.float64, **fields)
    return np.flatnonzero(
        np.abs(logits(model) - logits(model, IDS + np.array([4, 0, 0, 0, 0]))).max(axis=(0, 2)) > 1e-9
    ).tolist()


def test_a_token_of_modernbert_sees_a_window_to_both_sides_or_all() -> None:
    local, whole = "sliding_attention", "full_attention"
    assert changed_rows(layer_types=[local], num_hidden_layers=1) == [0, 1]
    assert changed_rows(layer_types=[local, local]) == [0, 1, 2]
    assert changed_rows(layer_types=[local], num_hidden_layers=1, local_attention=5) == [0, 1, 2]
    assert changed_rows(layer_types=[local, whole]) == [0, 1, 2, 3, 4]
    kind: Any = tasks_of("modernbert")["MaskedLM"].config_class
    assert kind(num_hidden_layers=5).layer_types == [whole, local, local, whole, local]
    assert kind(num_hidden_layers=5, global_attn_every_n_layers=2).layer_types == [whole, local, whole, local, whole]


def test_a_modernbert_as_it_is_made_has_no_biases_below_its_classifier_and_no_norm_before_its_first_attention() -> None:
    bare = {"norm_bias": False, "attention_bias": False, "mlp_bias": False, "classifier_bias": False}
    expected = {"SequenceClassification": {"classifier.bias"}, "TokenClassification": {"classifier.bias"},
                "MaskedLM": {"decoder.bias"}}  # fmt: skip
    for head, biases in expected.items():
        names = {name for name, _ in tiny_encoder("modernbert", head, **bare).named_parameters()}
        assert {name for name in names if name.endswith("bias")} == biases
        assert "model.layers.1.attn_norm.weight" in names and not any("layers.0.attn_norm" in name for name in names)
    for field, number in (("norm_bias", 6), ("attention_bias", 4), ("mlp_bias", 4), ("classifier_bias", 1)):
        model = tiny_encoder("modernbert", "MaskedLM", **{**bare, field: True})
        assert len([name for name, _ in model.named_parameters() if name.endswith("bias")]) == number + 1, field


def test_a_class_of_modernbert_is_read_from_the_first_token_or_from_the_mean() -> None:
    for pooling in ("cls", "mean"):
        model = tiny_encoder("modernbert", "SequenceClassification", np.float64, classifier_pooling=pooling)
        h, _ = model.model.rows(model.model.tokens(IDS))
        pooled = h[:1] if pooling == "cls" else h.mean(axis=0, keepdims=True)
        expected, _ = model.classifier(model.head(pooled)[0])
        np.testing.assert_allclose(logits(model), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classifier_pooling": "max"}, "classifier_pooling must be cls or mean; got 'max'"),
        ({"classifier_activation": "prelu"}, "classifier_activation 'prelu' is not one of"),
        ({"hidden_activation": "prelu"}, "hidden_activation 'prelu' is not one of"),
        ({"global_rope_theta": 0}, "global_rope_theta must be a positive number; got 0"),
        ({"rope_parameters": {"rope_theta": 3.0}}, "rope_parameters must be of full_attention and sliding_attention"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, "only rope_type 'defau"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "only rope_type 'default' is"),
        ({"local_attention": 1}, "a layer of sliding_attention needs a sliding_window of at least 1; got 0"),
        ({"num_attention_heads": 256}, "a head must have an even number of features, to be turned; got 3"),
        ({"layer_types": ["chunked_attention"] * 22}, "layer_types chunked_attention are not supported"),
    ],
)  # fmt: skip
def test_what_modernbert_has_not_here_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tasks_of("modernbert")["MaskedLM"].config_class.from_dict(fields)


def test_modernbert_reads_older_files_and_newer_ones_and_refuses_a_hole_in_a_window() -> None:
    kind: Any = tasks_of("modernbert")["MaskedLM"].config_class
    older = kind.from_dict({"global_rope_theta": 5.0, "local_rope_theta": 7.0, "local_attention": 10})
    newer = kind.from_dict({"rope_parameters": older.rope_parameters, "sliding_window": 5})
    assert newer == older and kind.from_dict(older.to_dict()) == older
    odd = kind(local_attention=5)
    assert "sliding_window" not in odd.to_dict() and kind.from_dict(odd.to_dict()) == odd
    model = tiny_encoder("modernbert", "MaskedLM", layer_types=["full_attention", "sliding_attention"])
    with pytest.raises(ValueError, match="hides tokens between others: a window of attention counts them"):
        model(IDS, [[1, 1, 0, 1, 1]])
    tiny_encoder("modernbert", "MaskedLM", layer_types=["full_attention"] * 2)(IDS, [[1, 1, 0, 1, 1]])


def test_the_rows_of_every_body_are_asked_for_in_the_same_words() -> None:
    for model_type in FAMILIES:
        for kind in tasks_of(model_type).values():
            body: Any = kind
            assert inspect.signature(body.body_class.rows) == inspect.signature(Body.rows), kind
