"""Models, a family a file in `families/`, with Hugging Face's names of classes and parameters.

A family is read when one of its classes is asked for, as in `from npora.models import LlamaForCausalLM`.
"""

from typing import Any

from npora.models.auto import (
    FAMILIES,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    class_named,
    family,
)
from npora.models.differences import DifferenceWarning
from npora.models.embedding import AutoModelForSentenceEmbedding

__all__ = [
    "AutoModelForCausalLM", "AutoModelForImageClassification", "AutoModelForMaskedLM", "AutoModelForMultipleChoice",
    "AutoModelForQuestionAnswering", "AutoModelForSentenceEmbedding", "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification", "AutoModelForTokenClassification", "DifferenceWarning",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    return class_named(name)


def __dir__() -> list[str]:
    families = (vars(family(model_type)) for model_type in FAMILIES)
    beginnings = tuple(beginning for _, beginning in FAMILIES.values())
    return sorted({*__all__, *(name for names in families for name in names if name.startswith(beginnings))})
