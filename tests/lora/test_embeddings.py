"""LoRA on a table of embeddings: what its page says, alone and beside another adapter, and as other forms of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model, gradcheck
from npora.lora import convert_to_lora, save_as_lora
from npora.lora.measures import of_file, of_model
from npora.nn import Embedding, Linear, Module, Parameter
from npora.nn.module import Array
from npora.stored import BFloat16

IDS = np.array([[1, 4, 4], [0, 6, 1]])
TARGETS = ["table", "head"]


class Net(Module):
    def __init__(self, padding_idx: int | None = None) -> None:
        self.table = Embedding(7, 5, padding_idx, rng=1, dtype=np.float64)
        self.head = Linear(5, 3, rng=2, dtype=np.float64)

    def forward(self, ids: Array) -> tuple[Array, Callable[[Array], None]]:
        x, back_table = self.table(ids)
        y, back_head = self.head(x)
        return y, lambda dy: back_table(back_head(dy))


def moved(model: PeftModel, seed: int = 3) -> PeftModel:
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            rng = np.random.default_rng([seed, number])
            parameter.data = parameter.data + rng.standard_normal(parameter.shape)
    return model


def adapted(padding_idx: int | None = None, **fields: Any) -> PeftModel:
    config = LoraConfig(**{"r": 2, "lora_alpha": 3, "target_modules": TARGETS, **fields})
    return moved(get_peft_model(Net(padding_idx), config))


def test_the_column_of_the_padding_gets_no_gradient_though_the_token_occurs() -> None:
    for fields in ({}, {"use_dora": True}):
        plain, model = adapted(**fields), adapted(padding_idx=4, **fields)
        found = []
        for one in (plain, model):
            y, backward = one(IDS)
            backward(np.random.default_rng(0).standard_normal(y.shape))
            found.append(one.get_parameter("base_model.model.table.lora_embedding_A.default").grad)
        assert np.abs(found[0][:, 4]).min() > 0.1 and not found[1][:, 4].any()
        np.testing.assert_array_equal(np.delete(found[0], 4, 1), np.delete(found[1], 4, 1))
        if not fields:  # the gradient of that column is lacking in dA Aᵀ
            adapters = [dict(one.lora_layers())["table"].adapters["default"] for one in (plain, model)]
            assert [len(list(adapter.identities({}, {}))) for adapter in adapters] == [1, 0]
        assert not found[0][:, [2, 3, 5]].any()  # which do not occur


def test_however_it_is_said_to_begin_a_new_adapter_leaves_the_table_as_it_is() -> None:
    for start in (True, "gaussian"):
        model = get_peft_model(Net(), LoraConfig(r=2, target_modules=["table"], init_lora_weights=start))
        assert model(IDS)[0].tobytes() == Net()(IDS)[0].tobytes()


@pytest.mark.parametrize("order", [["default", "second"], ["second", "default"]])
@pytest.mark.parametrize("dora", [False, True])
def test_two_adapters_on_a_table_are_what_they_merge_to_and_have_its_gradients(order: list[str], dora: bool) -> None:
    model = adapted()
    model.add_adapter("second", LoraConfig(r=3, target_modules=["table"], use_dora=dora))
    model.set_adapter("second")
    moved(model, seed=4).set_adapter(order)
    y = model(IDS)[0]
    report = gradcheck(model, IDS)
    assert report.ok, report
    model.merge_adapter()
    np.testing.assert_allclose(model(IDS)[0], y, rtol=0, atol=1e-12)
    table = model.base_model.model.table
    np.testing.assert_allclose(table(IDS)[0], table.merged_linear().weight.data[IDS], rtol=0, atol=0)


def test_a_table_has_singular_values_and_other_forms_of_its_update(tmp_path: Path) -> None:
    model = adapted()
    y, delta = model(IDS)[0], model.base_model.model.table.get_delta_weight("default")
    assert np.linalg.matrix_rank(delta) == 2 and delta.shape == (5, 7)
    found = dict(of_model(model))["table"].values
    np.testing.assert_allclose(found, np.linalg.svd(delta)[1][:2], rtol=0, atol=1e-12)
    model.save_pretrained(tmp_path / "own")
    of_files = dict(of_file(str(tmp_path / "own"), model.active_peft_config))
    np.testing.assert_allclose(of_files["table"].values, found, rtol=0, atol=1e-12)
    save_as_lora(tmp_path / "lora", model, 2)
    np.testing.assert_allclose(PeftModel.from_pretrained(Net(), tmp_path / "lora")(IDS)[0], y, rtol=0, atol=1e-12)
    error = convert_to_lora(model, 1).errors["table"]
    assert abs(error - found[1] / np.hypot(found[0], found[1])) < 1e-12
    model.add_adapter("second", LoraConfig(r=3, target_modules=["table"]))
    model.set_adapter("second")
    moved(model, seed=4)
    for combination in ("cat", "svd"):
        model.add_weighted_adapter(["default", "second"], [0.5, -2.0], combination, combination, svd_rank=None)
    layer = model.base_model.model.table
    total = 0.5 * layer.get_delta_weight("default") - 2 * layer.get_delta_weight("second")
    np.testing.assert_allclose(layer.get_delta_weight("cat"), total, rtol=0, atol=1e-12)
    U, values, V = np.linalg.svd(total)
    nearest = (U[:, :3] * values[:3]) @ V[:3]
    np.testing.assert_allclose(layer.get_delta_weight("svd"), nearest, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dora", [False, True])
def test_a_table_that_lies_in_bfloat16_is_the_table_of_its_floats(dora: bool) -> None:
    found = []
    for stored in (True, False):
        base: Any = Net()
        matrix = BFloat16.rounded(base.table.weight.data.astype(np.float32))
        base.table.weight = Parameter(matrix if stored else matrix[:], requires_grad=False)
        base.head = Linear(5, 3, rng=2)
        model = get_peft_model(base, LoraConfig(r=2, target_modules=TARGETS, use_dora=dora))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data + np.float32(0.5)
        y, backward = model(IDS)
        backward(y)
        grads = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
        found.append([y, *grads, model.merge_and_unload()(IDS)[0]])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2**-18 * max(1, np.abs(other).max()), strict=True)


def test_nothing_of_a_table_is_dropped_and_starts_from_a_matrix_are_refused() -> None:
    model = adapted(lora_dropout=0.9, target_modules=["table"]).train()
    assert model(IDS)[0].tobytes() == adapted(target_modules=["table"])(IDS)[0].tobytes()
    for start in ("pissa", "olora", "orthogonal"):
        with pytest.raises(
            ValueError, match=f"'{start}' begins with directions of a matrix, and table is an embedding"
        ):
            adapted(init_lora_weights=start)
    adapted(init_lora_weights="pissa", target_modules=["head"])


def test_of_two_layers_that_share_a_matrix_each_keeps_what_is_merged_into_it() -> None:
    net = Net()
    net.head = Linear(5, 7, bias=False, dtype=np.float64)
    net.head.weight = net.table.weight
    model = moved(get_peft_model(net, LoraConfig(r=2, target_modules=TARGETS)))
    y = model(IDS)[0]
    np.testing.assert_allclose(model.merge_and_unload()(IDS)[0], y, rtol=0, atol=1e-12)
