"""from_pretrained: the model that a directory's `config.json` names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy.typing as npt

from npora.files import resolve
from npora.models.bert_heads import BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification
from npora.models.config import CONFIG_NAME, read_config
from npora.models.distilbert_heads import (
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
)
from npora.models.folder import check_is_model
from npora.models.gpt2_heads import GPT2ForSequenceClassification, GPT2LMHeadModel
from npora.models.llama_heads import LlamaForCausalLM, LlamaForSequenceClassification
from npora.models.pretrained import PretrainedModel
from npora.models.roberta import RobertaForMaskedLM, RobertaForSequenceClassification, RobertaForTokenClassification
from npora.models.t5_heads import T5ForConditionalGeneration, T5ForSequenceClassification


class AutoModel:
    """Chooses a class by the `model_type` of `config.json`."""

    classes: ClassVar[Mapping[str, type[PretrainedModel]]] = {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        num_labels: int | None = None,
        dtype: npt.DTypeLike | str | None = None,
        seed: int = 42,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **options: Any,
    ) -> PretrainedModel:
        """As PretrainedModel.from_pretrained. Raises ValueError for a model type that npora does not know here."""
        folder = resolve(name_or_path, revision, cache_dir, local_files_only=local_files_only, token=token)
        if not os.path.isfile(os.path.join(folder, CONFIG_NAME)):
            check_is_model(folder)  # the class itself does where there is one
        model_type = str(read_config(folder).get("model_type"))
        if model_type not in cls.classes:
            raise ValueError(
                f"{os.path.join(folder, CONFIG_NAME)}: model_type {model_type!r} is not supported by {cls.__name__}, "
                f"which knows: {', '.join(cls.classes)}"
            )
        model = cls.classes[model_type].from_pretrained(folder, num_labels, dtype, seed, **options)
        model.name_or_path = os.fspath(name_or_path)
        return model


class AutoModelForSequenceClassification(AutoModel):
    classes: ClassVar = {
        "bert": BertForSequenceClassification,
        "distilbert": DistilBertForSequenceClassification,
        "gpt2": GPT2ForSequenceClassification,
        "llama": LlamaForSequenceClassification,
        "roberta": RobertaForSequenceClassification,
        "t5": T5ForSequenceClassification,
    }


class AutoModelForTokenClassification(AutoModel):
    classes: ClassVar = {
        "bert": BertForTokenClassification,
        "distilbert": DistilBertForTokenClassification,
        "roberta": RobertaForTokenClassification,
    }


class AutoModelForMaskedLM(AutoModel):
    classes: ClassVar = {
        "bert": BertForMaskedLM,
        "distilbert": DistilBertForMaskedLM,
        "roberta": RobertaForMaskedLM,
    }


class AutoModelForCausalLM(AutoModel):
    classes: ClassVar = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM}


class AutoModelForSeq2SeqLM(AutoModel):
    classes: ClassVar = {"t5": T5ForConditionalGeneration}
