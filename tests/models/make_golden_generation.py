"""Makes golden_generation.json: transformers' beam search, by the options of test_generation_values.

python -m tests.models.make_golden_generation        (needs the extra `parity`)
"""

from __future__ import annotations

import json
import tempfile

import torch
import transformers

from tests.models.test_generation_values import GOLDEN, MASK, MODELS, PROMPTS, SEARCHES, model

golden = []
for seed in MODELS:
    with tempfile.TemporaryDirectory() as directory:
        model(seed).save_pretrained(directory)
        theirs = transformers.GPT2LMHeadModel.from_pretrained(directory, dtype=torch.float64).eval()
    prompts, mask = torch.tensor(PROMPTS), torch.tensor(MASK)
    found = [theirs.generate(prompts, attention_mask=mask, **options) for options in SEARCHES]
    golden.append([ids[:, 4:].tolist() for ids in found])
GOLDEN.write_text("[" + ",\n".join(json.dumps(rows, separators=(",", ":")) for rows in golden) + "]\n")
