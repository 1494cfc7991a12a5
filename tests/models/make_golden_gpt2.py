"""Makes golden_gpt2.json: what transformers computes with the weights of the models in test_gpt2_values, in float64.

python -m tests.models.make_golden_gpt2        (needs the extra `parity`)
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

import torch
import transformers

from tests.models.test_gpt2_values import BATCH, CLASSES, GOLDEN, LABELS, VARIANTS, classifier, language_model


def computed(model: Any, **labels: Any) -> Any:
    """The output of transformers' model of the same class, weights and inputs."""
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        theirs = getattr(transformers, type(model).__name__).from_pretrained(directory, dtype=torch.float64).eval()
        return theirs(**{key: torch.tensor(value) for key, value in {**BATCH, **labels}.items()})


golden = {}
for name, changes in VARIANTS.items():
    logits = computed(language_model(**changes)).logits
    # transformers' own loss is computed in float32.
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(LABELS)[:, 1:].flatten())
    classes = computed(classifier(**changes), labels=CLASSES)
    golden[name] = {
        "logits": logits.tolist(), "loss": loss.item(), "classes": classes.logits.tolist(),
        "classes_loss": classes.loss.item(),
    }  # fmt: skip
GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
