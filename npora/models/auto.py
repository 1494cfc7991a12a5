"""from_pretrained: the model that a directory's `config.json` names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.bert_heads import BertForSequenceClassification
from npora.models.config import CONFIG_NAME, read_config
from npora.models.pretrained import PretrainedModel
from npora.models.t5_heads import T5ForConditionalGeneration, T5ForSequenceClassification


class AutoModel:
    """Chooses a class by the `model_type` of `config.json`."""

    classes: ClassVar[Mapping[str, type[PretrainedModel]]] = {}

    @classmethod
    def from_pretrained(
        cls,
        directory: str | os.PathLike[str],
        num_labels: int | None = None,
        dtype: npt.DTypeLike = np.float32,
        seed: int = 42,
        **fields: Any,
    ) -> PretrainedModel:
        """As PretrainedModel.from_pretrained. Raises ValueError for a model type that npora does not know here."""
        model_type = str(read_config(directory).get("model_type"))
        if model_type not in cls.classes:
            raise ValueError(
                f"{os.path.join(directory, CONFIG_NAME)}: model_type {model_type!r} is not supported; "
                f"npora knows: {', '.join(cls.classes)}"
            )
        return cls.classes[model_type].from_pretrained(directory, num_labels, dtype, seed, **fields)


class AutoModelForSequenceClassification(AutoModel):
    classes: ClassVar = {"bert": BertForSequenceClassification, "t5": T5ForSequenceClassification}


class AutoModelForSeq2SeqLM(AutoModel):
    classes: ClassVar = {"t5": T5ForConditionalGeneration}
