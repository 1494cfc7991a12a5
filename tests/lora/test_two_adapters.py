"""Two adapters that differ in every option, against the formula written out in NumPy: each counts where it is active,
with its own numbers, and with no one else's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from npora.lora import read_record
from npora.nn import Linear, Module
from npora.nn import functional as F
from npora.nn.module import Array

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {
        "r": 2, "lora_alpha": 3, "lora_dropout": 0.4, "init_lora_weights": False, "rank_pattern": {"lower": 3},
        "alpha_pattern": {"upp.*": 5, "upper": 70},
    },
    "other": {
        "r": 4, "lora_alpha": 7, "lora_dropout": 0.2, "init_lora_weights": "gaussian", "use_rslora": True,
        "rank_pattern": {"low.*": 5, "lower|upper": 6}, "alpha_pattern": {"low|upper": 11, "up.*r": 13},
    },
}  # fmt: skip
# r and s of each, by hand. A pattern is for the whole end of a path, and the first that fits wins.
RANKS = {"default": {"lower": 3, "upper": 2}, "other": {"lower": 5, "upper": 6}}
SCALES = {"default": {"lower": 3 / 3, "upper": 5 / 2}, "other": {"lower": 7 / math.sqrt(5), "upper": 11 / math.sqrt(6)}}
TARGETS = ["lower", "upper"]


class Net(Module):
    """y = W₃ (U (L x + b)) + …: two layers with an adapter each, and a head."""

    def __init__(self) -> None:
        self.lower = Linear(5, 4, rng=1, dtype=np.float64)
        self.upper = Linear(4, 7, rng=2, dtype=np.float64)
        self.head = Linear(7, 3, rng=3, dtype=np.float64)
        for number, layer in enumerate((self.lower, self.upper, self.head)):
            layer.bias.data = values(number, len(layer.bias.data))

    def forward(self, x: Array, rng: Any = None) -> tuple[Array, Callable[[Array], Array]]:
        z, back_lower = self.lower(x, rng)
        z, back_upper = self.upper(z, rng)
        y, back_head = self.head(z, rng)
        return y, lambda dy: back_lower(back_upper(back_head(dy)))


def values(seed: int, *shape: int) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def fresh() -> PeftModel:
    model = get_peft_model(
        Net(), LoraConfig(target_modules=TARGETS, modules_to_save=["head"], **CONFIGS["default"]), seed=5
    )
    model.add_adapter("other", LoraConfig(target_modules=TARGETS, modules_to_save=["head"], **CONFIGS["other"]), seed=6)
    return model


def both() -> PeftModel:
    """Every tensor of either adapter is drawn, so that none is zero or another's."""
    model = fresh()
    for seed, name in enumerate(CONFIGS):
        for number, parameter in enumerate(model.adapter_parameters(name).values()):
            parameter.data = values(100 * (seed + 1) + number, *parameter.shape)
    return model


def tensors(model: PeftModel, name: str) -> dict[str, Array]:
    """lower.A, lower.B, …, head.weight, head.bias."""
    found = {}
    for path, parameter in model.adapter_parameters(name).items():
        path = path.removeprefix("base_model.model.")
        found[path.replace("lora_", "").replace(".weight", "") if "lora_" in path else path] = parameter.data
    return found


def by_hand(model: PeftModel, name: str, x: Array, dy: Array, seed: int) -> tuple[Array, Array, dict[str, Array]]:
    """y, dx and every gradient of y = Σ, with the masks that this seed draws in the order of the layers."""
    rng, p, theta, base = np.random.default_rng(seed), CONFIGS[name]["lora_dropout"], tensors(model, name), Net()
    kept: dict[str, Any] = {}
    z = x
    for layer in TARGETS:
        plain, s = getattr(base, layer), SCALES[name][layer]
        A, B = theta[f"{layer}.A"], theta[f"{layer}.B"]
        dropped, _ = F.dropout(z, p, rng)
        kept[layer] = z, dropped, plain.weight.data, s, A, B
        z = z @ plain.weight.data.T + plain.bias.data + s * (dropped @ A.T @ B.T)
    y = z @ theta["head.weight"].T + theta["head.bias"]
    gradients = {"head.weight": dy.T @ z, "head.bias": dy.sum(axis=0)}
    d = dy @ theta["head.weight"]
    for layer in reversed(TARGETS):
        z, dropped, W, s, A, B = kept[layer]
        gradients[f"{layer}.B"] = s * d.T @ (dropped @ A.T)
        gradients[f"{layer}.A"] = s * (d @ B).T @ dropped
        mask = np.where(z == 0, 0, dropped / np.where(z == 0, 1, z))
        d = d @ W + mask * (s * d @ B @ A)
    return y, d, gradients


@pytest.mark.parametrize("n", [3, 200])  # the thin products, or W + s B A where nothing is dropped
@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_gradients_are_those_of_the_active_adapter_alone(name: str, n: int) -> None:
    model, x, dy = both(), values(1, n, 5), values(2, n, 3)
    model.set_adapter(name)
    y, backward = model(x, rng=np.random.default_rng(8))
    dx = backward(dy)
    expected_y, expected_dx, expected = by_hand(model, name, x, dy, 8)
    np.testing.assert_allclose(y, expected_y, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-11)
    found = {path: p.grad for path, p in model.named_parameters() if p.grad is not None}
    assert len(found) == len(expected) and all(f".{name}." in path for path in found)
    for path, gradient in expected.items():
        layer, _, leaf = path.partition(".")
        full = f"base_model.model.{layer}.modules_to_save.{name}.{leaf}"
        if layer != "head":
            full = f"base_model.model.{layer}.lora_{leaf}.{name}.weight"
        np.testing.assert_allclose(found[full], gradient, rtol=1e-12, atol=1e-10, err_msg=path)
    without, _ = model(x)
    assert abs(without - y).max() > 0.1  # it did drop out


@pytest.mark.parametrize("trained", [(), ("lower.A",), ("lower.B",), ("upper.A", "lower.B"), ("head.bias", "upper.B")])
def test_of_a_and_b_each_is_frozen_by_itself(trained: tuple[str, ...]) -> None:
    model, x, dy = both(), values(1, 3, 5), values(2, 3, 3)
    model.set_adapter("other")
    parameters = {
        path.removeprefix("base_model.model.").replace("lora_", ""): p
        for path, p in model.adapter_parameters("other").items()
    }
    parameters = {(k.removesuffix(".weight") if "head" not in k else k): p for k, p in parameters.items()}
    assert len(parameters) == 6
    for path, parameter in parameters.items():
        parameter.requires_grad = path in trained
    _, backward = model(x, rng=np.random.default_rng(8))
    dx = backward(dy)
    _, expected_dx, expected = by_hand(model, "other", x, dy, 8)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-11)
    assert {path for path, p in parameters.items() if p.grad is not None} == set(trained)
    for path in trained:
        np.testing.assert_allclose(parameters[path].grad, expected[path], rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("active", CONFIGS)
def test_deltas_and_merged_weights_are_those_of_the_adapter_that_is_asked_for(active: str) -> None:
    model, x = both(), values(1, 4, 5)
    model.set_adapter(active)
    deltas = {}
    for name in CONFIGS:
        theta = tensors(model, name)
        for path, layer in model.lora_layers():
            deltas[name, path] = SCALES[name][path] * theta[f"{path}.B"] @ theta[f"{path}.A"]
            np.testing.assert_allclose(layer.get_delta_weight(name), deltas[name, path], rtol=1e-13, atol=1e-13)
            assert theta[f"{path}.A"].shape[0] == RANKS[name][path]
    before, _ = model(x)
    model.merge_adapter()
    np.testing.assert_allclose(model(x)[0], before, rtol=1e-12, atol=1e-11)
    model.unmerge_adapter()
    assert model(x)[0].tobytes() == before.tobytes()
    head = tensors(model, active)
    plain: Any = model.merge_and_unload()
    np.testing.assert_allclose(plain(x)[0], before, rtol=1e-12, atol=1e-11)
    for path in TARGETS:
        W = getattr(Net(), path).weight.data
        np.testing.assert_allclose(getattr(plain, path).weight.data, W + deltas[active, path], rtol=1e-13, atol=1e-13)
    assert (plain.head.weight.data == head["head.weight"]).all() and (plain.head.bias.data == head["head.bias"]).all()
    assert not any(p.requires_grad for p in plain.parameters())


def test_each_adapter_begins_as_its_own_config_says() -> None:
    """B is drawn for the first, and zero for the second, whose A is N(0, 1/r²)."""
    first, second = (tensors(fresh(), name) for name in CONFIGS)
    for path, width in (("lower", 5), ("upper", 4)):
        r = RANKS["default"][path]
        assert 0 < abs(first[f"{path}.A"]).max() <= 1 / math.sqrt(width)
        assert 0 < abs(first[f"{path}.B"]).max() <= 1 / math.sqrt(r)
        assert not second[f"{path}.B"].any() and second[f"{path}.A"].any()
    wide = get_peft_model(Wide(), LoraConfig(r=3, target_modules=["dense"]), seed=1)
    for name, start in (("second", "gaussian"), ("third", False)):
        wide.add_adapter(name, LoraConfig(r=5, target_modules=["dense"], init_lora_weights=start), seed=1)
    A = {name: wide.adapter_parameters(name)["base_model.model.dense.lora_A.weight"].data for name in wide.peft_config}
    B = {name: wide.adapter_parameters(name)["base_model.model.dense.lora_B.weight"].data for name in wide.peft_config}
    assert np.std(A["second"]) == pytest.approx(1 / 5, rel=0.05) and abs(A["second"]).max() > 0.5
    assert np.std(A["default"]) == pytest.approx(1 / 20 / math.sqrt(3), rel=0.05)
    assert B["third"].any() and not B["default"].any() and not B["second"].any()


class Wide(Module):
    def __init__(self) -> None:
        self.dense = Linear(400, 3, rng=1)


@pytest.mark.parametrize("start", [True, False, "gaussian"])
def test_what_an_adapter_begins_with_is_drawn_from_its_own_seed_be_it_the_first_or_not(start: Any) -> None:
    """In float64 the values have all their digits."""
    config: dict[str, Any] = {"r": 3, "target_modules": TARGETS, "init_lora_weights": start}
    alone = get_peft_model(Net(), LoraConfig(**config), seed=9)
    later = get_peft_model(Net(), LoraConfig(r=2, target_modules=TARGETS), seed=9)
    for seed, name in ((9, "same"), (10, "different")):
        later.add_adapter(name, LoraConfig(**config), seed=seed)
    expected = {path: p.data for path, p in alone.adapter_parameters("default").items()}
    for path, parameter in later.adapter_parameters("same").items():
        assert parameter.data.tobytes() == expected[path].tobytes()
    for path, parameter in later.adapter_parameters("different").items():
        assert not parameter.data.any() or (parameter.data != expected[path]).any()
    A = expected["base_model.model.lower.lora_A.weight"]
    assert A.dtype == np.float64 and (A != A.astype(np.float32)).all()


def test_a_second_adapters_head_starts_from_the_bases_and_is_its_own() -> None:
    model = get_peft_model(Net(), LoraConfig(target_modules=TARGETS, modules_to_save=["head"]))
    for number, parameter in enumerate(model.adapter_parameters("default").values()):
        parameter.data = values(number, *parameter.shape)
    model.add_adapter("other", LoraConfig(r=1, target_modules=TARGETS, modules_to_save=["head"]))
    x, base = values(1, 4, 5), Net()
    model.set_adapter("other")
    np.testing.assert_array_equal(model(x)[0], base(x)[0])
    head = model.adapter_parameters("other")["base_model.model.head.weight"]
    head.data[...] = 7.0
    with model.disable_adapter():
        np.testing.assert_array_equal(model(x)[0], base(x)[0])
    assert not (model.adapter_parameters("default")["base_model.model.head.weight"].data == 7).any()
    frozen = [path for path, p in model.named_parameters() if "original_module" in path and p.requires_grad]
    assert not frozen and model.get_nb_trainable_parameters()[0] == 5 + 4 + 4 + 7 + 7 * 3 + 3


def test_each_adapter_is_saved_with_what_is_its_own_whichever_is_active(tmp_path: Path) -> None:
    model = both()
    model.set_adapter("other")
    model.notes = {"of": "other"}
    model.set_adapter("default")
    model.notes = {"of": "default"}
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "some", selected_adapters=["other"])
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["other"]
    x, expected = values(1, 4, 5), {}
    for name, folder in (("default", tmp_path), ("other", tmp_path / "other")):
        model.set_adapter(name)
        expected[name] = model(x)[0].tobytes()
        again = PeftModel.from_pretrained(Net(), folder)
        assert again(x)[0].tobytes() == expected[name] and again.notes == {"of": name} == read_record(folder)["notes"]
        config = again.peft_config["default"]
        for field, value in CONFIGS[name].items():
            assert getattr(config, field) == value
        assert config.inference_mode and not any(p.requires_grad for p in again.parameters())
        stored = load_file(folder / "adapter_model.safetensors")
        for path, parameter in model.adapter_parameters(name).items():
            assert stored[path].tobytes() == parameter.data.tobytes()
    # Both on one base, under names of their own; the second is trained on.
    again = PeftModel.from_pretrained(Net(), tmp_path / "other", adapter_name="a")
    again.load_adapter(tmp_path, "b", is_trainable=True)
    assert again(x)[0].tobytes() == expected["other"] and again.notes == {"of": "other"}
    assert again.get_nb_trainable_parameters()[0] == 0
    again.set_adapter("b")
    assert again(x)[0].tobytes() == expected["default"] and again.notes == {"of": "default"}
    trained = {path for path, p in again.named_parameters() if p.requires_grad}
    assert len(trained) == 6 and all(".b." in path for path in trained)
    again.set_adapter("a")
    assert not [path for path, p in again.named_parameters() if p.requires_grad]  # loaded to be used


def broken(model: PeftModel, layer: int) -> PeftModel:
    B = list(model.adapter_parameters(model.active_adapter).values())[2 * layer + 1]
    B.data = np.where(np.arange(B.data.size).reshape(B.shape) == B.data.size - 1, np.inf, B.data)
    return model


@pytest.mark.parametrize("layer", [0, 1])
def test_a_safe_merge_refuses_one_number_that_is_not_finite_and_another_merge_does_not(layer: int) -> None:
    with np.errstate(invalid="ignore"):
        for call in (
            lambda model: model.merge_adapter(safe_merge=True), lambda model: model.merge_and_unload(safe_merge=True),
            lambda model: [each.merge(safe_merge=True) for _, each in reversed(model.lora_layers()[: layer + 1])],
        ):  # fmt: skip
            model = broken(both(), layer)
            with pytest.raises(ValueError, match="adapter 'default' is not finite: it was not merged"):
                call(model)
            assert not any(each.merged_adapters for _, each in model.lora_layers()) and len(model.peft_config) == 2
        broken(both(), layer).merge_adapter()
        broken(both(), layer).merge_and_unload()
