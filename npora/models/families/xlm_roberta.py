"""XLM-RoBERTa (Conneau et al., 2019): RoBERTa of a hundred languages, with the same names in its files."""

from __future__ import annotations

from dataclasses import dataclass

from npora.models.families.roberta import (
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)


@dataclass(kw_only=True)
class XLMRobertaConfig(RobertaConfig):
    """An XLM-RoBERTa's `config.json`, with transformers' defaults.

    xlm-roberta-base's own file says a vocabulary of 250,002, 514 positions, of which 512 hold a token, one token type,
    and eps 1e-5.
    """

    model_type = "xlm-roberta"

    vocab_size: int = 30522


class XLMRobertaModel(RobertaModel):
    config_class = XLMRobertaConfig


class XLMRobertaForSequenceClassification(RobertaForSequenceClassification):
    body_class = XLMRobertaModel


class XLMRobertaForTokenClassification(RobertaForTokenClassification):
    body_class = XLMRobertaModel


class XLMRobertaForMaskedLM(RobertaForMaskedLM):
    body_class = XLMRobertaModel


class XLMRobertaForMultipleChoice(RobertaForMultipleChoice):
    body_class = XLMRobertaModel


class XLMRobertaForQuestionAnswering(RobertaForQuestionAnswering):
    body_class = XLMRobertaModel
