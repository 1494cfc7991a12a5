"""What holds of DoRA beside what holds of every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.lora import LoRALinear
from npora.nn import Conv1D, Linear
from tests.tiny import spread, tiny_bert


def magnitude(layer: LoRALinear) -> Any:
    return layer.get_parameter("lora_magnitude_vector.default.weight").data


@pytest.mark.parametrize("base", [Linear, Conv1D])
@pytest.mark.parametrize(("i", "o"), [(5, 3), (700, 301), (301, 700)])
@pytest.mark.parametrize("start", [True, False])
def test_the_magnitude_starts_as_the_length_of_each_row(base: type[Linear], i: int, o: int, start: bool) -> None:
    layer = LoRALinear(base(i, o, rng=1, dtype=np.float64), 3, 7, use_dora=True, init_lora_weights=start, rng=2)
    A, B = (layer.get_parameter(f"lora_{name}.default.weight").data for name in "AB")
    rows = layer.base_layer.matrix + 7 / 3 * B @ A
    np.testing.assert_allclose(magnitude(layer), np.linalg.norm(rows, axis=1), rtol=1e-14)
    np.testing.assert_allclose(layer.get_delta_weight("default"), rows - layer.base_layer.matrix, rtol=0, atol=1e-14)


def merged_rows(layer: LoRALinear, i: int) -> Any:
    layer.merge()
    return (layer(np.eye(i, dtype=layer.base_layer.dtype))[0] - layer.base_layer.bias.data).T


def test_each_row_of_the_new_matrix_is_as_long_as_its_magnitude() -> None:
    layer = spread(LoRALinear(Linear(5, 3, rng=1, dtype=np.float64), 2, use_dora=True, rng=2))
    np.testing.assert_allclose(np.linalg.norm(merged_rows(layer, 5), axis=1), abs(magnitude(layer)), rtol=1e-12)


def test_so_it_is_where_the_update_all_but_takes_w_away() -> None:
    """‖W‖² + 2 s W·BA + s² ‖BA‖² would have no digit left here, and may be negative."""
    rng = np.random.default_rng(0)
    layer = LoRALinear(Linear(40, 30, bias=True, rng=1), 30, 30, use_dora=True, rng=2)
    A = np.linalg.qr(rng.standard_normal((40, 40)))[0][:30].astype(np.float32)
    W = rng.standard_normal((30, 30)).astype(np.float32)
    layer.base_layer.weight.data = W @ A
    layer.get_parameter("lora_A.default.weight").data = A
    layer.get_parameter("lora_B.default.weight").data = W * np.float32(2.0**-12 - 1)
    np.testing.assert_allclose(np.linalg.norm(merged_rows(layer, 40), axis=1), magnitude(layer), rtol=2e-3)


def of_both(seed: int = 0) -> list[PeftModel]:
    """DoRA with its norm as a constant, and with its gradient."""
    models = []
    for norm_grad in (False, True):
        config = LoraConfig(r=2, target_modules=["query"], use_dora=True, dora_norm_grad=norm_grad)
        models.append(get_peft_model(tiny_bert(dtype=np.float64), config))
        rng = np.random.default_rng(seed)
        for parameter in models[-1].adapter_parameters("default").values():
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    return models


def test_with_its_norms_gradient_dora_computes_the_same_and_descends_along_the_loss(tmp_path: Path) -> None:
    constant, whole = of_both()
    batch: dict[str, Any] = {"input_ids": np.array([[3, 4, 9], [5, 1, 2]]), "labels": np.array([0, 1])}
    for model in (constant, whole):
        output, backward = model(**batch)
        assert output.logits.tobytes() == constant(**batch)[0].logits.tobytes()
        backward()
    differences = []
    for model in (constant, whole):
        of_A = next(p for name, p in model.adapter_parameters("default").items() if "lora_A" in name)
        gradient, step = of_A.grad, np.random.default_rng(1).standard_normal(of_A.shape)
        here, losses = of_A.data, []
        for sign in (1, -1):
            of_A.data = here + sign * 1e-6 * step
            losses.append(float(model(**batch)[0].loss))
        of_A.data = here
        assert gradient is not None
        differences.append(abs((losses[0] - losses[1]) / 2e-6 - float((gradient * step).sum())))
    assert differences[1] < 1e-8 < 1e-5 < differences[0]
    whole.save_pretrained(tmp_path / "whole")
    constant.save_pretrained(tmp_path / "constant")
    for name, said in (("whole", True), ("constant", False)):
        text = (tmp_path / name / "adapter_config.json").read_text()
        assert ("dora_norm_grad" in text) == said
        again = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path / name)
        assert again.active_peft_config.dora_norm_grad is said
        assert again(**batch)[0].logits.tobytes() == whole(**batch)[0].logits.tobytes()


def test_where_the_norms_gradient_says_nothing_it_is_refused() -> None:
    with pytest.raises(ValueError, match="dora_norm_grad=True says how DoRA is trained"):
        LoraConfig(dora_norm_grad=True)
    model = tiny_bert()
    with pytest.raises(ValueError, match=r"bert\.embeddings\.word_embeddings is an embedding"):
        get_peft_model(model, LoraConfig(target_modules=["word_embeddings"], use_dora=True, dora_norm_grad=True))
    get_peft_model(model, LoraConfig(target_modules=["word_embeddings"], use_dora=True))


def test_a_row_of_zeros_has_no_direction_and_is_named() -> None:
    base = Linear(4, 3, rng=1)
    base.weight.data = base.weight.data * np.array([[1], [0], [1]], np.float32)
    with pytest.raises(ValueError, match="row 1 of this is zero"):
        LoRALinear(base, 2, use_dora=True)


def test_dora_and_lora_share_a_model_and_each_keeps_its_tensors() -> None:
    model = get_peft_model(tiny_bert(), LoraConfig(r=2, target_modules=["query"]))
    model.add_adapter("second", LoraConfig(r=3, target_modules=["query", "value"], use_dora=True))
    batch = {"input_ids": np.array([[3, 4, 9]])}
    before = model(**batch)[0].logits
    model.set_adapter("second")
    assert model(**batch)[0].logits.tobytes() == before.tobytes()  # a fresh one changes nothing
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(names) == 12 and sum("lora_magnitude_vector.second.weight" in name for name in names) == 4
    assert not any("lora_magnitude_vector.default" in name for name, _ in model.named_parameters())
    model.delete_adapter("default")
    layers = [module for module in model.modules() if hasattr(module, "base_layer")]
    assert len(layers) == 4


def test_an_adapter_of_dora_is_not_loaded_over_one_of_lora_nor_read_as_one(tmp_path: Path) -> None:
    config: dict[str, Any] = {"r": 2, "target_modules": ["query"]}
    get_peft_model(tiny_bert(), LoraConfig(**config, use_dora=True)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has use_dora=True, this one use_dora=False"):
        get_peft_model(tiny_bert(), LoraConfig(**config)).load_adapter(tmp_path, "default")
    written = LoraConfig.from_pretrained(tmp_path)
    assert written.use_dora
    written.use_dora = False
    with pytest.raises(ValueError, match=r"unexpected: .*lora_magnitude_vector"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path, config=written)
