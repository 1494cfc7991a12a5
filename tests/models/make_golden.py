"""Makes the golden files of this folder: what transformers computes with the tests' small models, in float64.

python -m tests.models.make_golden        (needs the extra `parity`)
"""

from __future__ import annotations

import importlib
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.models import test_bert, test_encoders
from tests.parity.reference import widen
from tests.tiny import save_bert, tiny_bert
from tests.tiny_encoders import HEADS, SIZES, tiny_encoder


def golden(directory: Path, head: str, batch: dict[str, Any], labels: Any) -> dict[str, Any]:
    made = getattr(transformers, f"AutoModelFor{head}")
    model = made.from_pretrained(directory, dtype=torch.float64).eval()
    output = model(**{key: torch.tensor(value) for key, value in batch.items()}, labels=torch.tensor(labels))
    return {"logits": output.logits.tolist(), "loss": output.loss.item()}


def write(path: Path, values: dict[str, Any], indent: int | None) -> None:
    path.write_text(json.dumps(values, indent=indent) + "\n")


with tempfile.TemporaryDirectory() as folder:
    directory = save_bert(tiny_bert(dtype=np.float64), Path(folder))
    values = golden(directory, "SequenceClassification", test_bert.BATCH, test_bert.LABELS)
write(test_bert.GOLDEN, values, indent=1)

values = {}
for family, head in itertools.product(SIZES, HEADS):
    with pytest.MonkeyPatch.context() as patch:
        if family == "modernbert":  # its angles are float32 otherwise
            widen(patch, importlib.import_module("transformers.models.modernbert.modeling_modernbert"))
        with tempfile.TemporaryDirectory() as folder:
            tiny_encoder(family, head, np.float64).save_pretrained(folder)
            labels = test_encoders.LABELS[head]
            values[f"{family} {head}"] = golden(Path(folder), head, test_encoders.batch(family), labels)
write(test_encoders.GOLDEN, values, indent=None)
