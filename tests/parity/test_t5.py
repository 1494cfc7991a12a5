"""T5 against transformers', in float64: T5 1.0 (relu, tied, scaled) and 1.1 (gated GELU, a head of its own)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.lora import PeftModel
from npora.models import AutoModelForSeq2SeqLM
from npora.models.relative import relative_buckets
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch, transformers

peft = pytest.importorskip("peft", reason="needs the extra `parity`")

# Sequences of 5, 1 and 3 tokens that write 2, 4 and 1; distances beyond the buckets' middle and end.
BATCH: dict[str, Any] = {
    "input_ids": np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 5, 49, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]),
    "labels": np.array([[4, 1, -100, -100], [8, 44, -100, 1], [1, -100, -100, -100]]),
}
LEARNT = np.arange(4) < np.array([[2], [4], [1]])  # up to each sequence's last label
SIZES = {
    "vocab_size": 50, "d_model": 24, "d_kv": 5, "num_heads": 3, "d_ff": 20, "num_layers": 2, "num_decoder_layers": 3,
    "relative_attention_num_buckets": 6, "relative_attention_max_distance": 4, "dropout_rate": 0.0,
    "decoder_start_token_id": 2,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "1.0": {"feed_forward_proj": "relu"},
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
# Values of size about 1 pass through five layers, at most 24 terms in a sum: 2¹⁵ roundings of 2⁻⁵³ are 4e-12.
FORWARD, LOSS, BACKWARD = 1e-11, 1e-12, 1e-9


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers takes the mean of the squares in float32 whatever it is given, which rounds to 1e-7."""

    def forward(self: Any, x: Any) -> Any:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(transformers.models.t5.modeling_t5.T5LayerNorm, "forward", forward)


def reference_t5(directory: Path, kind: str, **changes: Any) -> Any:
    """A T5ForConditionalGeneration of transformers in float64 with every parameter drawn anew, saved there too."""
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**{**SIZES, **KINDS[kind], **changes}))
    if kind == "1.1":
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    model = model.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((1.0 if "layer_norm" in name else 0.0) + 0.3 * drawn)
    model.save_pretrained(directory)
    return model


def npora_t5(directory: Path, **keywords: Any) -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=np.float64, **keywords)


def randomized(model: Any) -> Any:
    """B's away from zero, so that A has a gradient."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (6, 4), (20, 50), (64, 1000)])
def test_the_buckets_are_those_of_transformers(bidirectional: bool, buckets: int, max_distance: int) -> None:
    distance = np.arange(-3000, 3001)
    attention = transformers.models.t5.modeling_t5.T5Attention
    theirs = attention._relative_position_bucket(torch.tensor(distance), bidirectional, buckets, max_distance)
    assert (relative_buckets(distance, bidirectional, buckets, max_distance) == theirs.numpy()).all()


@every_kind
def test_outputs_and_every_gradient_agree(tmp_path: Path, kind: str) -> None:
    theirs, ours = reference_t5(tmp_path, kind), npora_t5(tmp_path)
    output, backward = ours(**BATCH)
    expected = theirs(**tensors(BATCH))
    assert_close(output.logits[LEARNT], expected.logits[torch.tensor(LEARNT)], FORWARD)
    assert not output.logits[~LEARNT].any()
    assert_close(output.loss, expected.loss, LOSS)
    assert output.num_items == 6
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, BACKWARD) == {"1.0": 60, "1.1": 66}[kind]


@every_kind
def test_lora_gradients_agree_on_every_projection(tmp_path: Path, kind: str) -> None:
    targets = ["q", "k", "v", "o", "wo", "wi" if kind == "1.0" else "wi_1"]
    config = {"r": 2, "lora_alpha": 3, "target_modules": targets, "task_type": "SEQ_2_SEQ_LM"}
    theirs = randomized(peft.get_peft_model(reference_t5(tmp_path / "base", kind), peft.LoraConfig(**config)))
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_t5(tmp_path / "base"), tmp_path / "adapter", is_trainable=True)
    output, backward = ours(**BATCH)
    expected = theirs(**tensors(BATCH))
    assert_close(output.loss, expected.loss, LOSS)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, BACKWARD) == 2 * (2 * 6 + 3 * 10)
