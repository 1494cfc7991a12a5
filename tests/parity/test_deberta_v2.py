"""DeBERTa as its files have it, against transformers in float64: what is shared, normed, left out, and far apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora.models.relative import log_buckets
from tests.parity.encoders import ours, reference
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch, transformers

# As deberta-v3-base says, but in size. d · (1 + terms) is a square, whose root transformers takes in float32.
V3: dict[str, Any] = {
    "share_att_key": True, "position_biased_input": False, "type_vocab_size": 0, "max_relative_positions": -1,
    "embedding_size": 24, "pos_att_type": "p2c|c2p",
}  # fmt: skip
LONG = 37
IDS = np.random.default_rng(0).integers(3, 50, (3, LONG))
MASK = np.arange(LONG) < np.array([[LONG], [2], [14]])
ROWS = np.where(MASK & (IDS % 3 > 0), IDS % 3, -100)
LABELS = {"SequenceClassification": np.array([2, 0, 1]), "TokenClassification": ROWS, "MaskedLM": ROWS}


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        *((head, {}) for head in LABELS),
        ("TokenClassification", {"share_att_key": False, "norm_rel_ebd": "none"}),
        ("TokenClassification", {"position_buckets": -1, "max_relative_positions": 6}),
        ("TokenClassification", {"position_buckets": 7, "max_relative_positions": 30}),
        ("TokenClassification", {"pos_att_type": ["c2p"], "num_attention_heads": 3}),
        ("TokenClassification", {"pos_att_type": ["p2c"], "num_attention_heads": 3, "share_att_key": False}),
        ("TokenClassification", {"relative_attention": False}),
        ("SequenceClassification", {"pooler_hidden_act": "relu", "hidden_act": "gelu_new"}),
        ("MaskedLM", {"legacy": False}),
        ("MaskedLM", {"embedding_size": 10}),
    ],
)
def test_texts_longer_than_the_buckets_have_transformers_outputs_and_gradients(
    tmp_path: Path, head: str, changes: dict[str, Any]
) -> None:
    theirs = reference("deberta-v2", head, tmp_path / "theirs", **{**V3, **changes})
    model, given = ours(head, tmp_path / "theirs"), {"input_ids": IDS, "attention_mask": MASK.astype(int)}
    output, backward = model(**given, labels=LABELS[head])
    expected = theirs(**tensors(given), labels=torch.tensor(LABELS[head]))
    assert_close(output.loss, expected.loss, 1e-9)
    backward()
    expected.loss.backward()
    for name, parameter in theirs.named_parameters():
        if parameter.grad is None:  # what nothing reads
            assert not changes.get("relative_attention", True) and "encoder.LayerNorm" in name
            parameter.grad = torch.zeros_like(parameter)
    assert {name for name, p in theirs.named_parameters() if p.grad.abs().max() < 1e-6} == idle(model)
    for name, parameter in model.named_parameters():
        found = np.zeros_like(parameter.data) if parameter.grad is None else parameter.grad
        assert_close(found, dict(theirs.named_parameters())[name].grad, 1e-9)
    logits, real = model(**given)[0].logits, ... if head == "SequenceClassification" else MASK
    assert_close(logits[real], expected.logits[real if real is ... else torch.tensor(MASK)], 1e-9)
    model.save_pretrained(tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours", dtype=torch.float64, output_loading_info=True)
    assert not any(again[1].values())
    torch.testing.assert_close(again[0].eval()(**tensors(given)).logits, expected.logits, rtol=0, atol=1e-12)


def idle(model: Any) -> set[str]:
    """What npora says that nothing comes to."""
    named = [(path, getattr(module, "idle_parameters", dict)()) for path, module in model.named_modules() if path]
    return {f"{path}.{name}" for path, names in named for name in names}


@pytest.mark.parametrize(("buckets", "furthest"), [(256, 512), (32, 128), (4, 9), (7, 30), (2, 5), (512, 1024)])
def test_buckets_of_distances_are_transformers(buckets: int, furthest: int) -> None:
    theirs = transformers.models.deberta_v2.modeling_deberta_v2.make_log_bucket_position
    distance = np.arange(-furthest - 40, furthest + 41)
    expected = theirs(torch.tensor(distance), buckets, furthest).to(torch.long).numpy()
    np.testing.assert_array_equal(log_buckets(distance, buckets, furthest), expected)


def test_padding_on_the_left_is_that_on_the_right() -> None:
    config = npora.models.DebertaV2Config(
        vocab_size=50, hidden_size=6, num_hidden_layers=2, num_attention_heads=2, intermediate_size=5,
        relative_attention=True, position_buckets=4, pos_att_type="p2c|c2p", position_biased_input=False,
    )  # fmt: skip
    model = npora.models.DebertaV2ForTokenClassification(config, rng=1, dtype=np.float64)
    ids = IDS[:1, :6]
    left, right = (np.pad(ids, ((0, 0), pad)) for pad in ((3, 0), (0, 3)))
    found = model(left, left != 0)[0].logits[:, 3:], model(right, right != 0)[0].logits[:, :6]
    np.testing.assert_array_equal(*found)


def test_an_adapter_on_the_shared_projections_goes_to_peft_and_back(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra `parity`")
    given = {"input_ids": IDS, "attention_mask": MASK.astype(int)}
    base = reference("deberta-v2", "TokenClassification", tmp_path / "base", **V3)
    wanted = {"r": 3, "target_modules": ["query_proj", "key_proj", "value_proj", "dense"], "task_type": "TOKEN_CLS"}
    theirs = peft.get_peft_model(base, peft.LoraConfig(**wanted)).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    theirs.save_pretrained(tmp_path / "adapter")
    plain = ours("TokenClassification", tmp_path / "base")
    model = npora.PeftModel.from_pretrained(plain, tmp_path / "adapter", is_trainable=True)
    output, backward = model(**given, labels=ROWS)
    expected = theirs(**tensors(given), labels=torch.tensor(ROWS))
    assert_close(output.logits[MASK], expected.logits[torch.tensor(MASK)], 1e-9)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(model, theirs, 1e-9) >= 2 * 6 * 2
    model.save_pretrained(tmp_path / "ours")
    base = reference("deberta-v2", "TokenClassification", tmp_path / "base", **V3)
    again = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    torch.testing.assert_close(again(**tensors(given)).logits, expected.logits, rtol=0, atol=1e-12)
