"""What a block or a call changes is given back: switches, merged weights, what is trained, a base that does not fit."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.nn import Linear
from npora.nn.module import Module
from tests.lora.test_files import logits, trained
from tests.tiny import tiny_bert, tiny_peft


@pytest.mark.parametrize("bias", ["none", "all"])
def test_a_block_within_a_block_leaves_the_adapter_off_for_the_rest_of_the_outer_one(bias: str) -> None:
    model, base = trained(bias=bias), logits(tiny_bert())
    adapted = logits(model)
    with model.disable_adapter():
        with model.disable_adapter():
            assert logits(model) == base
        assert logits(model) == base
        with pytest.raises(OSError), model.disable_adapter():
            raise OSError
        assert logits(model) == base
    assert logits(model) == adapted != base


def test_blocks_of_two_threads_may_overlap() -> None:
    model, base = trained(bias="all"), logits(tiny_bert())
    adapted, both_in, one_out, seen = logits(model), Barrier(2, timeout=20), Barrier(2, timeout=20), []

    def first() -> None:
        with model.disable_adapter():
            both_in.wait()
        one_out.wait()

    def second() -> None:
        with model.disable_adapter():
            both_in.wait()
            one_out.wait()
            seen.append(logits(model))

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [base] and logits(model) == adapted


def test_a_layer_that_was_switched_off_alone_stays_so() -> None:
    model = trained()
    model.lora_layers()[0][1].disable_adapters = True
    before = logits(model)
    with model.disable_adapter():
        assert logits(model) == logits(tiny_bert())
    assert logits(model) == before


def test_within_a_block_what_is_trained_is_saved_loaded_and_merged(tmp_path: Path) -> None:
    model, other = trained(bias="all"), tiny_peft(bias="all")
    adapted = logits(model)
    with model.disable_adapter():
        model.save_pretrained(tmp_path)
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == adapted
    with other.disable_adapter():
        other.load_adapter(tmp_path)
        assert logits(other) == logits(tiny_bert())
    assert logits(other) == adapted
    with model.disable_adapter():
        merged = model.merge_and_unload()
    np.testing.assert_allclose(np.frombuffer(logits(merged), np.float32), np.frombuffer(adapted, np.float32), atol=1e-3)


def test_what_would_leave_an_old_merged_weight_is_refused(tmp_path: Path) -> None:
    model, other = tiny_peft(), trained()
    other.save_pretrained(tmp_path)
    state = {name: array.copy() for name, array in other.state_dict().items()}
    names = list(model.state_dict())
    model.merge_adapter()
    assert list(model.state_dict()) == names
    before = logits(model)
    for change in (lambda: model.load_adapter(tmp_path), lambda: model.load_state_dict(state),
                   lambda: model.set_adapter("default")):  # fmt: skip
        with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\) first"):
            change()
        assert logits(model) == before
    model.load_adapter(tmp_path, "second")  # one that is not merged
    assert logits(model) == before
    model.unmerge_adapter()
    model.set_adapter("second")
    assert logits(model) == logits(other)


@pytest.mark.parametrize("which", ["lora_A", "lora_B", "base_layer"])
def test_a_merged_layer_whose_weights_are_changed_says_so(which: str) -> None:
    model = trained()
    layer = model.lora_layers()[0][1]
    parameter = layer.base_layer.weight if which == "base_layer" else getattr(layer, which)["default"].weight
    model.merge_adapter()
    same, parameter.data = parameter.data, parameter.data.copy()
    logits(model)  # another array of the same values is no change
    parameter.data = same + 1
    with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\) before they change"):
        logits(model)
    parameter.data = same
    with pytest.raises(ValueError, match="read-only"):
        parameter.data[:] = 0
    model.unmerge_adapter()
    if which != "base_layer":
        parameter.data[:] = 0


def test_what_is_frozen_while_it_is_merged_stays_frozen() -> None:
    model = trained()
    model.merge_adapter()
    model.requires_grad_(False)
    model.unmerge_adapter()
    for parameter in model.adapter_parameters("default").values():
        with pytest.raises(ValueError, match="read-only"):
            parameter.data[...] = 0


def not_finite(model: PeftModel) -> None:
    *_, (_, layer) = model.lora_layers()  # the last, so that others are merged before it
    layer.get_parameter("lora_B.default.weight").data = np.full_like(
        layer.get_parameter("lora_B.default.weight").data, np.nan
    )


def test_a_safe_merge_merges_all_or_nothing_and_looks_at_what_is_merged_too() -> None:
    model = trained()
    not_finite(model)
    with pytest.raises(ValueError, match="is not finite"):
        model.merge_adapter(safe_merge=True)
    assert not any(layer.merged_adapters for _, layer in model.lora_layers())
    with pytest.raises(ValueError, match="is not finite"):
        model.merge_and_unload(safe_merge=True)
    model.merge_adapter()
    with pytest.raises(ValueError, match="is not finite"):
        model.merge_and_unload(safe_merge=True)
    assert list(model.peft_config) == ["default"]
    model.unmerge_adapter()


@pytest.mark.parametrize("spoil", ["a value", "a merge by hand"])
def test_what_cannot_be_unloaded_leaves_every_layer_as_it_was(spoil: str) -> None:
    model = trained(bias="all")
    *_, (_, last) = model.lora_layers()
    if spoil == "a value":  # the last layer is found to be stale after the others could be unloaded
        model.merge_adapter()
        last.get_parameter("lora_A.default.weight").data = last.get_parameter("lora_A.default.weight").data + 1
    else:  # those that are not merged yet are asked whether they are finite too
        model.lora_layers()[0][1].merge()
        not_finite(model)
    modules, biases = list(map(id, model.modules())), [p.data.tobytes() for _, p in model.trained_biases("default")]
    with model.disable_adapter():
        with pytest.raises((RuntimeError, ValueError), match=r"are others by now|is not finite"):
            model.merge_and_unload(safe_merge=True)
        assert logits(model) == logits(tiny_bert())
    assert list(map(id, model.modules())) == modules and list(model.peft_config) == ["default"]
    assert [p.data.tobytes() for _, p in model.trained_biases("default")] == biases


@pytest.mark.parametrize("names", [["default", "second"], ["second", "default", "second"], ["second"], []])
def test_adapters_that_are_named_are_merged_wherever_they_are(names: list[str]) -> None:
    """W + Σ s B A of those; on a layer that has none of them the active one counts until it is unloaded."""
    second = {"r": 1, "target_modules": ["value", "pooler.dense"], "init_lora_weights": False}
    model, base = trained(), dict(tiny_bert().named_parameters())
    model.add_adapter("second", LoraConfig(**second))
    for path, layer in model.lora_layers():
        for name in dict.fromkeys(names):
            if name in layer.adapters:
                base[f"{path}.weight"].data = base[f"{path}.weight"].data + layer.get_delta_weight(name)
    layers = dict(model.lora_layers())
    model.merge_adapter(names)
    assert {tuple(layer.merged_adapters) for layer in layers.values()} == {
        tuple(name for name in dict.fromkeys(names) if name in layer.adapters) for layer in layers.values()
    }
    if "second" in names:
        with pytest.raises(RuntimeError, match=r"adapter '.*' is merged: call unmerge_adapter\(\) first"):
            model.delete_adapter("second")
    model.unmerge_adapter() if names else None
    merged = dict(model.merge_and_unload(adapter_names=names).named_parameters())
    for path in layers:
        np.testing.assert_allclose(merged[f"{path}.weight"].data, base[f"{path}.weight"].data, rtol=0, atol=1e-5)


def test_what_is_merged_stays_merged_beside_what_else_is_named() -> None:
    outputs = []
    for before, names in ((["second"], None), (["second"], ["default"]), (None, ["default", "second"])):
        model = trained()
        model.add_adapter("second", LoraConfig(r=1, target_modules=["value", "key"], init_lora_weights=False))
        if before:
            model.merge_adapter(before)
        outputs.append(np.frombuffer(logits(model.merge_and_unload(adapter_names=names)), np.float32))
    np.testing.assert_allclose(outputs[:2], [outputs[2]] * 2, rtol=0, atol=1e-4)


def test_a_layer_without_the_active_adapter_is_unloaded_as_it_is() -> None:
    model = trained()
    model.add_adapter("second", LoraConfig(r=1, target_modules=["key"]))
    before = np.frombuffer(logits(model), np.float32)
    merged = model.merge_and_unload()
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    np.testing.assert_allclose(np.frombuffer(logits(merged), np.float32), before, atol=1e-3)


def test_an_unloaded_model_has_no_adapter_left_to_save(tmp_path: Path) -> None:
    model = trained()
    base = model.unload()
    with pytest.raises(RuntimeError, match="no adapter to save"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="there are: none"):
        model.set_adapter("default")
    assert not list(tmp_path.iterdir()) and isinstance(get_peft_model(base, LoraConfig()), PeftModel)


def test_a_deleted_adapter_leaves_no_layer_behind() -> None:
    model = tiny_peft()
    names, before = [name for name, _ in model.named_parameters()], logits(model)
    model.add_adapter("second", LoraConfig(r=1, target_modules=["key"], modules_to_save=["pooler"]))
    model.delete_adapter("second")
    assert [name for name, _ in model.named_parameters()] == names and logits(model) == before
    model.add_adapter("second", LoraConfig(r=1, target_modules=["pooler.dense"]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"modules_to_save": ["pooler"]}, {"target_modules": ["dense"]}),
        ({"target_modules": ["dense"]}, {"modules_to_save": ["pooler"]}),
        ({"modules_to_save": ["layer.0.output"]}, {"modules_to_save": ["layer.0"]}),
        ({"modules_to_save": ["pooler.dense"]}, {"modules_to_save": ["pooler"]}),
        ({"target_modules": ["pooler.dense"]}, {"modules_to_save": ["pooler.dense"]}),
    ],
)
def test_two_adapters_do_not_train_each_others_parts(first: dict[str, Any], second: dict[str, Any]) -> None:
    model = get_peft_model(tiny_bert(), LoraConfig(**{"target_modules": ["query"], **first}))
    names = [name for name, _ in model.named_parameters()]
    with pytest.raises(ValueError, match="another adapter of this model trains"):
        model.add_adapter("second", LoraConfig(**{"target_modules": ["query"], **second}))
    assert [name for name, _ in model.named_parameters()] == names


def test_loading_to_be_trained_thaws_an_adapter_that_was_frozen(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    model = PeftModel.from_pretrained(tiny_bert(), tmp_path)
    assert model.get_nb_trainable_parameters()[0] == 0
    with model.disable_adapter():
        pass
    assert model.get_nb_trainable_parameters()[0] == 0
    model.load_adapter(tmp_path, "default", is_trainable=True)
    assert model.get_nb_trainable_parameters() == trained().get_nb_trainable_parameters()
    model.load_adapter(tmp_path)
    assert model.get_nb_trainable_parameters() == trained().get_nb_trainable_parameters()
    model.set_adapter("default", inference_mode=True)
    assert model.get_nb_trainable_parameters()[0] == 0


def test_what_fails_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"123")
    base = tiny_bert()
    arrays = {name: (id(p), id(p.data), p.requires_grad) for name, p in base.named_parameters()}
    for fail in (
        lambda: PeftModel.from_pretrained(base, tmp_path),
        lambda: PeftModel.from_pretrained(base, tmp_path / "nowhere"),
        lambda: get_peft_model(base, LoraConfig(target_modules=["quary"])),
        lambda: get_peft_model(base, LoraConfig(task_type="QUESTION_ANS")),
        lambda: get_peft_model(base, LoraConfig(), "a.b"),
    ):
        with pytest.raises((ValueError, FileNotFoundError, NotADirectoryError)):
            fail()
        assert {name: (id(p), id(p.data), p.requires_grad) for name, p in base.named_parameters()} == arrays


def test_a_layer_says_what_is_on_it() -> None:
    class Held(Module):
        def __init__(self) -> None:
            self.dense = Linear(4, 3, rng=0)

    model = get_peft_model(Held(), LoraConfig(r=2, lora_alpha=3, target_modules=["dense"]))
    layer = model.lora_layers()[0][1]
    first, second = layer.extra_repr().splitlines()
    assert first == "in_features=4, out_features=3"
    assert second == "default: lora_A [2,4], lora_B [3,2], trainable, r=2, s=1.5"
    model.merge_adapter()
    assert layer.extra_repr().endswith("s=1.5 merged")
    with model.disable_adapter():
        assert "r=2, s=1.5 merged switched off\n" in repr(model)
    assert layer.extra_repr().endswith("s=1.5 merged")
