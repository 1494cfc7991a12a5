"""Arrays that a whole model has once, on VeRA: whose they are, where they lie, and what files say of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from npora import PeftModel, get_peft_model
from npora.files import load_file, save_file
from npora.lora import PeftConfig, VeraConfig, methods
from npora.lora.adapter import Adapter, Tensor
from npora.lora.inject import adapted_layer
from npora.lora.methods.vera import VeRA
from npora.lora.torch_words import TorchWords
from npora.nn import Linear
from npora.nn.module import Array, Parameter
from tests.tiny import tiny_bert

IDS = np.random.default_rng(0).integers(1, 31, (3, 5))
LABELS = np.array([2, 0, 1])
SHARED = ["base_model.vera_A.default", "base_model.vera_B.default"]


def adapted(seed: int = 1, base: Any = None, **config: Any) -> PeftModel:
    base = tiny_bert(dtype=np.float64) if base is None else base
    return moved(get_peft_model(base, vera(**config)), seed)


def vera(**config: Any) -> VeraConfig:
    return VeraConfig(**{"r": 3, "target_modules": ["query", "output.dense"], "task_type": "SEQ_CLS", **config})


def moved(model: PeftModel, seed: int) -> PeftModel:
    """Whatever is trained away from where it starts."""
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + rng.standard_normal(parameter.shape)
    return model


def logits(model: Any) -> Array:
    return np.asarray(model(input_ids=IDS)[0].logits)


def array(model: PeftModel, letter: str, adapter: str = "default") -> Array:
    return model.get_parameter(f"base_model.vera_{letter}.{adapter}").data


def change(path: Path, **values: Any) -> None:
    path /= "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_layers_hold_the_models_own_arrays_of_the_largest_sizes() -> None:
    model = adapted()
    names = [name for name, _ in model.named_parameters() if "vera_A" in name or "vera_B" in name]
    assert names == SHARED and array(model, "A").shape == (3, 7) and array(model, "B").shape == (6, 3)
    for _, layer in model.lora_layers():
        assert layer.vera_A["default"] is model.get_parameter(SHARED[0])
    trained = {name.split(".")[-2] for name, p in model.named_parameters() if p.requires_grad and "vera" in name}
    assert trained == {"vera_lambda_b", "vera_lambda_d"}
    plain = tiny_bert(dtype=np.float64)
    assert model.base_state().keys() == plain.state_dict().keys()
    with model.disable_adapter():
        assert logits(model).tobytes() == logits(plain).tobytes() != logits(adapted(seed=1)).tobytes()


def test_equal_arrays_of_several_adapters_lie_in_one_memory_and_others_do_not(tmp_path: Path) -> None:
    model = adapted()
    model.add_adapter("same", vera())
    model.add_adapter("smaller", vera(target_modules=["query"]))
    model.add_adapter("of_another_key", vera(projection_prng_key=1))
    assert array(model, "A") is array(model, "A", "same") and array(model, "B") is array(model, "B", "same")
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    model.load_adapter(tmp_path, "loaded")
    for letter in "AB":
        first = array(model, letter)
        assert first is array(model, letter, "same") is array(model, letter, "loaded")
        assert not np.shares_memory(first, array(model, letter, "of_another_key"))
    assert array(model, "A", "smaller").shape == (3, 6)
    own = logits(model)
    for name in ("smaller", "of_another_key"):
        model.set_adapter(name)
        moved(model, 4)
        model.save_pretrained(tmp_path, selected_adapters=[name])
        alone = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path / name)
        assert logits(alone).tobytes() == logits(model).tobytes() != own.tobytes()
    model.set_adapter("default")
    assert logits(model).tobytes() == own.tobytes()


def test_a_file_with_other_arrays_changes_no_other_adapters(tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(tmp_path)
    arrays = load_file(tmp_path / "adapter_model.safetensors")
    arrays["base_model.vera_A"] = arrays["base_model.vera_A"] * 2
    save_file(arrays, tmp_path / "adapter_model.safetensors", {"format": "pt"})
    before = logits(model)
    model.load_adapter(tmp_path, "other")
    assert logits(model).tobytes() == before.tobytes()
    model.set_adapter("other")
    assert array(model, "A", "other").tobytes() == (2 * array(model, "A")).tobytes()
    assert array(model, "B", "other") is array(model, "B") and not np.allclose(logits(model), before)


def test_the_arrays_go_with_their_adapter() -> None:
    model = adapted()
    model.add_adapter("second", vera())
    model.set_adapter("second")
    model.delete_adapter("default")
    named = [name for name, _ in model.named_parameters() if "vera_A" in name or "vera_B" in name]
    assert named == ["base_model.vera_A.second", "base_model.vera_B.second"]
    expected = logits(moved(model, 2))
    merged = model.merge_and_unload()
    np.testing.assert_allclose(logits(merged), expected, rtol=0, atol=1e-12)
    assert not any("vera" in name for name, _ in model.named_parameters())
    model = adapted()
    model.unload()
    assert not any("vera" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("saved", [True, False])
def test_an_adapter_comes_back_from_its_file_bit_for_bit(tmp_path: Path, saved: bool) -> None:
    model = adapted(save_projection=saved, projection_prng_key=5)
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert ({"base_model.vera_A", "base_model.vera_B"} <= names) == saved == any("vera_A" in name for name in names)
    again = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path, is_trainable=True)
    assert logits(again).tobytes() == logits(model).tobytes()
    moved(again, 3)
    again.load_adapter(tmp_path)
    assert logits(again).tobytes() == logits(model).tobytes()


def test_a_config_that_says_otherwise_of_its_file_is_refused(tmp_path: Path) -> None:
    for saved, message in ((True, "unexpected: base_model.vera_A .*save_projection=False"), (False, "missing: base_")):
        adapted(save_projection=saved).save_pretrained(tmp_path)
        change(tmp_path, save_projection=not saved)
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path)
    adapted(save_projection=False).save_pretrained(tmp_path)
    change(tmp_path, projection_prng_key=4)
    with pytest.raises(ValueError, match=r"projection_prng_key=4, but .* was saved with projection_prng_key=0"):
        PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path)


def test_a_file_that_would_lack_arrays_which_the_key_does_not_give_is_refused(tmp_path: Path) -> None:
    model = adapted()
    model.peft_config["default"].save_projection = False  # type: ignore[attr-defined]
    model.save_pretrained(tmp_path)
    assert logits(PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path)).tobytes() == logits(model).tobytes()
    model.get_parameter(SHARED[1]).data = 2 * array(model, "B")
    with pytest.raises(ValueError, match=r"vera_B of adapter 'default' .* set save_projection=True"):
        model.save_pretrained(tmp_path)


def test_fields_are_checked_and_what_peft_has_not_is_none() -> None:
    for field, value in (("r", 0), ("projection_prng_key", 0.5), ("vera_dropout", 1.0), ("bias", "lora_only")):
        with pytest.raises(ValueError, match="rank" if field == "r" else field):
            VeraConfig(**{field: value})
    with pytest.raises(TypeError, match="VeraConfig has no field 'exclude_modules'"):
        VeraConfig(exclude_modules=["query"])
    assert "exclude_modules" not in VeraConfig().to_dict()
    assert PeftConfig.from_dict({"peft_type": "VERA", "exclude_modules": None, "r": 4}) == VeraConfig(r=4)


@dataclass
class BankConfig(VeraConfig):
    """For a method whose shared array is trained."""


class Bank(VeRA):
    """VeRA with A trained, as the banks of other methods are, by the way that forms W′."""

    config_class = BankConfig
    tensors: ClassVar[dict[str, Tensor]] = {**VeRA.tensors, "A": Tensor("vera_A.{}", shared=True)}
    forward = Adapter.forward


def test_a_shared_array_can_be_trained_by_all_layers_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "METHODS", (Bank, *methods.METHODS))
    config = {"r": 3, "target_modules": ["query", "output.dense"], "task_type": "SEQ_CLS"}
    model = moved(get_peft_model(tiny_bert(dtype=np.float64), BankConfig(**config)), 1)
    alone = adapted_layer(Linear(5, 4), BankConfig(r=3), np.random.default_rng(0)).adapters["default"]
    assert [parameter.requires_grad for parameter in alone.parameters()] == [True, True, True, False]
    A, B = (model.get_parameter(name) for name in SHARED)
    assert A.requires_grad and not B.requires_grad
    direction, step, losses = np.random.default_rng(5).standard_normal(A.shape), 1e-5, []
    model(input_ids=IDS, labels=LABELS)[1]()
    assert A.grad is not None and B.grad is None
    slope, at = np.vdot(A.grad, direction), A.data
    for sign in (1, -1):
        A.data = at + sign * step * direction
        losses.append(float(model(input_ids=IDS, labels=LABELS)[0].loss))
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(slope, rel=1e-6)
    A.data = at
    model.save_pretrained(tmp_path)
    model.load_adapter(tmp_path, "equal", config=BankConfig(**config))
    assert not np.shares_memory(A.data, array(model, "A", "equal")) and array(model, "B", "equal") is B.data
    again = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path, config=BankConfig(**config))
    assert logits(again).tobytes() == logits(model).tobytes() and not again.get_parameter(SHARED[0]).requires_grad
    again.add_adapter("second", BankConfig(**config))
    again.set_adapter("second")
    second = again.get_parameter("base_model.vera_A.second")
    assert isinstance(second, Parameter) and second.requires_grad and not again.get_parameter(SHARED[0]).requires_grad
    count, layers = again.get_nb_trainable_parameters(), 6 * (6 + 3) + 6 * 3 + 3
    assert count[0] == A.size + layers


def test_veras_arrays_are_even_within_the_bound_of_their_inputs() -> None:
    """U(±√(6 / fan_in)), A [r,i] before B [o,r] from one generator (He et al., 2015)."""
    found = VeRA.shared(VeraConfig(r=3, projection_prng_key=6), {"x": (7, 5)}, np.dtype(np.float64), None)  # type: ignore[arg-type]
    words = TorchWords(6)
    for name, shape in (("vera_A", (3, 5)), ("vera_B", (7, 3))):
        bound = (6 / shape[1]) ** 0.5
        np.testing.assert_allclose(found[name], words.uniform(shape, -bound, bound), rtol=1e-5)
        assert np.abs(found[name]).max() <= bound
