"""Embeddings in place of tokens, and positions that are given: a model makes of them what it makes of tokens alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from npora.models import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    RobertaConfig,
    T5Config,
    T5ForConditionalGeneration,
    T5Model,
)
from npora.models.relative import relative_bias
from npora.nn import Cache, Embedding, Packing
from npora.nn.view import View
from tests.tiny import randomized
from tests.tiny_decoders import FAMILIES as DECODERS
from tests.tiny_decoders import tiny_decoder
from tests.tiny_encoders import HEADS, tiny_encoder
from tests.tiny_encoders import SIZES as ENCODERS

GPT2 = GPT2Config(vocab_size=13, n_positions=9, n_embd=6, n_layer=2, n_head=2, num_labels=3)
T5 = T5Config(vocab_size=13, d_model=6, d_kv=3, num_heads=2, d_ff=7, num_layers=2)
MODELS: dict[str, Callable[[], Any]] = {
    **{f"{name} {head}": partial(tiny_encoder, name, head, np.float64) for name in ENCODERS for head in HEADS},
    **{
        f"{name} {task}": partial(tiny_decoder, name, task)
        for name in DECODERS
        for task in ("CausalLM", "SequenceClassification")
    },
    "gpt2 CausalLM": lambda: randomized(GPT2LMHeadModel(GPT2, rng=1, dtype=np.float64)),
    "gpt2 SequenceClassification": lambda: randomized(GPT2ForSequenceClassification(GPT2, rng=1, dtype=np.float64)),
    "t5": lambda: randomized(T5ForConditionalGeneration(T5, rng=1, dtype=np.float64)),
    "t5 body": lambda: randomized(T5Model(T5, rng=1, dtype=np.float64)),
}
IDS = np.array([[3, 5, 7, 2], [6, 4, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
LABELS = {"SequenceClassification": [2, 0], "": [[2, -100, 1, 0], [-100, 1, -100, -100]]}


def given(name: str) -> dict[str, Any]:
    if name == "t5 body":
        return {"decoder_input_ids": IDS[:, :3]}
    return {"labels": np.array(LABELS["SequenceClassification" if "Sequence" in name else ""])}


def rows_of(body: Any, name: str) -> tuple[Any, float]:
    """(rows that stand for the tokens, [b,t,m], how many times the embeddings they are)"""
    scale = 6**0.5 if name.startswith("gemma") else 1.0
    return scale * body.embedding()(IDS)[0], scale


def grads(model: Any, call: Callable[..., Any], name: str, **inputs: Any) -> tuple[Any, Any, dict[str, Any]]:
    """(the output that there is, what backward returns, each parameter's gradient)"""
    output, backward = call(**inputs, attention_mask=MASK, **given(name))
    y = output.last_hidden_state if name == "t5 body" else output.loss
    back = backward(np.cos(np.arange(y.size)).reshape(y.shape)) if name == "t5 body" else backward(0.7)
    return y, back, {path: parameter.grad for path, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_in_place_of_tokens_give_the_same_and_their_gradient(name: str) -> None:
    """The gradient of the matrix of embeddings is what backward returns, row by row of it, and what reaches it on other
    ways: from a decoder's own tokens, or from a projection that is tied to it."""
    model, twin = MODELS[name](), MODELS[name]()
    body = model if name == "t5 body" else model.body
    embedding = body.embedding()
    rows, scale = rows_of(body, name)
    y, nothing, expected = grads(model, model, name, input_ids=IDS)
    found, returned, others = grads(twin, twin, name, inputs_embeds=rows)
    np.testing.assert_allclose(found, y, rtol=1e-12)
    assert nothing is None and returned.shape == rows.shape and not returned[MASK == 0].any()
    [path] = [path for path, parameter in model.named_parameters() if parameter is embedding.weight]
    expected[path] = expected[path] - (0 if others[path] is None else others[path])
    scattered = np.zeros_like(embedding.weight.data)
    np.add.at(scattered, IDS, scale * returned)
    np.testing.assert_allclose(scattered, expected.pop(path), rtol=0, atol=1e-12)
    del others[path]
    for path, gradient in expected.items():
        np.testing.assert_allclose(others[path], gradient, rtol=0, atol=1e-12, err_msg=path)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("t5")])
def test_positions_that_are_given_as_they_are_change_nothing_and_others_are_seen(name: str) -> None:
    """Rotations see the distance of positions alone, and so does a bias of distances."""
    model = MODELS[name]()
    if "position_ids" not in model.inputs:
        pytest.skip("has no positions to give")
    y, _ = model(IDS, MASK)
    first = getattr(model.config, "first_position", 0)
    for ids in ({"input_ids": IDS}, {"inputs_embeds": rows_of(model.body, name)[0]}):
        same, _ = model(**ids, attention_mask=MASK, position_ids=np.arange(first, first + 4))
        np.testing.assert_allclose(same.logits, y.logits, rtol=0, atol=1e-12)
        without = [model(**{key: value[:1] for key, value in ids.items()}, **more)[0].logits
                   for more in ({}, {"attention_mask": MASK[:1]})]  # fmt: skip
        np.testing.assert_allclose(without[0], without[1], rtol=0, atol=1e-12)
    other, _ = model(IDS, MASK, position_ids=np.array([[0, 2, 1, 5], [3, 1, 0, 0]]) + first)
    assert abs(other.logits - y.logits).max() > 1e-4


def test_the_first_position_is_the_one_behind_the_padding_tokens() -> None:
    assert [RobertaConfig(pad_token_id=pad).first_position for pad in (0, 1, 5)] == [1, 2, 6]


def test_the_last_of_an_encoders_hidden_states_is_what_the_decoder_reads() -> None:
    model = MODELS["t5"]()
    output, _ = model(IDS, MASK, decoder_input_ids=IDS, output_hidden_states=True)
    states, body = output.encoder_hidden_states, model.body
    rows, _ = body.encoded(body.tokens(IDS, MASK))
    np.testing.assert_allclose(states[-1][MASK == 1], rows, rtol=0, atol=1e-12)
    assert len(states) == 3 and min(abs(one - states[-1]).max() for one in states[:-1]) > 1e-2
    np.testing.assert_allclose(states[0][MASK == 1], body.embedding()(IDS)[0][MASK == 1], rtol=0, atol=1e-12)
    shallow = T5ForConditionalGeneration(replace(T5, num_layers=1), rng=1, dtype=np.float64)
    shallow.load_state_dict({name: model.state_dict()[name] for name in shallow.state_dict()})
    output, _ = shallow(IDS, MASK, decoder_input_ids=IDS, output_hidden_states=True)
    norm, weight = output.encoder_hidden_states[-1], body.encoder.final_layer_norm.weight.data
    x = states[1]
    expected = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6) * weight
    np.testing.assert_allclose(norm[MASK == 1], expected[MASK == 1], rtol=0, atol=1e-12)


def test_a_gap_in_a_mask_is_refused_from_the_length_on_at_which_a_window_hides_a_key() -> None:
    model = tiny_encoder("modernbert", "MaskedLM", np.float64, local_attention=4)  # two to each side
    model(IDS[:1, :3], np.array([[1, 0, 1]]))
    with pytest.raises(ValueError, match="window"):
        model(IDS[:1], np.array([[1, 0, 1, 1]]))


def test_an_attention_factor_of_longrope_makes_queries_and_keys_larger() -> None:
    """The scores see its square, as where the queries' matrix alone is so much larger."""
    scaling = {"type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [1.0, 1.0]}
    plain = tiny_decoder("phi3", sliding_window=None)
    scaled = tiny_decoder("phi3", sliding_window=None, rope_scaling={**scaling, "attention_factor": 1.5})
    for layer in plain.model.layers:
        W = layer.self_attn.qkv_proj.weight
        W.data = np.concatenate([2.25 * W.data[:16], W.data[16:]])  # of four heads with four features each
    np.testing.assert_allclose(plain(IDS, MASK)[0].logits, scaled(IDS, MASK)[0].logits, rtol=0, atol=1e-12)
    most = {"max_position_embeddings": 150, "original_max_position_embeddings": 100}
    config = type(plain.config)(**{**vars(plain.config), **most, "rope_scaling": scaling})
    assert replace(plain.config, head_dim=4096, partial_rotary_factor=0.5).turned_features == 2048
    half = {**scaling, "attention_factor": 0.5}
    assert replace(plain.config, rope_scaling=half).turn_scale == 0.5
    assert config.turn_scale == pytest.approx(math.sqrt(1 + math.log(1.5) / math.log(100)), rel=1e-14)


def test_the_bias_beside_a_projection_of_its_own_is_idle() -> None:
    idle = {"bert": {"cls.predictions.bias": slice(None)}, "roberta": {"lm_head.bias": slice(None)}, "distilbert": {}}
    for family, expected in idle.items():
        assert tiny_encoder(family, "MaskedLM", tie_word_embeddings=False).idle_parameters() == expected
        assert tiny_encoder(family, "MaskedLM").idle_parameters() == {}


def test_a_cache_of_one_layer_says_how_many_rows_are_before_the_next() -> None:
    cache, rows = Cache(), np.zeros((3, 2))
    cache[0].append(rows, rows, Packing.of_lengths([2, 1]))
    assert cache.positions(Packing.of_lengths([1, 2])).tolist() == [2, 1, 2]
    table = Embedding(9, 1, dtype=np.float64)
    table.weight.data = np.arange(9.0)[:, None]
    bias, _ = relative_bias(table, lambda distance: distance + 4, View(Packing.of_lengths([1, 1])), cache)
    assert bias.tolist() == [[[[2, 3, 4]]], [[[3, 4, 5]]]]  # from the places 2 and 1 to the keys 0, 1 and 2


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("t5")])
def test_the_last_of_the_hidden_states_is_what_is_read_and_stands_there_alone(name: str) -> None:
    body = MODELS[name]().body
    output, _ = body(IDS, MASK, output_hidden_states=True)
    plain, _ = body(IDS, MASK)
    states = output.hidden_states
    np.testing.assert_allclose(states[-1], plain.last_hidden_state, rtol=0, atol=1e-12)
    assert len(states) == 3 and min(abs(one - states[-1]).max() for one in states[:-1]) > 1e-3
