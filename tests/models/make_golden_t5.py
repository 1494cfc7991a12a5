"""Makes golden_t5.json: what transformers computes with the weights of tests.models.test_t5.tiny_t5, in float64.

python -m tests.models.make_golden_t5        (needs the extra `parity`)
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

import numpy as np
import torch
import transformers

from tests.models.test_t5 import BATCH, CLASSES, ENDED, GOLDEN, KINDS, LAST, PROMPT, starts, tiny_classifier, tiny_t5


def forward(self: Any, x: Any) -> Any:
    """transformers takes the mean of the squares in float32 whatever it is given, which rounds to 1e-7."""
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


transformers.models.t5.modeling_t5.T5LayerNorm.forward = forward
golden: dict[str, Any] = {}
for kind in KINDS:
    with tempfile.TemporaryDirectory() as folder:
        tiny_t5(kind).save_pretrained(folder)
        model = transformers.T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()
        output = model(**{key: torch.tensor(value) for key, value in BATCH.items()})
    golden[kind] = {"logits": output.logits[np.arange(3), LAST].tolist(), "loss": output.loss.item()}
with tempfile.TemporaryDirectory() as folder:
    tiny_classifier().save_pretrained(folder)
    model = transformers.T5ForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    mask = torch.tensor(PROMPT["attention_mask"])
    output = model(torch.tensor(ENDED), attention_mask=mask, labels=torch.tensor(CLASSES))
golden["classes"] = {"logits": output.logits.tolist(), "loss": output.loss.item()}
bucket, distance = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket, -torch.arange(3001)
golden["buckets"] = {
    f"{buckets}, {most}": [starts(bucket(distance, way, buckets, most).numpy()) for way in (True, False)]
    for buckets, most in ((32, 128), (64, 1000), (20, 50), (6, 4))
}
GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
