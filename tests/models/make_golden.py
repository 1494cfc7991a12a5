"""Makes golden_bert.json: what transformers computes with the weights of tests.tiny.tiny_bert, in float64.

python -m tests.models.make_golden        (needs the extra `parity`)
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from tests.models.test_bert import BATCH, GOLDEN, LABELS
from tests.tiny import save_bert, tiny_bert

with tempfile.TemporaryDirectory() as folder:
    directory = save_bert(tiny_bert(dtype=np.float64), Path(folder))
    model = transformers.BertForSequenceClassification.from_pretrained(directory, dtype=torch.float64).eval()
    output = model(**{key: torch.tensor(value) for key, value in BATCH.items()}, labels=torch.tensor(LABELS))
GOLDEN.write_text(json.dumps({"logits": output.logits.tolist(), "loss": output.loss.item()}, indent=1) + "\n")
