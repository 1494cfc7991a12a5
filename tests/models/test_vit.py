"""ViT by hand: what its patches are, what stands before them, which row is read; its files' names; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForImageClassification, LoraConfig, get_peft_model
from npora.files import load_file
from npora.models import ViTConfig, ViTForImageClassification, ViTModel
from npora.nn import functional as F
from npora.nn.patches import PatchProjection
from tests.tiny import randomized

SIZES: dict[str, Any] = {
    "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 5, "image_size": [4, 9],
    "patch_size": [2, 3], "num_channels": 2, "num_labels": 4,
}  # fmt: skip
PIXELS = np.random.default_rng(0).standard_normal((3, 2, 4, 9))


def tiny(kind: Any = ViTForImageClassification, **changes: Any) -> Any:
    return randomized(kind(ViTConfig(**{**SIZES, **changes}), rng=1, dtype=np.float64))


def layer_norm(x: Any, layer: Any, eps: float) -> Any:
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * layer.weight.data + layer.bias.data


def linear(x: Any, layer: Any) -> Any:
    return x @ layer.weight.data.T + (0 if layer.bias is None else layer.bias.data)


def by_hand(body: Any, pixels: Any) -> Any:
    """[b,t,m], of one layer; each patch is taken from its place, row by row."""
    projection = body.embeddings.patch_embeddings.projection
    patches = [
        [np.einsum("chw,ochw->o", image[:, y : y + 2, x : x + 3], projection.weight.data) + projection.bias.data
         for y in (0, 2) for x in (0, 3, 6)]
        for image in pixels
    ]  # fmt: skip
    first = np.broadcast_to(body.embeddings.cls_token.data, (len(pixels), 1, 6))
    h = np.concatenate((first, np.array(patches)), axis=1) + body.embeddings.position_embeddings.data
    layer, eps = body.layers[0], body.config.layer_norm_eps
    x, attention = layer_norm(h, layer.layernorm_before, eps), layer.attention
    q, k, v = (linear(x, p).reshape(len(x), 7, 3, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    weights = np.exp(np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(2))
    weights /= weights.sum(axis=-1, keepdims=True)
    h = h + linear(np.einsum("bhts,bshd->bthd", weights, v).reshape(len(x), 7, 6), attention.o_proj)
    x = linear(layer_norm(h, layer.layernorm_after, eps), layer.mlp.fc1)
    h = h + linear(F.gelu(x)[0], layer.mlp.fc2)
    return layer_norm(h, body.layernorm, eps)


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False, "layer_norm_eps": 0.03}])
def test_a_class_is_read_from_the_row_before_the_patches(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    h = by_hand(model.vit, PIXELS)
    output, _ = model(PIXELS, output_hidden_states=True)
    np.testing.assert_allclose(output.logits, linear(h[:, 0], model.classifier), rtol=0, atol=1e-12)
    assert [states.shape for states in output.hidden_states] == [(3, 7, 6)] * 2
    np.testing.assert_allclose(output.hidden_states[-1], h, rtol=0, atol=1e-12)
    assert model.vit.pooler is None and (model.vit.layers[0].attention.q_proj.bias is None) == ("qkv_bias" in changes)
    labelled, _ = model(PIXELS, labels=np.array([3, 0, -100]))
    z = output.logits[:2]
    expected = np.mean(np.log(np.exp(z).sum(axis=1)) - z[[0, 1], [3, 0]])
    assert labelled.loss == pytest.approx(expected, rel=1e-12) and labelled.num_items == 2


def test_the_body_pools_the_first_row_and_its_gradients_add() -> None:
    model = tiny(ViTModel, pooler_output_size=5, pooler_act="relu")
    h = by_hand(model, PIXELS)
    output, backward = model(PIXELS)
    np.testing.assert_allclose(output.last_hidden_state, h, rtol=0, atol=1e-12)
    pooled = np.maximum(linear(h[:, 0], model.pooler.dense), 0)
    np.testing.assert_allclose(output.pooler_output, pooled, rtol=0, atol=1e-12)
    rng = np.random.default_rng(2)
    dhidden, dpooled = rng.standard_normal(h.shape), rng.standard_normal(pooled.shape)
    sums = []
    for given in ((dhidden, dpooled), (dhidden, None), (None, dpooled)):
        model.zero_grad()
        backward = model(PIXELS)[1]
        backward(*given)
        sums.append({name: p.grad.copy() for name, p in model.named_parameters() if p.grad is not None})
    for name, both in sums[0].items():
        parts = sums[1].get(name, 0) + sums[2].get(name, 0)
        np.testing.assert_allclose(both, parts, rtol=0, atol=1e-11)
    assert len(sums[0]) == len(list(model.parameters())) > len(sums[1])
    bare = ViTModel(model.config, add_pooling_layer=False, rng=0)
    assert not hasattr(bare(PIXELS)[0], "pooler_output") and tiny(ViTModel).pooler.dense.weight.shape == (6, 6)


def test_patches_fold_back_to_where_they_came_from() -> None:
    layer = PatchProjection(2, 4, (2, 3), rng=0, dtype=np.float64)
    assert np.array_equal(layer.fold(layer.unfold(PIXELS), PIXELS.shape), PIXELS)
    assert layer.unfold(PIXELS).shape == (18, 12) and layer.weight.shape == (4, 2, 2, 3)
    assert np.abs(layer.weight.data).max() <= 1 / np.sqrt(12) < 1.2 * np.abs(layer.weight.data).max()
    layer.weight.requires_grad = False
    y, backward = layer(PIXELS)
    dy = np.random.default_rng(3).standard_normal(y.shape)  # [n,o]
    dx = backward(dy)
    assert layer.weight.grad is None and np.allclose(layer.bias.grad, dy.sum(axis=0), rtol=0, atol=1e-12)
    assert np.allclose(dx, layer.fold(dy @ layer.weight.data.reshape(4, 12), PIXELS.shape), rtol=0, atol=1e-12)
    for other in (PIXELS[0], PIXELS[:, :1], PIXELS[:, :, :3], PIXELS[:, :, :, :7]):
        with pytest.raises(
            ValueError, match=r"images must be \[batch, 2, a multiple of 2, a multiple of 3\]; got shape"
        ):
            layer(other)


def test_dropout_stands_behind_the_positions_and_each_sublayer() -> None:
    model = tiny(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2)
    layer = model.vit.layers[0]
    assert (model.vit.embeddings.dropout.p, layer.dropout.p, layer.attention.dropout) == (0.3, 0.3, 0.2)
    plain = model(PIXELS)[0].logits
    for part in (model.vit.embeddings.dropout, layer.dropout):
        model.vit.embeddings.dropout.p = layer.dropout.p = layer.attention.dropout = 0.0
        part.p = 0.5
        assert np.abs(model(PIXELS, rng=np.random.default_rng(1))[0].logits - plain).max() > 1e-3


def test_files_have_the_names_that_checkpoints_have(tmp_path: Path) -> None:
    model = tiny(ViTModel)
    model.save_pretrained(tmp_path / "body")
    names = set(load_file(tmp_path / "body" / "model.safetensors"))
    layer = "encoder.layer.0."
    dense = (
        "attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense",
        "intermediate.dense", "output.dense", "layernorm_before", "layernorm_after",
    )  # fmt: skip
    outside = ("embeddings.patch_embeddings.projection", "layernorm", "pooler.dense")
    expected = {f"{layer}{name}.{kind}" for name in dense for kind in ("weight", "bias")}
    expected |= {f"{name}.{kind}" for name in outside for kind in ("weight", "bias")}
    assert names == expected | {"embeddings.cls_token", "embeddings.position_embeddings"}
    again = ViTModel.from_pretrained(tmp_path / "body", dtype=np.float64)
    assert np.array_equal(again(PIXELS)[0].pooler_output, model(PIXELS)[0].pooler_output)
    headed = AutoModelForImageClassification.from_pretrained(tmp_path / "body", num_labels=3, dtype=np.float64)
    assert (
        headed.newly_initialized == ("classifier.weight", "classifier.bias") and type(headed).__name__[:6] == "ViTFor"
    )
    assert headed(PIXELS)[0].logits.shape == (3, 3)


def test_a_config_leaves_out_what_transformers_takes() -> None:
    config = ViTConfig.from_dict({})
    expected = {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-12,
        "image_size": 224, "patch_size": 16, "num_channels": 3, "qkv_bias": True, "pooler_output_size": None,
        "pooler_act": "tanh", "initializer_range": 0.02,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected
    assert (config.image, config.patch, config.patches) == ((224, 224), (16, 16), 196)
    assert ViTConfig(**SIZES).patches == 6
    body = ViTForImageClassification(ViTConfig(**{**SIZES, "initializer_range": 0.5}), rng=0).vit
    for parameter in (body.embeddings.cls_token, body.embeddings.patch_embeddings.projection.weight):
        assert 0.1 < np.abs(parameter.data).mean() < 1
    assert body.embeddings.position_embeddings.shape == (1, 7, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": [4, 8]}, r"image_size \[4, 8\] is not a multiple of patch_size \[2, 3\]"),
        ({"image_size": [4, 9, 9]}, r"image_size must be a number of pixels, or height and width; got \(4, 9, 9\)"),
        ({"patch_size": 0}, r"patch_size must be a number of pixels, or height and width; got \(0, 0\)"),
        ({"patch_size": 3.0}, "patch_size must be"),
        ({"num_attention_heads": 4}, "hidden_size 6 is not a multiple of num_attention_heads 4"),
        ({"pooler_act": "prelu"}, "pooler_act 'prelu' is not one of"),
        ({"num_channels": 0}, "num_channels must be a positive whole number"),
        ({"head_dim": 7}, "head_dim=7 is not supported"),
    ],
)
def test_a_config_that_makes_no_sense_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTConfig.from_dict({**SIZES, **changes})


def test_what_is_no_image_of_this_model_is_refused() -> None:
    model = tiny()
    with pytest.raises(ValueError, match=r"must be \[batch, 2, 4, 9\], the channels.*got shape \(3, 2, 4, 6\).*resize"):
        model(PIXELS[..., :6])
    for call in (model, model.vit):
        with pytest.raises(ValueError, match="reads pixel_values"):
            call()
        with pytest.raises(TypeError, match="it takes pixel_values"):
            call(PIXELS, attention_mask=np.ones((3, 7)))
        with pytest.raises(
            ValueError, match="interpolate_pos_encoding=True has no meaning in npora: resize the images"
        ):
            call(PIXELS, interpolate_pos_encoding=True)
        call(PIXELS, interpolate_pos_encoding=False)
    with pytest.raises(ValueError, match="projection' is a PatchProjection"):
        get_peft_model(model, LoraConfig(target_modules=["projection"]))


def test_lora_goes_on_query_and_value_and_trains_nothing_else_but_the_head() -> None:
    model = get_peft_model(tiny(), LoraConfig(r=2, modules_to_save=["classifier"]))
    _, backward = model(pixel_values=PIXELS, labels=np.array([1, 2, 3]))
    backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    layer = "base_model.model.vit.layers.0.attention."
    expected = {f"{layer}{name}.lora_{part}.default.weight" for name in ("q_proj", "v_proj") for part in "AB"}
    heads = {f"base_model.model.classifier.modules_to_save.default.{kind}" for kind in ("weight", "bias")}
    assert trained == expected | heads
