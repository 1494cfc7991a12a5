"""EVA, computed once more in plain NumPy from what the layers are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import PeftModel, get_peft_model
from npora.lora import EvaConfig, get_eva_state_dict, initialize_lora_eva_weights
from npora.lora.starts.eva import Components, ranks
from npora.nn import Conv1D
from tests.lora.two_layers import Two, config, data
from tests.tiny import tiny_bert


def test_components_are_those_of_all_rows_where_few_are_cut() -> None:
    batches = [batch["x"] for batch in data(4)]
    part = Components(7, 0.99, np.random.default_rng(0))
    for X in batches:
        part.see(X)
    assert part.rows == 36 and part.values is not None and part.directions is not None
    X = np.concatenate(batches)
    X = X - X.mean(axis=0)
    _, S, V = np.linalg.svd(X, full_matrices=False)
    np.testing.assert_allclose(part.values, S, rtol=1e-12)
    np.testing.assert_allclose(abs(part.directions), abs(V), atol=1e-12)
    np.testing.assert_allclose(part.shares, S**2 / (X * X).sum(), rtol=1e-12)
    assert (part.directions[np.arange(7), np.abs(part.directions).argmax(axis=1)] > 0).all()
    np.testing.assert_allclose(part.start(2, True) * np.sqrt(S[:2, None]), part.start(2, False), atol=1e-12)
    before = part.directions
    part.see(X[:6])  # of fewer rows than directions
    assert part.directions is before and part.rows == 36 and part.spanned == 7
    flat = Components(3, 0.99, np.random.default_rng(0))
    flat.see(np.outer(np.arange(9.0), np.ones(7)))
    assert flat.spanned == 1


def test_ranks_go_where_they_explain_most_and_the_first_of_equal_layers_gets_the_most() -> None:
    shares = {"a": np.array([0.5, 0.3]), "b": np.array([0.4, 0.2])}
    assert ranks(shares, [["a"], ["b"]], 3) == {"a": 2, "b": 1}
    assert ranks(shares, [["a"], ["b"]], 1) == {"a": 1, "b": 0}
    assert ranks(shares, [["a", "c"], ["b"]], 3) == {"a": 1, "b": 1, "c": 1}
    assert ranks(shares, [["a", "c", "d"], ["b"]], 5) == {"a": 2, "b": 1, "c": 1, "d": 1}


def test_eva_begins_at_the_inputs_directions_with_b_at_zero_and_keeps_s() -> None:
    fields = {"r": 3, "rank_pattern": {"second": 1}, "eva_config": EvaConfig(tau=0.5)}
    model = get_peft_model(Two(), config("eva", **fields))
    before = {name: parameter for name, parameter in model.named_parameters()}
    initialize_lora_eva_weights(model, data())
    layers, found = dict(model.lora_layers()), model.active_peft_config
    assert (found.rank_pattern, found.alpha_pattern) == ({"first": 2, "second": 2}, {"first": 2.0, "second": 6.0})
    given = {"first": [batch["x"] for batch in data()], "second": [np.tanh(Two().first(b["x"])[0]) for b in data()]}
    for name, layer in layers.items():
        adapter: Any = layer.adapters["default"]
        assert (
            (adapter.r, adapter.s) == (2, {"first": 1, "second": 3}[name])
            and not adapter.B.data.any()
            and adapter.B.shape == (layer.base_layer.out_features, adapter.r)
        )
        X = np.concatenate(given[name])
        X = X - X.mean(axis=0)
        best = np.linalg.svd(X)[2][: adapter.r]
        assert np.linalg.norm(adapter.A.data @ best.T) ** 2 > 0.95 * adapter.r  # of those batches that it needed
        np.testing.assert_allclose(adapter.A.data @ adapter.A.data.T, np.eye(adapter.r), atol=1e-12)
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == {
        n: id(p) for n, p in before.items()
    }


def test_a_layer_to_which_eva_gives_no_rank_is_the_bases_own_again(tmp_path: Path) -> None:
    model = get_peft_model(Two(), config("eva", r=1))
    first, second = (f"base_model.model.{name}" for name in ("first", "second"))
    initialize_lora_eva_weights(model, eva_state_dict={first: np.ones((2, 7)), second: np.ones((0, 6))})
    assert [name for name, _ in model.lora_layers()] == ["first"] and type(model.get_base_model().second) is Conv1D
    assert model.active_peft_config.target_modules == ["first"] and model.active_peft_config.rank_pattern == {
        "first": 2
    }
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(Two(), tmp_path, is_trainable=True)
    assert [name for name, _ in again.lora_layers()] == [
        "first"
    ] and again.active_peft_config.init_lora_weights == "eva"
    again(**data(1)[0])  # it has its data


def test_eva_takes_rows_that_have_a_label_and_no_padding() -> None:
    model = tiny_bert(dtype=np.float64)
    rng, mask = np.random.default_rng(0), np.arange(6) < np.array([[6], [3], [5]])
    batch = {"input_ids": rng.integers(3, 31, (3, 6)), "attention_mask": mask}
    labels = np.where(rng.random((3, 6)) < 0.4, -100, 1)
    own = config("eva", target_modules=["layer.0.attention.self.query"], r=1, eva_config={"rho": 1.0, "tau": 0.0})

    def forward(model: Any, batch: Any) -> None:
        model(**{key: value for key, value in batch.items() if key != "labels"})

    embedded = model.bert(**batch, output_hidden_states=True)[0].hidden_states[0][mask]
    for given, keep in ((batch, mask[mask]), ({**batch, "labels": labels}, (labels != -100)[mask])):
        (A,) = get_eva_state_dict(model, [given, given], own, forward).values()
        X = embedded[keep]
        best = np.linalg.svd(X - X.mean(axis=0))[2][0]
        assert abs(A[0] @ best) == pytest.approx(1, abs=1e-7)  # of four turns


def test_trained_tokens_beside_it_begin_as_ever() -> None:
    model = get_peft_model(tiny_bert(), config("eva", target_modules=["query"], trainable_token_indices=[3, 5]))
    rng = np.random.default_rng(0)
    initialize_lora_eva_weights(model, [{"input_ids": rng.integers(3, 31, (4, 6))} for _ in range(2)])
    assert not any(layer.adapters["default"].B.data.any() for path, layer in model.lora_layers() if "query" in path)
    assert sum("word_embeddings" in path for path, _ in model.lora_layers()) == 1
