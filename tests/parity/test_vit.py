"""ViT against transformers and PEFT, in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForImageClassification, LoraConfig, PeftModel, get_peft_model
from npora.data import ImageProcessor
from npora.files import load_file, save_file
from npora.files.weights import with_names
from npora.models import ViTConfig, ViTModel
from tests.parity.encoders import BACKWARD, FORWARD
from tests.parity.reference import assert_close, assert_same_gradients, torch, transformers
from tests.parity.test_peft import randomize

SIZES: dict[str, Any] = {
    "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 10, "image_size": (8, 9),
    "patch_size": (4, 3), "num_channels": 2, "num_labels": 3,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "sides of their own": {},
    "square, without biases": {"image_size": 6, "patch_size": 2, "num_channels": 1, "qkv_bias": False},
    "relu and another pooler": {"hidden_act": "relu", "pooler_output_size": 7, "pooler_act": "gelu"},
}
LABELS = np.array([2, 0])
every_kind = pytest.mark.parametrize("kind", KINDS)


def reference(directory: Path, kind: str, made: str = "ViTForImageClassification") -> tuple[Any, Any]:
    """A model of transformers in float64 with every parameter drawn anew, saved there too; and two images."""
    config = transformers.ViTConfig(**{**SIZES, **KINDS[kind]})
    model = getattr(transformers, made)(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.3 * drawn)
    model.save_pretrained(directory)
    sides = config.image_size if isinstance(config.image_size, (tuple, list)) else (config.image_size,) * 2
    return model, np.random.default_rng(1).standard_normal((2, config.num_channels, *sides))


def ours(directory: Path) -> Any:
    return AutoModelForImageClassification.from_pretrained(directory, dtype=np.float64)


@every_kind
def test_logits_and_every_gradient_agree_and_files_go_both_ways(tmp_path: Path, kind: str) -> None:
    theirs, pixels = reference(tmp_path / "theirs", kind)
    model = ours(tmp_path / "theirs")
    output, backward = model(pixels, labels=LABELS)
    expected = theirs(torch.tensor(pixels), labels=torch.tensor(LABELS))
    assert_close(output.logits, expected.logits, FORWARD)
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(model, theirs, BACKWARD) > 30
    model.save_pretrained(tmp_path / "ours")
    names = [set(load_file(tmp_path / side / "model.safetensors")) for side in ("ours", "theirs")]
    assert names[0] == names[1]
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "ours", dtype=torch.float64)
    assert_close(output.logits, again.eval()(torch.tensor(pixels)).logits, FORWARD)


@every_kind
def test_the_body_and_its_pooler_agree(tmp_path: Path, kind: str) -> None:
    theirs, pixels = reference(tmp_path, kind, "ViTModel")
    model = ViTModel.from_pretrained(tmp_path, dtype=np.float64)
    output, backward = model(pixels, output_hidden_states=True)
    expected = theirs(torch.tensor(pixels), output_hidden_states=True)
    assert_close(output.last_hidden_state, expected.last_hidden_state, FORWARD)
    assert_close(output.pooler_output, expected.pooler_output, FORWARD)
    for mine, other in zip(output.hidden_states[:-1], expected.hidden_states[:-1], strict=True):
        assert_close(mine, other, FORWARD)
    rng = np.random.default_rng(2)
    parts = [rng.standard_normal(part.shape) for part in (output.last_hidden_state, output.pooler_output)]
    backward(*parts)
    total = (expected.last_hidden_state * torch.tensor(parts[0])).sum()
    (total + (expected.pooler_output * torch.tensor(parts[1])).sum()).backward()
    assert_same_gradients(model, theirs, BACKWARD)


def test_adapters_go_from_peft_and_back(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra `parity`")
    base, pixels = reference(tmp_path / "base", "sides of their own")
    fields: dict[str, Any] = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj"]}
    fields["modules_to_save"] = ["classifier"]
    theirs = randomize(peft.get_peft_model(base, peft.LoraConfig(**fields)))
    theirs.save_pretrained(tmp_path / "adapter")
    model = PeftModel.from_pretrained(ours(tmp_path / "base"), tmp_path / "adapter", is_trainable=True)
    output, backward = model(pixel_values=pixels, labels=LABELS)
    expected = theirs.eval()(pixel_values=torch.tensor(pixels), labels=torch.tensor(LABELS))
    assert_close(output.logits, expected.logits, FORWARD)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(model, theirs, BACKWARD) == 10
    mine = get_peft_model(ours(tmp_path / "base"), LoraConfig(**fields))
    for number, parameter in enumerate(mine.parameters()):
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * np.random.default_rng(number).standard_normal(parameter.shape)
    mine.save_pretrained(tmp_path / "mine")
    fresh = transformers.ViTForImageClassification.from_pretrained(tmp_path / "base", dtype=torch.float64)
    back = peft.PeftModel.from_pretrained(fresh, tmp_path / "mine").eval()
    assert_close(mine(pixel_values=pixels)[0].logits, back(pixel_values=torch.tensor(pixels)).logits, FORWARD)


FORMER = {"layers.": "encoder.layer.", "attention.q_proj.": "attention.attention.query.",
          "attention.o_proj.": "attention.output.dense.", "mlp.fc1.": "intermediate.dense."}  # fmt: skip


def test_an_adapter_that_peft_saved_with_an_older_transformers_loads(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra `parity`")
    base, pixels = reference(tmp_path / "base", "sides of their own")
    targets = ["q_proj", "o_proj", "fc1"]
    theirs = randomize(peft.get_peft_model(base, peft.LoraConfig(r=3, target_modules=targets)))
    theirs.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file(with_names(load_file(path), FORMER), path)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    for former in (["query", "dense"], r".*\.(query|dense)"):
        said = json.dumps({**config, "target_modules": former})
        (tmp_path / "adapter" / "adapter_config.json").write_text(said)
        model = PeftModel.from_pretrained(ours(tmp_path / "base"), tmp_path / "adapter")
        expected = theirs.eval()(pixel_values=torch.tensor(pixels)).logits
        assert_close(model(pixel_values=pixels)[0].logits, expected, FORWARD)
        assert model.active_peft_config.target_modules == sorted(targets)
    for field in ("rank_pattern", "alpha_pattern"):
        said = json.dumps({**config, field: {"query": 3}})
        (tmp_path / "adapter" / "adapter_config.json").write_text(said)
        with pytest.raises(ValueError, match=f"{field} is for modules by names that they had in older versions"):
            PeftModel.from_pretrained(ours(tmp_path / "base"), tmp_path / "adapter")


@pytest.mark.parametrize("resample", [0, 2, 3])
def test_images_are_prepared_alike(resample: int) -> None:
    rng, size = np.random.default_rng(0), {"height": 6, "width": 9}
    images = [rng.integers(0, 256, (*sides, 3)).astype(np.uint8) for sides in ((11, 7), (6, 9), (5, 20))]
    said: dict[str, Any] = {
        "size": size, "resample": resample, "image_mean": [0.1, 0.5, 0.3], "image_std": [0.2, 0.4, 1.0],
    }  # fmt: skip
    expected = transformers.ViTImageProcessorPil(**said)(images, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ImageProcessor(**said)(images), expected, rtol=0, atol=1e-6)
    usual = transformers.ViTImageProcessorPil()(images, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ImageProcessor()(images), usual, rtol=0, atol=1e-6)


def test_what_a_config_leaves_out_is_what_transformers_takes() -> None:
    theirs, config = transformers.ViTConfig(), ViTConfig.from_dict({})
    assert config.pooler_output_size is None and theirs.pooler_output_size == 768
    for name in set(vars(config)) & set(theirs.to_dict()) - {"kept", "pooler_output_size", "id2label", "label2id"}:
        assert getattr(config, name) == getattr(theirs, name), name
