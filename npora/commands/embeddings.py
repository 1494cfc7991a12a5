"""The task of embeddings: texts that are alike are to lie side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from npora.commands import usual
from npora.commands.forms import FORM
from npora.commands.task import Classes, Columns, Task
from npora.data import Dataset, Tokenizer, read_examples
from npora.data.alike import encode_alike, usual_texts
from npora.data.dataset import Example
from npora.models import AutoModelForSentenceEmbedding
from npora.train import EmbeddingTrainer, Trainer, TrainingArguments
from npora.train.embeddings import COSENT, RANKING, TRIPLET

_TEXTS = ("text", "text_pair", "negative")
_LOSS = ("loss", "scale", "margin")


class Embedding(Task):
    name, task_type, auto = "embedding", "FEATURE_EXTRACTION", AutoModelForSentenceEmbedding
    options = frozenset({"text_pair_column", "negative_column", "label_column", *_LOSS, *FORM})
    length = 128
    is_of_pairs = is_of_a_body = is_measured_otherwise = True
    command = "embed"

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        """The columns of the texts and the score. Raises ValueError where none is named, and none has a usual name."""
        usual.alike(chosen, first, path)

    def learns_from(self, first: Example, columns: Mapping[str, Any]) -> bool:
        one, other, _, score = usual_texts([*first]) or (None,) * 4
        more = not columns.get("label") and score and [one, other] == [columns.get("text"), columns.get("text_pair")]
        named = (columns.get(name) for name in (*_TEXTS, "label"))
        return not more and all(column in first for column in named if column)

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        return read_examples(
            path, columns.text, columns.label or None, 1, pair_column=columns.text_pair,
            negative_column=columns.negative, **how,
        )  # fmt: skip

    def encode(self, example: Example, tokenizer: Tokenizer, length: int | None) -> list[Example]:
        texts = [example[name] for name in _TEXTS if name in example]
        return [encode_alike(tokenizer, texts, example.get("label"), length)]

    def settings(self, options: Any) -> dict[str, Any]:
        """Raises ValueError for a scale or a margin that is not above 0, and for one that the loss has not."""
        chosen = {name: value for name in (*_LOSS, *FORM) if (value := getattr(options, name)) is not None}
        for name, losses in (("scale", (RANKING, COSENT)), ("margin", (TRIPLET,))):
            if name in chosen and not 0 < chosen[name] < math.inf:
                raise ValueError(f"--{name} must be above 0; got {chosen[name]}")
            if name in chosen and chosen.get("loss", losses[0] if name == "scale" else "") not in losses:
                raise ValueError(f"--{name} needs --loss {' or '.join(losses)}")
        return chosen

    def fields(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: settings[name] for name in FORM if name in settings}

    def trainer(
        self, model: Any, args: TrainingArguments, train: Any = None, dev: Any = None, tokenizer: Any = None,
        classes: Classes | None = None, settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> Trainer:  # fmt: skip
        chosen = {name: settings[name] for name in _LOSS if name in settings}
        return EmbeddingTrainer(model, args, train, dev, tokenizer, **chosen)

    def figures(self, metrics: Mapping[str, float]) -> dict[str, str]:
        names = ("spearman", "pearson", "accuracy")
        return {name: f"{metrics[f'eval_{name}']:.4f}" for name in names if f"eval_{name}" in metrics}

    def shown(self, encoded: Example) -> list[Example]:
        found, start = [], 0
        for length in encoded["lengths"]:
            found.append({"input_ids": encoded["input_ids"][start : start + length]})
            start += length
        return found
