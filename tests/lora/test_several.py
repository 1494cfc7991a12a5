"""Several adapters that are active at once: each changes what those before it made of the layer, in values, in every
gradient, with dropout, merged or not; and an adapter keeps all but its name when that is another."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LNTuningConfig, LoraConfig, PeftModel, VeraConfig, gradcheck
from npora.files import load_metadata
from npora.lora import convert_to_lora
from npora.lora.adapted import Adapted
from npora.lora.several import composed
from npora.nn import Conv1D, LayerNorm, Linear, Module
from npora.nn.functional import dropout
from tests.lora.cases import METHODS, Method, adapted, drops, goes_on
from tests.lora.test_methods import drawn
from tests.lora.test_two_adapters import Net, both, values
from tests.properties.strategies import normal

LORA, DORA = Method("LoRA", LoraConfig(r=2, lora_alpha=3)), Method("DoRA", LoraConfig(r=2, use_dora=True))
PAIRS = [(first, second) for case in METHODS for first, second in ((case, case), (case, LORA), (LORA, case))]
# A start that is kept, below a method that forms the matrix.
PAIRS += [(case, DORA) for case in METHODS if case.name in ("pissa_linear", "olora_linear")]
pairs = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-then-".join(case.name for case in pair))


def with_two(pair: tuple[Method, Method], i: int = 5, o: int = 4, *, conv: bool = False, bias: bool = True) -> Adapted:
    layer = adapted(pair[0], i, o, conv=conv, bias=bias)
    layer.adapters["second"] = adapted(pair[1], i, o, seed=1, conv=conv, bias=bias).adapters["default"]
    layer.active_adapters = ["default", "second"]
    return layer


@pairs
@pytest.mark.parametrize("bias", [True, False])
def test_the_second_changes_what_the_first_made(pair: tuple[Method, Method], bias: bool) -> None:
    for conv in {False, all(goes_on(case, Conv1D) for case in pair)}:
        layer, x = with_two(pair, conv=conv, bias=bias), drawn(3, 2, 3, 5)
        base = layer.base_layer
        if base.bias is not None:
            base.bias.requires_grad = True
        y, merged = layer(x)[0], layer._composed(["default", "second"])
        np.testing.assert_allclose(y, merged(x)[0], rtol=0, atol=1e-12 * max(1, abs(y).max()))
        ones = [layer._composed([name])(x)[0] for name in ("default", "second")]
        assert min(abs(y - other).max() for other in ones) > 1e-3
        report = gradcheck(layer, x)
        assert report.ok, report
        y, backward = layer(drawn(3, 0, 5))
        assert y.shape == (0, 4) and backward(y).shape == (0, 5)


@pytest.mark.parametrize("pair", [p for p in PAIRS if drops(p[0]) or drops(p[1])], ids=lambda p: p[0].name + p[1].name)
@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.0, 0.4), (0.4, 0.3)])
def test_each_drops_out_on_its_own_path(pair: tuple[Method, Method], rates: tuple[float, float]) -> None:
    layer, x = with_two(pair), drawn(3, 6, 5)
    for adapter, rate, case in zip(layer.adapters.values(), rates, pair, strict=True):
        adapter.dropout_p = rate if drops(case) else 0.0
    report = gradcheck(layer, x, rng=np.random.default_rng(3))
    assert report.ok, report
    kinds = [type(adapter).__name__ for adapter in layer.adapters.values()]
    if kinds[1] not in ("LoRA", "StartedLoRA", "DoRA", "LoHa", "HiRA", "VeRA"):
        return  # it turns or scales what the first one's dropout left
    rng, base, adapters = np.random.default_rng(3), layer.base_layer, list(layer.adapters.values())
    expected, last = x @ base.matrix.T, base.matrix
    for adapter, step in zip(adapters, composed(last, base.bias.data, adapters, np.float64), strict=True):
        dropped = dropout(x, adapter.dropout_p, rng)[0] if adapter.dropout_p else x
        whole = -adapter.s * adapter.B0.data @ adapter.A0.data if hasattr(adapter, "A0") else np.zeros((4, 5))
        expected, last = expected + dropped @ (step.matrix - last - whole).T + x @ whole.T, step.matrix
    assert step.bias is not None
    y = layer(x, np.random.default_rng(3))[0]
    np.testing.assert_allclose(y, expected + step.bias, rtol=0, atol=1e-12 * max(1, abs(y).max()))


def test_adapters_that_ask_their_base_for_its_output_alone_form_no_matrix() -> None:
    i, o = 900, 700
    layer, x = with_two((LORA, LORA), i, o), drawn(0, 2, i)
    layer(x)
    gc.collect()
    tracemalloc.start()
    try:
        y, backward = layer(x)
        backward(drawn(1, *y.shape))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < i * o * x.itemsize / 2


def test_an_identity_is_told_of_one_active_adapter_and_of_no_more() -> None:
    layer, x = with_two((LORA, LORA)), drawn(3, 4, 5)
    for names, number in ((["second"], 1), (["default", "second"], 0)):
        layer.active_adapters = names
        y, backward = layer(x)
        backward(np.array(y))
        assert len(list(layer.identities({"x": x}, {"x": x}))) == number


X = values(7, 6, 5)


def without_heads() -> PeftModel:
    model = PeftModel(Net(), LoraConfig(r=2, lora_alpha=3, target_modules=["lower", "upper"]), "first", seed=1)
    model.add_adapter("second", LoraConfig(r=3, target_modules=["upper", "head"]), seed=2)
    model.add_adapter("third", LoraConfig(r=1, target_modules=["lower"], use_dora=True), seed=3)
    for name in model.peft_config:
        for number, parameter in enumerate(model.adapter_parameters(name).values()):
            parameter.data = parameter.data + 0.5 * normal(number, *parameter.shape)
    return model


@pytest.mark.parametrize("names", [["first", "second"], ["third", "first"], ["second", "third", "first"]])
def test_those_that_are_active_are_trained_merged_in_their_order_and_unmerged_exactly(names: list[str]) -> None:
    model = without_heads()
    alone = {name: model.set_adapter(name) or model(X)[0] for name in model.peft_config}
    model.set_adapter(names)
    assert model.active_adapters == names and model.active_adapter == names[0]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[-2] for name in trained} == set(names)
    y = model(X)[0]
    assert all(not np.allclose(y, other) for other in alone.values())
    report = gradcheck(model, X)
    assert report.ok, report
    before = {name: array.tobytes() for name, array in model.base_state().items()}
    model.merge_adapter()
    assert {tuple(layer.merged_adapters) for _, layer in model.lora_layers()} == {
        tuple(name for name in names if name in layer.adapters) for _, layer in model.lora_layers()
    }
    np.testing.assert_allclose(model(X)[0], y, rtol=0, atol=1e-12)
    model.unmerge_adapter()
    assert model(X)[0].tobytes() == y.tobytes()
    with model.disable_adapter():
        assert model(X)[0].tobytes() == Net()(X)[0].tobytes()
    assert {name: array.tobytes() for name, array in model.base_state().items()} == before
    np.testing.assert_allclose(model.merge_and_unload()(X)[0], y, rtol=0, atol=1e-12)


def test_an_order_says_which_one_changes_what_the_others_made() -> None:
    model, outputs = without_heads(), []
    for names in (["first", "third"], ["third", "first"]):
        model.set_adapter(names)
        outputs.append(model(X)[0])
    assert not np.allclose(*outputs)  # DoRA scales what was there


def test_what_replaces_its_layer_is_not_active_beside_another() -> None:
    class Normed(Module):
        def __init__(self) -> None:
            self.norm, self.dense = LayerNorm(5, dtype=np.float64), Linear(5, 4, rng=0, dtype=np.float64)

    model = PeftModel(Normed(), LNTuningConfig(target_modules=["norm"]), "first")
    model.add_adapter("second", LNTuningConfig(target_modules=["norm"]))
    model.add_adapter("third", LoraConfig(target_modules=["dense"]))
    with pytest.raises(ValueError, match="'first' replaces what it is on"):
        model.set_adapter(["third", "first", "second"])
    model.set_adapter(["third", "second"])
    assert model.active_adapters == ["third", "second"]
    with pytest.raises(ValueError, match="is on a LayerNorm, whose weight is no matrix: it has no singular values"):
        convert_to_lora(model, 1, "first")
    with pytest.raises(ValueError, match="norm is a LayerNorm, where LoRA does not go"):
        model.add_weighted_adapter(["first", "third"], [1, 1], "new", "svd")


def test_what_cannot_be_active_together_is_refused_and_nothing_is_changed() -> None:
    model = both()  # either trains the head whole
    y = model(X)[0]
    for names, error in ((["default", "other"], "both train head whole"), ([], "takes a name, or several"),
                         (["default", "nobody"], "there is no adapter 'nobody'")):  # fmt: skip
        with pytest.raises(ValueError, match=error):
            model.set_adapter(names)
        assert model.active_adapters == ["default"] and model(X)[0].tobytes() == y.tobytes()
    model = without_heads()
    model.set_adapter(["first", "second", "first"])
    assert model.active_adapters == ["first", "second"]
    with pytest.raises(ValueError, match="adapter 'second' is active"):
        model.delete_adapter("second")
    model.delete_adapter("third")


@pytest.mark.parametrize("state", ["active", "inactive", "merged", "off"])
def test_a_renamed_adapter_is_what_it_was(state: str, tmp_path: Path) -> None:
    model: Any = both()
    old = "other" if state == "inactive" else "default"
    if state == "merged":
        model.merge_adapter()
    expected, parameters = model(X)[0].tobytes(), model.adapter_parameters(old)
    with model.disable_adapter() if state == "off" else nullcontext():
        model.rename_adapter(old, "new")
    assert model(X)[0].tobytes() == expected and old not in model.peft_config
    assert list(model.peft_config) == (["default", "new"] if state == "inactive" else ["new", "other"])
    assert {name: id(part) for name, part in model.adapter_parameters("new").items()} == {
        name: id(part) for name, part in parameters.items()
    }
    live = [name for name, _ in model.named_parameters()]
    assert any(".lora_A.new.weight" in name for name in live) and not any(f".{old}." in name for name in live)
    if state == "merged":
        assert model.lora_layers()[0][1].merged_adapters == ["new"]
        model.unmerge_adapter()
    model.set_adapter("new")
    y = model(X)[0]
    model.save_pretrained(tmp_path, selected_adapters=["new"])
    assert PeftModel.from_pretrained(Net(), tmp_path / "new")(X)[0].tobytes() == y.tobytes()
    if state == "inactive":
        model.delete_adapter("default")
    else:
        model.set_adapter("other")
        model.delete_adapter("new")


def test_a_name_that_is_taken_unknown_or_none_is_refused() -> None:
    model = both()
    for old, new, error in (("default", "other", "there is an adapter named 'other' already"),
                            ("nobody", "new", "there is no adapter 'nobody'"), ("default", "a.b", "made of letters"),
                            ("default", "default", "already")):  # fmt: skip
        with pytest.raises(ValueError, match=error):
            model.rename_adapter(old, new)
    assert list(model.peft_config) == ["default", "other"]


def test_what_is_kept_beside_an_adapters_tensors_is_kept_under_its_new_name(tmp_path: Path) -> None:
    model = PeftModel(Net(), VeraConfig(r=3, target_modules=["lower"]))
    model.notes["rows"] = 7
    model.save_pretrained(tmp_path / "one")
    again = PeftModel.from_pretrained(Net(), tmp_path / "one")
    again.rename_adapter("default", "new")
    again.rename_adapter("new", "default")
    assert again.notes == {"rows": 7} and "base_model.vera_A.default" in dict(again.named_parameters())
    again._notes["default"] = {"rows": 8}
    again.rename_adapter("default", "new")
    assert again.notes == {"rows": 8} and "base_model.vera_A.new" in dict(again.named_parameters())
    again.notes = {"rows": 7}
    metadata = load_metadata(tmp_path / "one" / "adapter_model.safetensors")
    again._origins["new"] = replace(again._origins["new"], metadata={**metadata, "said": "before"})
    again.save_pretrained(tmp_path / "two")
    assert load_metadata(tmp_path / "two" / "new" / "adapter_model.safetensors")["said"] == "before"


def test_of_three_one_that_needs_the_matrix_is_enough_to_form_it() -> None:
    layer, x = with_two((LORA, LORA)), drawn(3, 4, 5)
    layer.adapters["third"] = adapted(DORA, 5, 4, seed=2).adapters["default"]
    for names in (["default", "third", "second"], ["second", "default", "third"]):
        layer.active_adapters = names
        assert layer.active_adapter == names[0]
        np.testing.assert_allclose(layer(x)[0], layer.merged_linear()(x)[0], rtol=0, atol=1e-12)
        report = gradcheck(layer, x)
        assert report.ok, report
