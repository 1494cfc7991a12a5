"""predict_with_generate against transformers' Seq2SeqTrainer: the same tokens and the same loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Seq2SeqTrainer, Seq2SeqTrainingArguments
from tests.parity.reference import transformers
from tests.parity.test_t5 import npora_t5, reference_t5

pytest.importorskip("accelerate", reason="transformers' Trainer needs it")


@pytest.mark.parametrize("beams", [1, 2])
def test_tokens_and_loss_are_those_of_their_trainer(tmp_path: Path, beams: int) -> None:
    theirs = reference_t5(tmp_path / "base", "1.1", num_layers=2, num_decoder_layers=2)
    rng = np.random.default_rng(1)
    rows = [{"input_ids": rng.integers(3, 20, 5).tolist(), "labels": rng.integers(3, 20, 4).tolist()} for _ in range(6)]
    options: dict[str, Any] = {"predict_with_generate": True, "generation_max_length": 6, "generation_num_beams": beams,
                               "per_device_eval_batch_size": 2, "report_to": "none"}  # fmt: skip
    other = transformers.Seq2SeqTrainer(
        theirs, transformers.Seq2SeqTrainingArguments(str(tmp_path / "theirs"), use_cpu=True, **options)
    )
    expected = other.predict(rows)
    own = Seq2SeqTrainer(npora_t5(tmp_path / "base"), Seq2SeqTrainingArguments(str(tmp_path / "own"), **options))
    found = own.predict(rows)
    width = found.predictions.shape[1]
    assert (found.predictions == expected.predictions[:, :width]).all()
    np.testing.assert_allclose(found.metrics["test_loss"], expected.metrics["test_loss"], rtol=1e-5)
