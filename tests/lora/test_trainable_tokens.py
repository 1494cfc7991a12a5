"""Trained tokens: the rows that are named change, wherever their matrix is, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model, gradcheck
from npora.files import load_file
from npora.lora.inject import adapted_layer
from npora.nn import Linear
from npora.nn.module import Array
from tests.lora.test_embeddings import IDS, Net, moved
from tests.lora.test_methods import drawn
from tests.tiny import tiny_bert
from tests.tiny_encoders import tiny_encoder

LORA: dict[str, Any] = {"r": 2, "target_modules": ["head"]}
TABLE = {"trainable_token_indices": {"table": [6, 1]}}


def tied() -> Net:
    """The head is the table, with a bias."""
    net = Net()
    net.head = Linear(5, 7, dtype=np.float64)
    net.head.weight, net.head.bias.data = net.table.weight, np.arange(7.0)
    return net


def tokens_of(model: PeftModel, path: str, name: str = "default") -> Array:
    return model.get_submodule(f"base_model.model.{path}").adapters[name].D.data


@pytest.mark.parametrize("beside", [True, False])
def test_the_named_rows_are_replaced_in_every_layer_that_has_the_matrix(tmp_path: Path, beside: bool) -> None:
    if beside:
        config: Any = LoraConfig(r=2, target_modules=["other"], **TABLE)
    else:
        config = TrainableTokensConfig(token_indices=[6, 1], target_modules=["table"])
    base, expected = tied(), tied()
    for net in (base, expected):
        net.other = Linear(2, 3, rng=5, dtype=np.float64)
    plain = base(IDS)[0]
    model = get_peft_model(base, config)
    np.testing.assert_allclose(model(IDS)[0], plain, rtol=0, atol=1e-14)
    moved(model)
    D, E = tokens_of(model, "table"), expected.table.weight.data.copy()
    assert D is tokens_of(model, "head") and D.shape == (2, 5)
    E[[6, 1]] = D
    expected.table.weight.data = E
    y, backward = model(IDS)
    np.testing.assert_allclose(y, expected(IDS)[0], rtol=0, atol=1e-13)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    backward(dy)
    expected.requires_grad_()(IDS)[1](dy)
    found = next(p for name, p in model.named_parameters() if "trainable_tokens_delta" in name).grad
    np.testing.assert_allclose(found, expected.table.weight.grad[[6, 1]], rtol=0, atol=1e-12)
    with model.disable_adapter():
        assert model(IDS)[0].tobytes() == plain.tobytes()
    model.save_pretrained(tmp_path)
    sizes = [x.size for name, x in load_file(tmp_path / "adapter_model.safetensors").items() if "tokens" in name]
    assert sizes == [10]
    again = tied()
    again.other = Linear(2, 3, rng=5, dtype=np.float64)
    assert PeftModel.from_pretrained(again, tmp_path)(IDS)[0].tobytes() == y.tobytes()
    merged = model.merge_and_unload()
    np.testing.assert_allclose(merged(IDS)[0], y, rtol=0, atol=1e-13)
    assert merged.head.weight is merged.table.weight and (merged.table.weight.data == E).all()


def test_a_masked_language_models_head_keeps_its_bias() -> None:
    """PEFT's leaves it out where tokens are trained."""
    ids, model = np.array([[3, 5, 7]]), tiny_encoder("bert", "MaskedLM", np.float64)
    bias = model.get_parameter("cls.predictions.bias")
    bias.data = np.arange(float(bias.size))
    plain = model(ids)[0].logits
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["query"], trainable_token_indices=[5, 2]))
    np.testing.assert_allclose(adapted(ids)[0].logits, plain, rtol=0, atol=1e-12)
    moved(adapted)
    found = adapted(ids)[0].logits
    assert np.abs(found - plain).max() > 0.1
    np.testing.assert_allclose(adapted.merge_and_unload()(ids)[0].logits, found, rtol=0, atol=1e-12)


def test_the_row_of_the_padding_gets_no_gradient_though_it_is_named() -> None:
    model = moved(get_peft_model(Net(padding_idx=4), LoraConfig(**LORA, trainable_token_indices={"table": [1, 4]})))
    y, backward = model(IDS)
    backward(np.random.default_rng(3).standard_normal(y.shape))
    grad = next(p.grad for name, p in model.named_parameters() if "trainable_tokens" in name)
    assert np.abs(grad[0]).min() > 0.01 and not grad[1].any()


def test_several_adapters_train_tokens_of_their_own() -> None:
    base = Net()
    plain = base(IDS)[0].tobytes()
    model = moved(get_peft_model(base, TrainableTokensConfig(token_indices=[1], target_modules=["table"])))
    model.add_adapter("second", TrainableTokensConfig(token_indices=[4, 6], target_modules=["table"]))
    model.add_adapter("third", TrainableTokensConfig(token_indices=[6], target_modules=["table"]))
    for name in ("second", "third"):
        model.set_adapter(name)
        moved(model)
    model.set_adapter(["default", "second"])
    E = Net().table.weight.data.copy()
    E[1], E[[4, 6]] = tokens_of(model, "table")[0], tokens_of(model, "table", "second")
    expected = Net()
    expected.table.weight.data = E
    assert model(IDS)[0].tobytes() == expected(IDS)[0].tobytes()
    for use in (model.set_adapter, model.merge_adapter):
        with pytest.raises(ValueError, match="'second' and 'third' both train token 6"):
            use(["second", "third"])
    model.set_adapter("default")
    for name in ("second", "third"):
        model.delete_adapter(name)
    assert model.unload()(IDS)[0].tobytes() == plain


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"table": [2, 7, 9]}, r"the tokens \[7, 9\] are to be trained, and table has those of 0 … 6"),
        ({"tabel": [1]}, "'tabel' matches no embedding"),
        ([1], "'embed_tokens' matches no embedding"),
        ({"head": [1]}, "rows of head that target_modules adapts too"),
    ],
)
def test_what_has_no_meaning_is_refused_and_changes_nothing(fields: Any, message: str) -> None:
    base = Net()
    with pytest.raises(ValueError, match=message):
        get_peft_model(base, LoraConfig(**LORA, trainable_token_indices=fields))
    assert type(base.table).__name__ == "Embedding" and type(base.head).__name__ == "Linear"


def test_tokens_where_something_else_is_trained_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of table that modules_to_save trains whole"):
        get_peft_model(Net(), LoraConfig(**LORA, modules_to_save=["table"], **TABLE))
    for bias in ("all", "lora_only"):
        config = LoraConfig(r=2, target_modules=["query"], trainable_token_indices=[5], bias=bias)
        get_peft_model(tiny_bert(), config)
        with pytest.raises(ValueError, match=f"bias='{bias}' do not go together where cls.predictions.decoder"):
            get_peft_model(tiny_encoder("bert", "MaskedLM"), config)
    with pytest.raises(ValueError, match="rows of head, which shares the matrix of table, that target_modules"):
        get_peft_model(tied(), LoraConfig(**LORA, **TABLE))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([-1], "ids of tokens, from 0 on; got -1"),
        ([2, 2, 3], r"once; got \[2\]"),
        ([1.5], "trainable_token_indices|token_indices must be"),
    ],
)
def test_lists_that_are_none_of_tokens_are_refused(ids: Any, message: str) -> None:
    for make in (
        lambda: LoraConfig(trainable_token_indices=ids),
        lambda: LoraConfig(trainable_token_indices={"table": ids}),
        lambda: TrainableTokensConfig(token_indices=ids),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(ValueError, match="token_indices names no token"):
        get_peft_model(Net(), TrainableTokensConfig(target_modules=["table"]))


def test_a_file_of_other_tokens_is_refused(tmp_path: Path) -> None:
    model = moved(get_peft_model(Net(), LoraConfig(**LORA, **TABLE)))
    model.save_pretrained(tmp_path)
    other = get_peft_model(Net(), LoraConfig(**LORA, trainable_token_indices={"table": [1, 6]}))
    with pytest.raises(ValueError, match=r"has trainable_token_indices=\{'table': \[6, 1\]\}, this one"):
        other.load_adapter(tmp_path, "default")


@pytest.mark.parametrize("fields", [{"r": 2}, {"r": 2, "use_dora": True}, None], ids=["LoRA", "DoRA", "tokens"])
def test_what_an_adapter_of_a_table_leaves_goes_to_the_table(fields: Any) -> None:
    """As where a base is trained, or another adapter is below."""
    tokens: Any = TrainableTokensConfig(token_indices=[4, 0])
    layer = adapted_layer(Net().table, tokens if fields is None else LoraConfig(**fields), np.random.default_rng(0))
    for number, parameter in enumerate(layer.adapters["default"].parameters()):
        parameter.data = parameter.data + drawn(number, *parameter.shape)
    layer.base_layer.weight.requires_grad = True
    report = gradcheck(layer, IDS)
    assert report.ok, report


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens_last", [True, False])
@pytest.mark.parametrize("head", [True, False])
def test_beside_lora_on_one_layer_the_tokens_rows_are_their_own_where_they_come_last(
    head: bool, tokens_last: bool, bias: bool
) -> None:
    base: Any = Linear(5, 7, bias, rng=1, dtype=np.float64) if head else Net().table
    x = drawn(2, 3, 5) if head else IDS
    configs = [LoraConfig(r=2), TrainableTokensConfig(token_indices=[4, 0])]
    layer = adapted_layer(base, configs[not tokens_last], np.random.default_rng(0))
    second = adapted_layer(base, configs[tokens_last], np.random.default_rng(1))
    layer.adapters["second"], layer.active_adapters = second.adapters["default"], ["default", "second"]
    for number, adapter in enumerate(layer.adapters.values()):
        for parameter in adapter.parameters():
            parameter.data = parameter.data + drawn(number, *parameter.shape)
    if base.bias is not None:
        base.bias.requires_grad = True
    report = gradcheck(layer, x)
    assert report.ok, report
    np.testing.assert_allclose(layer.merged_linear()(x)[0], layer(x)[0], rtol=0, atol=1e-12)
    if base.bias is not None:  # alone too
        name = "second" if tokens_last else "default"
        layer.adapters, layer.active_adapters = {name: layer.adapters[name]}, [name]
        report = gradcheck(layer, x)
        assert report.ok, report


def test_a_layer_that_has_tokens_of_its_own_is_not_tied_to_another() -> None:
    tokens, base = {"table": [6, 1], "head": [2]}, tied()
    base.other = Linear(2, 3, rng=5, dtype=np.float64)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["other"], trainable_token_indices=tokens))
    assert (tokens_of(model, "table").shape, tokens_of(model, "head").shape) == ((2, 5), (1, 5))
