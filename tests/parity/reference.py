"""A small random BERT of transformers, the same one in npora, and a batch for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")

# Lengths 5, 1 and 3; the sizes are pairwise distinct.
BATCH: dict[str, Any] = {
    "input_ids": np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 5, 49, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]),
    "token_type_ids": np.array([[0, 0, 1, 1, 0], [1, 0, 0, 0, 0], [0, 1, 1, 0, 0]]),
}
LABELS = np.array([2, 0, 1])


class Wide:
    """torch with float64 under the name of float32."""

    float = float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def widen(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """transformers computes norms, angles and losses in float32 even in a float64 model; not here."""
    for each in (module, transformers.modeling_rope_utils):
        monkeypatch.setattr(each, "torch", Wide())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def reference_bert(directory: Path, **changes: Any) -> Any:
    """A BertForSequenceClassification of transformers in float64 with every parameter drawn anew, saved there too."""
    config = transformers.BertConfig(**{
        "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 20, "num_hidden_layers": 2, "vocab_size": 50,
        "max_position_embeddings": 9, "num_labels": 3, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, **changes,
    })  # fmt: skip
    model = transformers.BertForSequenceClassification(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((1.0 if "LayerNorm.weight" in name else 0.0) + 0.3 * drawn)
    model.save_pretrained(directory)
    return model


def npora_bert(directory: Path, **keywords: Any) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(directory, dtype=np.float64, **keywords)


def tensors(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: torch.tensor(value) for key, value in batch.items()}


def assert_close(ours: Any, theirs: Any, atol: float) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), rtol=0, atol=atol)


def named(theirs: Any) -> dict[str, Any]:
    """The parameters of a model of transformers, a tied one under the name that its embedding has: in some families the
    head stands before the body there."""
    names: dict[int, tuple[str, Any]] = {}
    for name, parameter in theirs.named_parameters(remove_duplicate=False):
        if id(parameter) not in names or "embeddings." in name:
            names[id(parameter)] = name, parameter
    return dict(names.values())


def assert_same_gradients(ours: Any, theirs: Any, atol: float) -> int:
    """The gradient of every trainable parameter, by name; returns how many there are."""
    expected = {name: p.grad for name, p in named(theirs).items() if p.requires_grad}
    found = {name: p for name, p in ours.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    modules = [(path, getattr(module, "idle_parameters", dict)()) for path, module in ours.named_modules()]
    idle = {f"{path}.{name}".lstrip(".") for path, names in modules for name in names}
    for name, parameter in found.items():
        is_idle = name in idle or name.endswith(("key.bias", "k_lin.bias", ".k.bias"))  # softmax does not see it
        assert np.abs(expected[name].numpy()).max() > 1e-6 or is_idle, f"nothing to compare in {name}"
        assert_close(parameter.grad, expected[name], atol)
    return len(found)
