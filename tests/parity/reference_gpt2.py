"""Small random GPT-2s of transformers, saved for npora to read, and a batch for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.reference import torch, transformers

# Lengths 5, 1 and 3, all padded on the right; the sizes are pairwise distinct.
BATCH: dict[str, Any] = {
    "input_ids": np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 5, 49, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]),
}
REAL = BATCH["attention_mask"].astype(bool)


def reference_gpt2(directory: Path, kind: str = "GPT2LMHeadModel", seed: int = 0, **changes: Any) -> Any:
    """A GPT-2 of transformers in float64 with every parameter drawn anew, saved there too."""
    config = transformers.GPT2Config(**{
        "n_embd": 24, "n_head": 3, "n_layer": 2, "n_inner": 20, "vocab_size": 50, "n_positions": 9, "num_labels": 4,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 0, **changes,
    })  # fmt: skip
    model = getattr(transformers, kind)(config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            norm = name.endswith("weight") and ".ln_" in name
            parameter.copy_((1.0 if norm else 0.0) + 0.3 * drawn)
    model.save_pretrained(directory)
    return model
