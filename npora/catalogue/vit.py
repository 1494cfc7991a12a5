"""ViT: its parts and the whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.catalogue.batches import part
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Draw, Drawn, Draws, Row, call, fixed
from npora.lora import LoraConfig, get_peft_model
from npora.models.families.vit import (
    ViTConfig,
    ViTEmbeddings,
    ViTForImageClassification,
    ViTLayer,
    ViTModel,
    ViTPooler,
)
from npora.nn.patches import PatchProjection
from npora.nn.view import View

CONFIG = ViTConfig(
    hidden_size=6, num_hidden_layers=1, num_attention_heads=2, intermediate_size=5, image_size=[4, 6],
    patch_size=[2, 3], num_channels=1, num_labels=3, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
    pooler_output_size=4,
)  # fmt: skip
READ = np.array([0, 2, 3, 6])  # of PACKING


def classifier(kind: Any, *, labelled: bool = False, adapted: bool = False) -> Draws:
    """A model over two images."""

    def drawn(d: Draw) -> Drawn:
        model = kind(CONFIG, rng=0)
        if adapted:
            model = get_peft_model(model, LoraConfig(r=2, lora_dropout=0.1, modules_to_save=["classifier"]))
        labels = {"labels": d.rng.integers(0, 3, 2)} if labelled else {}
        rng = np.random.default_rng(4)
        return call(d.moved(model), pixel_values=d.normal(2, 1, 4, 6), **labels, rng=rng)

    return drawn


ROWS = [
    Row("patches", fixed(lambda: PatchProjection(2, 5, (2, 3), rng=1), (3, 2, 4, 9))),
    Row("ViTEmbeddings", part(ViTEmbeddings, CONFIG, (2, 1, 4, 6))),
    Row("ViTLayer", part(ViTLayer, CONFIG, (8, 6), view=View(PACKING, READ))),
    Row("ViTPooler", part(ViTPooler, CONFIG, (7, 6)), row_wise=True),
    Row("ViTModel", classifier(ViTModel)),
    Row("vit", classifier(ViTForImageClassification, labelled=True)),
    Row("lora_vit", classifier(ViTForImageClassification, labelled=True, adapted=True)),
]
