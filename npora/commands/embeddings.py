"""The task of embeddings: texts that are alike are to lie side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from npora.commands.messages import say
from npora.commands.task import Classes, Columns, Task
from npora.data import Dataset, Tokenizer, read_examples
from npora.data.alike import encode_alike, usual_texts
from npora.data.dataset import Example
from npora.data.readers import Told
from npora.data.tables import separator_hint, shortened_names
from npora.files.refusal import Refuse, raise_it
from npora.models import AutoModelForSentenceEmbedding
from npora.train import EmbeddingTrainer, Trainer, TrainingArguments
from npora.train.embeddings import COSENT, COSINE

_TEXTS = ("text", "text_pair", "negative")
_FORM = ("pooling", "normalize")
_LOSS = ("loss", "scale", "margin")


class Embedding(Task):
    name, task_type, auto = "embedding", "FEATURE_EXTRACTION", AutoModelForSentenceEmbedding
    options = frozenset({"text_pair_column", "negative_column", "label_column", *_LOSS, *_FORM})
    length = 128
    is_of_pairs = True
    command = "embed"

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        """Raises ValueError where no column is named, and none has a usual name."""
        _recognise(chosen, first, path)

    def read(
        self,
        path: str,
        columns: Columns,
        classes: Classes | None = None,
        refuse: Refuse = raise_it,
        progress: Told | None = None,
    ) -> Dataset:
        return read_examples(
            path, columns.text, columns.label or None, 1, pair_column=columns.text_pair,
            negative_column=columns.negative, refuse=refuse, progress=progress,
        )  # fmt: skip

    def encode(self, example: Example, tokenizer: Tokenizer, length: int | None) -> list[Example]:
        texts = [example[name] for name in _TEXTS if name in example]
        return [encode_alike(tokenizer, texts, example.get("label"), length)]

    def settings(self, options: Any) -> dict[str, Any]:
        """Raises ValueError for a scale or a margin that is not above 0, and for one that the loss has not."""
        chosen = {name: value for name in (*_LOSS, *_FORM) if (value := getattr(options, name)) is not None}
        for name, losses in (("scale", ("multiple-negatives-ranking", "cosent")), ("margin", ("triplet",))):
            if name in chosen and not 0 < chosen[name] < math.inf:
                raise ValueError(f"--{name} must be above 0; got {chosen[name]}")
            if name in chosen and chosen.get("loss", losses[0] if name == "scale" else "") not in losses:
                raise ValueError(f"--{name} needs --loss {' or '.join(losses)}")
        return chosen

    def fields(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: settings[name] for name in _FORM if name in settings}

    def trainer(
        self, model: Any, args: TrainingArguments, train: Any = None, dev: Any = None, tokenizer: Any = None,
        classes: Classes | None = None, settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> Trainer:  # fmt: skip
        chosen = {name: settings[name] for name in _LOSS if name in settings}
        if train is None and dev is not None and "loss" in chosen:  # a model is measured on other examples too
            if bool(dev[0]["is_scored"]) != (chosen["loss"] in (COSINE, COSENT)):
                del chosen["loss"]
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


def _recognise(chosen: dict[str, Any], first: Mapping[str, Any], path: str) -> None:
    """Fill in which columns hold the texts and the score, by the first example of the file.

    Raises
    ------
    ValueError: no column is named, and none has a usual name.
    """
    usual = usual_texts([*first])
    if chosen["text"] is None and chosen["text_pair"] is None:
        if usual is None and first:
            raise ValueError(
                f"{path} has the columns {shortened_names([*first])}{separator_hint([*first])}: name those of two "
                "texts that are alike with --text-column and --text-pair-column (and with --negative-column one that "
                "is not alike, with --label-column a score)"
            )
        names = dict(zip(("text", "text_pair", "negative", "label"), usual or (), strict=usual is not None))
        chosen.update({name: value for name, value in names.items() if chosen[name] is None})
        if chosen["text"] not in (None, "anchor"):
            score = f", how alike they are in {chosen['label']!r}" if chosen["label"] else ""
            say(f"{path}: the texts are in the columns {chosen['text']!r} and {chosen['text_pair']!r}{score}")
    elif None in (chosen["text"], chosen["text_pair"]):
        raise ValueError("--text-column and --text-pair-column name the columns of two texts: give both")
    chosen["label"] = chosen["label"] or ""  # no score
