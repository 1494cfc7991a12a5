"""Phi-3 and Phi-4-mini against transformers' and PEFT's, in float64: fused products, heads turned in part, longrope."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tests.parity.decoders import LEFT, SIZES, Decoder
from tests.parity.reference import tensors, torch

# Of 8 features 6 are turned, with three factors; up to 20 tokens take the short ones.
LONG = {
    "max_position_embeddings": 57, "original_max_position_embeddings": 20, "partial_rotary_factor": 0.75,
    "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0, 1.5, 4.0], "long_factor": [2.0, 3.0, 9.0]},
}  # fmt: skip


class TestPhi3(Decoder):
    family = "phi3"
    layer = 6
    targets: ClassVar = ["qkv_proj", "gate_up_proj", "o_proj"]
    sizes: ClassVar = {**SIZES, "hidden_size": 48, "eos_token_id": 2}
    variants: ClassVar = {
        "plain": {},
        "tied, one key head": {"tie_word_embeddings": True, "num_key_value_heads": 1},
        "windows": {"sliding_window": 3, "rms_norm_eps": 1e-3},
        "heads turned in part": {"partial_rotary_factor": 0.5},
        "longrope": LONG,
        "longrope of a factor": {**LONG, "rope_scaling": {**LONG["rope_scaling"], "factor": 7.0}},
        "longrope of a scale": {**LONG, "rope_scaling": {**LONG["rope_scaling"], "attention_factor": 1.25}},
    }

    def test_a_text_for_which_the_long_factors_were_learnt_is_refused(self, tmp_path: Path) -> None:
        theirs = self.reference(tmp_path, **LONG)
        ours, prompt = self.load(tmp_path), {name: LEFT[name] for name in ("input_ids", "attention_mask")}
        longest = {**prompt, **self.said, "eos_token_id": None}
        found = ours.generate(**{**longest, "max_new_tokens": 14})  # the last of 21 tokens is not read any more
        expected = theirs.generate(**tensors(prompt), do_sample=False, max_new_tokens=14, pad_token_id=48)
        np.testing.assert_array_equal(found[0], expected[0].numpy()[: found.shape[1]])
        with pytest.raises(
            ValueError, match="a text of 21 tokens is longer than the 20 that this model takes here: np"
        ):
            ours.generate(**{**longest, "max_new_tokens": 15})
        ours(np.ones((1, 20), dtype=int))
        with pytest.raises(ValueError, match="a text of 21 tokens is longer than the 20"):
            ours(np.ones((1, 21), dtype=int))
        assert not torch.equal(
            theirs(torch.ones(1, 21, dtype=int)).logits[:, :20], theirs(torch.ones(1, 20, dtype=int)).logits
        )
