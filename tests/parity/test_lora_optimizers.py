"""LoRA+ and LoRA-FA against PEFT's, some steps of each in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npora import PeftModel
from npora.optim import AdamW, create_lorafa_optimizer, create_loraplus_optimizer
from tests.parity.both import backward
from tests.parity.reference import assert_close, npora_bert, reference_bert, torch
from tests.parity.test_peft import complete, peft, randomize

optimizers = pytest.importorskip("peft.optimizers")


def pair(tmp_path: Path, **fields: Any) -> tuple[Any, Any]:
    theirs = randomize(peft.get_peft_model(reference_bert(tmp_path / "base"), peft.LoraConfig(**complete(fields))))
    theirs.eval().save_pretrained(tmp_path / "adapter")
    return PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter", is_trainable=True), theirs


def assert_same_steps(ours: Any, theirs: Any, optimizer: Any, reference: Any) -> None:
    for _ in range(6):
        backward(ours, theirs)
        for one in (optimizer, reference):
            one.step()
            one.zero_grad()
    values = dict(ours.named_parameters())
    moved = 0
    for name, parameter in theirs.named_parameters():
        assert_close(values[name].data, parameter, 1e-9)
        moved += parameter.requires_grad
    assert moved > 4


@pytest.mark.parametrize(
    "fields",
    [{}, {"use_dora": True, "bias": "lora_only"}, {"use_dora": True, "target_modules": ["word_embeddings", "query"]}],
    ids=str,
)
def test_lora_plus_moves_the_weights_as_pefts_does(tmp_path: Path, fields: dict[str, Any]) -> None:
    ours, theirs = pair(tmp_path, **fields)
    options = {"lr": 1e-3, "loraplus_lr_ratio": 8, "loraplus_weight_decay": 0.1, "loraplus_lr_embedding": 3e-3}
    reference = optimizers.create_loraplus_optimizer(theirs, torch.optim.AdamW, **options)
    assert_same_steps(ours, theirs, create_loraplus_optimizer(ours, AdamW, **options), reference)


@pytest.mark.parametrize("fields", [{}, {"use_rslora": True}, {"rank_pattern": {"query": 2}}], ids=str)
def test_lora_fa_moves_the_weights_as_pefts_does(
    tmp_path: Path, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT takes B's gradient to bfloat16 where the machine has that; here to float64, as its formula."""
    monkeypatch.setattr("peft.optimizers.lorafa.is_bf16_available", lambda *_: False)
    ours, theirs = pair(tmp_path, **fields)
    options = {"r": 3, "lora_alpha": 5, "lr": 1e-3, "weight_decay": 0.1}
    reference = optimizers.create_lorafa_optimizer(theirs, **options)
    assert_same_steps(ours, theirs, create_lorafa_optimizer(ours, **options), reference)


def test_what_they_are_called_and_take_is_pefts() -> None:
    import inspect

    for ours, theirs in (
        (create_lorafa_optimizer, optimizers.create_lorafa_optimizer),
        (create_loraplus_optimizer, optimizers.create_loraplus_optimizer),
    ):
        names = [name for name in inspect.signature(theirs).parameters if name != "kwargs"]
        assert set(names) <= set(inspect.signature(ours).parameters) and ours.__name__ == theirs.__name__
