"""What the tests of the adapters' methods share: a model of npora beside transformers' and PEFT's of the same weights,
the tiny BERT that classifies, or the tiny GPT-2 whose linear layers are Conv1D."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.parity import reference, reference_gpt2
from tests.parity.reference import assert_close, tensors, torch
from tests.parity.test_gpt2 import LABELS as NEXT
from tests.parity.test_gpt2 import causal_loss


def is_gpt2(model: Any) -> bool:
    return hasattr(model.config, "n_embd")


def batch(model: Any) -> dict[str, Any]:
    return reference_gpt2.BATCH if is_gpt2(model) else reference.BATCH


def assert_same_logits(ours: Any, theirs: Any, atol: float = 1e-12) -> None:
    real = reference_gpt2.REAL if is_gpt2(ours) else ...  # at padding the two decoders differ
    found, expected = ours(**batch(ours))[0].logits, theirs(**tensors(batch(ours))).logits.detach()
    assert_close(found[real], expected[real], atol)


def backward(ours: Any, theirs: Any) -> None:
    """Add the gradients of the loss of the task to both models' parameters."""
    labels = NEXT if is_gpt2(ours) else reference.LABELS
    ours(**batch(ours), labels=labels)[1]()
    if is_gpt2(ours):
        causal_loss(theirs(**tensors(batch(ours))).logits).backward()
    else:
        theirs(**tensors(batch(ours)), labels=torch.tensor(labels)).loss.backward()


def moved(model: Any, seed: int = 2) -> Any:
    """The model, each trained parameter moved off where it starts."""
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    return model
