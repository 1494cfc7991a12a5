"""Ten steps of training against torch and PEFT, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npora import PeftModel
from npora.optim import AdamW, clip_grad_norm, get_schedule
from tests.parity.reference import LABELS, assert_close, npora_bert, reference_bert, tensors, torch
from tests.parity.test_peft import complete, randomize

peft = pytest.importorskip("peft", reason="needs the extra `parity`")


def test_ten_steps_give_the_same_weights(tmp_path: Path) -> None:
    theirs = randomize(peft.get_peft_model(reference_bert(tmp_path / "base"), peft.LoraConfig(**complete({}))))
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter", is_trainable=True)
    mine = AdamW([p for p in ours.parameters() if p.requires_grad], 1e-2)
    other = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], 1e-2)
    factor, rng = get_schedule("linear", 0, 10), np.random.default_rng(0)
    for step in range(10):
        mask = (np.arange(6) < rng.integers(1, 7, 3)[:, None]).astype(np.int64)
        batch = {"input_ids": rng.integers(0, 50, (3, 6)), "attention_mask": mask}
        for optimizer in (mine, other):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = 1e-2 * factor(step)
        _, backward = ours(**batch, labels=LABELS)
        backward()
        theirs(**tensors(batch), labels=torch.tensor(LABELS)).loss.backward()
        norm = clip_grad_norm(ours.parameters(), 1.0)
        assert norm > 1.0  # so that clipping takes part
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0).item(), rel=1e-10)
        mine.step()
        other.step()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        # Adam divides by √v̂: a gradient's error of 1e-14 of its size is 1e-14 of a step of 1e-2, ten times.
        assert_close(parameter.data, expected[name], 1e-10)
