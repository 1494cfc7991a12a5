"""What holds of MiSS beside what holds of every method: shards, and the two other forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import MissConfig, PeftModel, get_peft_model, gradcheck
from npora.lora.adapted import Adapted
from npora.lora.inject import adapted_layer
from npora.lora.methods.miss import repeated, sum_of_shards
from npora.nn import Linear
from tests.lora.cases import Method, adapted
from tests.lora.test_counted import beside_the_base
from tests.lora.test_files import change_config, logits
from tests.lora.test_linear import sizes_of_arrays_below
from tests.tiny import tiny_bert

FORMS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "shards that fill x": ({"r": 4}, (4, 6)),
    "a shard that is not full": ({"r": 5}, (5, 6)),
    "one shard": ({"r": 12}, (12, 6)),
    "mini": ({"r": 5, "init_weights": "mini", "mini_r": 3}, (5, 3)),
    "bat": ({"r": 2, "init_weights": "bat"}, (3, 2, 2)),
    "bat of larger blocks": ({"r": 3, "init_weights": "bat"}, (2, 3, 3)),
}
forms = pytest.mark.parametrize("form", FORMS)


def layer_of(form: str, **more: Any) -> Adapted:
    layer = adapted(Method(form, MissConfig(**FORMS[form][0], **more)), 12, 6)
    assert layer.miss_block["default"].shape == FORMS[form][1]
    return layer


@forms
def test_the_layer_adds_the_same_numbers_again_and_again(form: str) -> None:
    layer, fields = layer_of(form), FORMS[form][0]
    W, M, r = layer.base_layer.matrix, layer.miss_block["default"].data, fields["r"]
    delta = np.zeros((6, 12))
    for o, i in np.ndindex(6, 12):
        if "bat" in form:
            block = W[o // r * r : o // r * r + r, i // r * r : i // r * r + r] + np.eye(r)
            delta[o, i] = block[o % r] @ M[o // r][:, i % r]
        else:
            delta[o, i] = M[i % r, o % M.shape[1]]
    x = np.random.default_rng(3).standard_normal((2, 3, 12))
    expected = x @ (W + delta).T + layer.base_layer.bias.data  # type: ignore[union-attr]
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.get_delta_weight("default"), delta, rtol=0, atol=1e-13)


@forms
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_its_gradients_are_right_in_every_form(form: str, dropout: float) -> None:
    layer, x = layer_of(form), np.random.default_rng(4).standard_normal((2, 3, 12))
    layer.adapters["default"].dropout_p = dropout
    report = gradcheck(layer, x, rng=np.random.default_rng(5))
    assert report.ok, report


@forms
def test_its_definition_has_the_pullback_of_its_forward(form: str) -> None:
    layer = layer_of(form)
    adapter = layer.adapters["default"]

    def merged(W: Any, M: Any) -> Any:
        changed, _, backward = adapter.merged(W, None, M)
        return changed, lambda dW: (lambda found: (found[0], found[2]))(backward(dW, None))

    report = gradcheck(merged, np.array(layer.base_layer.matrix), np.array(adapter.theta[0]))
    assert report.ok, report


def test_sums_of_shards_and_repetitions_are_each_others_pullback() -> None:
    rng = np.random.default_rng(0)
    for i, r in ((7, 3), (6, 3), (5, 5), (4, 1)):
        x, u = rng.standard_normal((2, i)), rng.standard_normal((2, r))
        np.testing.assert_allclose((sum_of_shards(x, r) * u).sum(), (x * repeated(u, i)).sum(), rtol=1e-12)
        assert sum_of_shards(x, r)[0, 0] == pytest.approx(x[0, ::r].sum(), rel=1e-12)


def test_both_forms_take_the_products_that_their_page_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert beside_the_base(layer_of("mini"), monkeypatch) == (1, 2)
    assert beside_the_base(layer_of("bat"), monkeypatch) == (0, 1)


def test_backward_keeps_the_sum_of_the_shards_and_not_x() -> None:
    sizes = sizes_of_arrays_below(layer_of("shards that fill x")(np.ones((50, 12)))[1])
    assert 50 * 4 in sizes and 50 * 12 not in sizes


@pytest.mark.parametrize("start", [True, False, "mini", "bat"])
def test_it_begins_as_nothing_unless_it_is_drawn(start: Any) -> None:
    config = MissConfig(r=2, init_weights=start, mini_r=3 if start == "mini" else 1)
    layer = adapted_layer(Linear(12, 6, rng=0), config, np.random.default_rng(1))
    M = layer.miss_block["default"].data
    assert M.any() == (start is False) and abs(M).max() <= 6**-0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"r": 99}, "query has 6 inputs, and a shard of r=99 is more: choose r ≤ 6"),
        ({"r": 4, "mini_r": 3}, "mini_r=3 says something with init_weights='mini' alone: leave it out"),
        ({"r": 4, "mini_r": 4, "init_weights": "mini"}, "query has 6 outputs, which mini_r=4 does not divide"),
        ({"r": 4, "init_weights": "bat"}, "query is 6 by 6, and r=4 must divide both: init_weights='bat' is of blocks"),
        ({"r": 4, "init_weights": "bat", "miss_dropout": 0.1}, "'bat' drops nothing out, in PEFT neither"),
        ({"r": 7}, "query has 6 inputs, and a shard of r=7 is more"),
        ({"r": 2, "init_weights": "bat"}, "intermediate.dense is 7 by 6, and r=2 must divide both"),
        ({"mini_r": 0}, "mini_r must be at least 1; got 0"),
        ({"mini_r": 1.5}, "mini_r must be a whole number; got 1.5"),
        ({"init_weights": "bone"}, "init_weights must be True, False, 'bat' or 'mini'; got 'bone'"),
        ({"bias": "lora_only"}, "bias must be 'none', 'all' or 'MiSS_only'; got 'lora_only'"),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_model_stays(fields: dict[str, Any], message: str) -> None:
    model = tiny_bert()
    before = [name for name, _ in model.named_parameters()]
    with pytest.raises(ValueError) as error:
        get_peft_model(model, MissConfig(target_modules=["query", "intermediate.dense"], **fields))
    assert message in str(error.value)
    assert before == [name for name, _ in model.named_parameters()]


def test_a_config_of_another_form_than_the_tensors_is_refused(tmp_path: Path) -> None:
    config = MissConfig(r=4, mini_r=3, init_weights="mini", target_modules=["query"])
    model = get_peft_model(tiny_bert(), config)
    model.save_pretrained(tmp_path)
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == logits(model)
    change_config(init_weights=True)(tmp_path)
    with pytest.raises(ValueError, match=r"shape|belong together"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)


def test_biases_train_beside_it() -> None:
    model = get_peft_model(tiny_bert(), MissConfig(r=4, target_modules=["query"], bias="MiSS_only"))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"default", "bias"}


def test_without_targets_it_goes_where_the_model_says() -> None:
    config = MissConfig(r=2)
    config.complete(tiny_bert())
    assert config.target_modules == ["query", "value"]
