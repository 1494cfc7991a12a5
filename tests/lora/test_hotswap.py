"""What is swapped in is what was saved, under the name, and in the state, of what it takes the place of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npora import HiraConfig, LNTuningConfig, LoraConfig, PeftModel, get_peft_model
from npora.lora import PeftConfig, hotswap_adapter
from npora.nn.module import Array
from npora.optim import SGD, Adam
from tests.lora.test_several import X, without_heads
from tests.lora.test_two_adapters import Net
from tests.properties.strategies import normal
from tests.tiny import tiny_bert

CONFIGS: dict[str, PeftConfig] = {
    "another rank and scale": LoraConfig(r=5, lora_alpha=1, target_modules=["lower", "upper"]),
    "another method": HiraConfig(r=2, target_modules=["lower"]),
    "other layers": LoraConfig(r=2, target_modules=["head"]),
    "a head": LoraConfig(r=2, target_modules=["upper"], modules_to_save=["head"]),
}


def saved(folder: Path, config: PeftConfig) -> Array:
    """What the model gives with the adapter that it writes there."""
    model = get_peft_model(Net(), config)
    for number, parameter in enumerate(model.adapter_parameters("default").values()):
        parameter.data = parameter.data + 0.4 * normal(number + 50, *parameter.shape)
    model.save_pretrained(folder)
    return np.array(model(X)[0])


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_an_adapter_is_another_at_once_and_keeps_its_name_and_state(tmp_path: Path, kind: str, trained: bool) -> None:
    y = saved(tmp_path, CONFIGS[kind])
    model = PeftModel(Net(), LoraConfig(r=2, target_modules=["lower", "upper"]), "first")
    model.add_adapter("second", LoraConfig(r=1, target_modules=["lower"]))
    model.set_adapter("first", inference_mode=not trained)
    hotswap_adapter(model, tmp_path, "first", torch_device="cpu")
    assert model(X)[0].tobytes() == y.tobytes()
    assert list(model.peft_config) == ["first", "second"] and model.active_adapters == ["first"]
    assert type(model.peft_config["first"]) is type(CONFIGS[kind])
    assert {p.requires_grad for p in model.adapter_parameters("first").values()} == {trained}
    assert not any("-new" in name for name, _ in model.named_parameters())
    assert not model.peft_config["first"].inference_mode
    model.peft_config["first"].inference_mode = True
    hotswap_adapter(model, tmp_path, "first")
    assert model.peft_config["first"].inference_mode
    model.set_adapter("second")
    model.delete_adapter("first")
    with model.disable_adapter():
        assert model(X)[0].tobytes() == Net()(X)[0].tobytes()


def test_one_of_several_is_swapped_in_its_place(tmp_path: Path) -> None:
    saved(tmp_path, CONFIGS["another rank and scale"])
    model, again = without_heads(), without_heads()
    again.load_adapter(tmp_path, "fourth")
    again.set_adapter(["third", "fourth", "second"])
    model.set_adapter(["third", "first", "second"])
    hotswap_adapter(model, tmp_path, "first")
    assert model(X)[0].tobytes() == again(X)[0].tobytes() and model.active_adapters == ["third", "first", "second"]


def test_what_cannot_be_swapped_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    saved(tmp_path, CONFIGS["a head"])
    model = PeftModel(Net(), LoraConfig(r=2, target_modules=["lower"]), "first")
    model.add_adapter("second", LoraConfig(r=1, target_modules=["lower"], modules_to_save=["head"]))
    model.set_adapter(["first", "second"])
    before = [name for name, _ in model.named_parameters()], model(X)[0].tobytes()

    def refused(
        error: type[Exception], message: str, name: str = "first", path: Path = tmp_path, **options: str
    ) -> None:
        with pytest.raises(error, match=message):
            hotswap_adapter(model, path, name, **options)
        assert ([name for name, _ in model.named_parameters()], model(X)[0].tobytes()) == before

    refused(ValueError, "trains head whole, and so does 'second'")
    refused(ValueError, "there is no adapter 'x'", "x")
    refused(OSError, "nowhere", path=tmp_path / "nowhere")
    refused(ValueError, "torch_device='cuda' is not supported", torch_device="cuda")
    refused(TypeError, "unexpected keyword argument 'x'", x="y")
    model.merge_adapter(["first"])
    before = [name for name, _ in model.named_parameters()], model(X)[0].tobytes()
    refused(RuntimeError, r"'first' is merged: call unmerge_adapter\(\) first")
    biased = get_peft_model(Net(), LoraConfig(target_modules=["lower"], bias="all"))
    with pytest.raises(ValueError, match="trains biases of the base"):
        hotswap_adapter(biased, tmp_path, "default")


def test_what_replaces_a_layer_is_not_swapped_in_beside_another(tmp_path: Path) -> None:
    model = get_peft_model(tiny_bert(), LoraConfig(r=1, target_modules=["query"]))
    model.add_adapter("norms", LNTuningConfig(target_modules=["LayerNorm"]))
    model.save_pretrained(tmp_path, selected_adapters=["norms"])
    model.add_adapter("others", LoraConfig(r=1, target_modules=["key"]))
    model.set_adapter(["norms", "others"])
    ids = np.array([[3, 4, 9]])
    before = [name for name, _ in model.named_parameters()], model(input_ids=ids)[0].logits.tobytes()
    with pytest.raises(ValueError, match="'norms' replaces what it is on"):
        hotswap_adapter(model, tmp_path / "norms", "others")
    assert ([name for name, _ in model.named_parameters()], model(input_ids=ids)[0].logits.tobytes()) == before
    assert list(model.peft_config) == ["default", "norms", "others"] and model.active_adapters == ["norms", "others"]


def test_what_has_the_same_shape_is_the_same_parameter_and_goes_on_being_trained(tmp_path: Path) -> None:
    saved(tmp_path, LoraConfig(r=2, lora_alpha=1, target_modules=["lower"], modules_to_save=["head"]))
    model = get_peft_model(Net(), LoraConfig(r=2, target_modules=["lower"], modules_to_save=["head"]))
    before = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = SGD(list(before.values()), lr=0.1)
    model(X)[1](np.random.default_rng(3).standard_normal(model(X)[0].shape))
    hotswap_adapter(model, tmp_path, "default")
    assert {name: id(p) for name, p in model.named_parameters() if p.requires_grad} == {
        n: id(p) for n, p in before.items()
    }
    y = model(X)[0].copy()
    assert len(before) == 4 and all(p.grad is None for p in before.values())
    dy = np.random.default_rng(4).standard_normal(y.shape)
    model(X)[1](dy)
    optimizer.step()
    assert (model(X)[0] * dy).sum() < (y * dy).sum()


def test_what_has_the_same_name_is_the_same_parameter_of_whichever_shape_and_method(tmp_path: Path) -> None:
    model = get_peft_model(Net(), LoraConfig(r=2, target_modules=["lower"], modules_to_save=["head"]))
    before = {name: p for name, p in model.named_parameters() if p.requires_grad}
    first, used = Adam(list(before.values()), lr=0.1), Adam(list(before.values()), lr=0.1)
    dy = np.random.default_rng(4).standard_normal(model(X)[0].shape)
    model(X)[1](dy)
    used.step()
    swapped = LoraConfig(r=3, target_modules=["lower"], modules_to_save=["head"], use_dora=True)
    y = saved(tmp_path, swapped)
    hotswap_adapter(model, tmp_path, "default")
    after = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert model(X)[0].tobytes() == y.tobytes() and before.items() < after.items()
    assert {p.grad is None for p in after.values()} == {True} and len(after) == len(before) + 1
    model(X)[1](dy)
    values = [p.data.copy() for p in after.values()]
    with pytest.raises(ValueError, match=r"parameter number 0 is of shape \(2, 5\), and it has \(3, 5\): make a new"):
        used.step()
    assert all(np.array_equal(p.data, value) for p, value in zip(after.values(), values, strict=True))
    first.step()
    assert (model(X)[0] * dy).sum() < (y * dy).sum()
