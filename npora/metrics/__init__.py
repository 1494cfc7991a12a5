"""What is measured of a model's answers: classes, numbers, entities and texts, one page each."""

from npora.metrics.bleu import bleu
from npora.metrics.classes import accuracy, f1, matthews
from npora.metrics.entities import entities, entity_f1
from npora.metrics.numbers import pearson, rmse, spearman
from npora.metrics.rouge import rouge_l
from npora.metrics.squad import squad_exact_match, squad_f1
from npora.metrics.texts import exact_match, perplexity

__all__ = [
    "accuracy", "bleu", "entities", "entity_f1", "exact_match", "f1", "matthews", "pearson", "perplexity", "rmse",
    "rouge_l", "spearman", "squad_exact_match", "squad_f1",
]  # fmt: skip
