"""What each --task reads, learns and measures: one table, which finetune, evaluate, predict and merge share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from npora.commands import figures, printed, usual
from npora.commands.embeddings import Embedding
from npora.commands.preferences import DPO, ORPO
from npora.commands.preparers import load_images
from npora.commands.questions import QuestionAnswering
from npora.commands.task import Classes as Classes
from npora.commands.task import Columns as Columns
from npora.commands.task import Task as Task
from npora.commands.task import is_plain as is_plain
from npora.data import (
    Dataset,
    Tokenizer,
    encode_chat,
    encode_choices,
    encode_completion,
    encode_text,
    encode_words,
    load_image,
    read_chats,
    read_choices,
    read_examples,
    read_images,
    read_tagged,
    read_texts,
    windows,
)
from npora.data.collate import IGNORED
from npora.data.columns import examples_of
from npora.data.dataset import Example
from npora.files.refusal import naming
from npora.models import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMultipleChoice,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from npora.nn.module import Array

LABELLED = frozenset({"label_smoothing_factor"})  # of a model's own loss


class Classification(Task):
    name = "classification"
    task_type: ClassVar[str | None] = "SEQ_CLS"
    auto: ClassVar[Any] = AutoModelForSequenceClassification
    options = frozenset({"label_column", "text_pair_column", "num_labels", "problem_type", "class_weights", *LABELLED})
    has_classes = True
    command = "predict"
    length: ClassVar[int | None] = 128

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        usual.texts_and_labels(chosen, self.name, path, list(first))

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        classes = classes or Classes(None)
        return read_examples(
            path, columns.text, columns.label, classes.num_labels, pair_column=columns.text_pair,
            label2id=classes.label2id, problem_type=classes.problem_type, **how,
        )  # fmt: skip

    def encode_all(self, examples: Sequence[Example], tokenizer: Tokenizer, length: int | None) -> list[list[Example]]:
        options: dict[str, Any] = {"truncation": length is not None, "max_length": length}
        if len(examples) == 1:  # so that an error is of the text, and of no place in a list
            encoded: list[Example] = [tokenizer(examples[0]["text"], examples[0].get("text_pair"), **options)]
        else:
            pairs = [example["text_pair"] for example in examples] if "text_pair" in examples[0] else None
            encoded = examples_of(tokenizer([example["text"] for example in examples], pairs, **options), "a tokenizer")
        encoded = [own if own["input_ids"] else _empty_text(tokenizer) for own in encoded]
        return [[{**e, "label": r["label"]} if "label" in r else e] for e, r in zip(encoded, examples, strict=True)]

    def typed(self, line: str, number: int, is_pair: bool = False) -> Example:
        if not is_pair:
            return {"text": line}
        first, tab, second = line.partition("\t")
        if not tab:
            raise ValueError(f"sentence {number}: two texts with a tab between them were expected; got {line!r}")
        return {"text": first, "text_pair": second}

    def said(self, logits: Array, encoded: Sequence[Example], config: Any) -> Iterator[str]:
        return printed.classes(logits, config)

    def metrics(self, classes: Classes | None) -> Any:
        problem = None if classes is None else classes.problem_type
        found = {"regression": figures.of_numbers, "multi_label_classification": figures.of_several_classes}
        return found.get(problem or "", figures.of_classes)

    def figures(self, metrics: Mapping[str, float]) -> dict[str, str]:
        return {name: f"{metrics[f'eval_{name}']:.4f}" for name in figures.NAMES if f"eval_{name}" in metrics}


class TokenClassification(Task):
    name, task_type, auto = "token-classification", "TOKEN_CLS", AutoModelForTokenClassification
    options = frozenset({"label_column", *LABELLED})
    has_classes = labels_words = True
    command = "predict"
    length = 512

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        usual.texts_and_labels(chosen, self.name, path, list(first))

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        known = None if classes is None else classes.label2id
        return read_tagged(path, columns.text, columns.label, known, **how)

    def encode_all(self, examples: Sequence[Example], tokenizer: Tokenizer, length: int | None) -> list[list[Example]]:
        return [[own] for own in encode_words(tokenizer, examples, length)]

    def typed(self, line: str, number: int, is_pair: bool = False) -> Example:
        """The words with a tag each, which is to be predicted: where it comes to stand is where the word's is."""
        if not (words := line.split()):
            raise ValueError(f"sentence {number} has no words")
        return {"words": words, "tags": [0] * len(words)}

    def said(self, logits: Array, encoded: Sequence[Example], config: Any) -> Iterator[str]:
        return printed.tags(logits, [example["labels"] for example in encoded], config)

    def metrics(self, classes: Classes | None) -> Any:
        return figures.of_words(dict((classes and classes.id2label) or {}))

    def figures(self, metrics: Mapping[str, float]) -> dict[str, str]:
        return {name: f"{metrics[f'eval_{name}']:.4f}" for name in ("accuracy", "f1")}


class ImageClassification(Classification):
    name, task_type, auto = "image-classification", None, AutoModelForImageClassification
    options = frozenset({"class_weights", *LABELLED})
    refused = frozenset({"text_column", "max_length", "cache"})
    length, unit, prepares_late = None, "images", True
    has_columns = False
    modules_to_save = ("classifier",)

    def preparer(self, name: str, model: Any) -> Any:
        return load_images(name, model)

    def finds(self, path: str) -> bool:
        return os.path.exists(path)

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        return read_images(path, None if classes is None else classes.label2id, **how)

    def encode_all(self, examples: Sequence[Example], tokenizer: Any, length: int | None) -> list[list[Example]]:
        pixels = [_pixels(example["image"], tokenizer) for example in examples]
        return [
            [{"pixel_values": own, **({"label": e["label"]} if "label" in e else {})}]
            for own, e in zip(pixels, examples, strict=True)
        ]

    def faults(self, examples: Dataset) -> Iterator[ValueError | None]:
        for image in examples["image"]:
            try:
                if isinstance(image, str):
                    load_image(image)
            except ValueError as error:
                yield error
            else:
                yield None

    def typed(self, line: str, number: int, is_pair: bool = False) -> Example:
        return {"image": line}

    def shown(self, encoded: Example) -> list[Example]:
        return []


class MultipleChoice(Task):
    name, task_type, auto = "multiple-choice", "SEQ_CLS", AutoModelForMultipleChoice
    options = frozenset({"label_column", "choices_column", *LABELLED})
    command = "predict"
    has_cache = False
    length = 256

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        usual.choices(chosen, path, list(first))

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        return read_choices(path, columns.text or None, columns.choices, columns.label, **how)

    def encode(self, example: Example, tokenizer: Tokenizer, length: int | None) -> list[Example]:
        return [encode_choices(tokenizer, example, length)]

    def typed(self, line: str, number: int, is_pair: bool = False) -> Example:
        question, *choices = line.split("\t")
        if len(choices) < 2:
            raise ValueError(
                f"sentence {number}: a question and its choices with tabs between them were expected; got {line!r}"
            )
        return {"text": question, "choices": choices}

    def said(self, logits: Array, encoded: Sequence[Example], config: Any) -> Iterator[str]:
        return printed.choices(logits)

    def batched_by(self, encoded: Example) -> int:
        """How many choices there are."""
        return len(encoded["input_ids"])

    def shown(self, encoded: Example) -> list[Example]:
        """The choices, of which all of the right one is learnt."""
        choices = enumerate(encoded["input_ids"])
        return [
            {"input_ids": ids, "labels": ids if number == encoded["label"] else [IGNORED] * len(ids)}
            for number, ids in choices
        ]

    def metrics(self, classes: Classes | None) -> Any:
        return figures.of_choices

    def figures(self, metrics: Mapping[str, float]) -> dict[str, str]:
        return {"accuracy": f"{metrics['eval_accuracy']:.4f}"}


class CausalLM(Task):
    name, task_type, auto = "causal-lm", "CAUSAL_LM", AutoModelForCausalLM
    options = frozenset({"prompt_column", "sample_by", "chat_template_path", *LABELLED})
    writes = continues = True

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        usual.conversations(chosen, first, path)

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        if columns.conversational:
            return read_chats(path, columns.text, columns.prompt, **how)
        sample_by = columns.sample_by if is_plain(path) else "line"  # other files have examples of their own
        return read_texts(path, columns.text, columns.prompt, sample_by, **how)

    def encode(self, example: Example, tokenizer: Tokenizer, length: int | None) -> list[Example]:
        if "messages" in example:
            first, variables = example["first"], example["variables"]
            return [encode_chat(tokenizer, example["messages"], length, first=first, **variables)]
        if "prompt" in example:
            return [encode_completion(tokenizer, example["prompt"], example["text"], length)]
        whole = encode_text(tokenizer, example["text"])
        return [whole] if length is None else windows(whole, length)

    def has_windows(self, names: Iterable[str]) -> bool:
        return not {"prompt", "messages"} & {*names}

    def is_idle(self, parts: Sequence[Example]) -> bool:
        # The first token has none before it that could predict it.
        return all(label == IGNORED for part in parts for label in part["labels"][1:])


class Seq2SeqLM(Task):
    name, task_type, auto = "seq2seq-lm", "SEQ_2_SEQ_LM", AutoModelForSeq2SeqLM
    options = frozenset({"prompt_column", *LABELLED})
    writes = True
    length = 512

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        chosen["prompt"] = chosen["prompt"] or "prompt"

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        return read_texts(path, columns.text, columns.prompt or "prompt", **how)

    def encode_all(self, examples: Sequence[Example], tokenizer: Tokenizer, length: int | None) -> list[list[Example]]:
        options: dict[str, Any] = {"truncation": length is not None, "max_length": length}
        prompts, texts = ([example[name] for example in examples] for name in ("prompt", "text"))
        return [[example] for example in examples_of(tokenizer(prompts, text_target=texts, **options), "a tokenizer")]


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Classification(),
        CausalLM(),
        Seq2SeqLM(),
        TokenClassification(),
        MultipleChoice(),
        QuestionAnswering(),
        ImageClassification(),
        DPO(),
        ORPO(),
        Embedding(),
    )
}


def _pixels(image: Any, processor: Any) -> Any:
    """What the model reads of an array, or of a file, which an error names."""
    if isinstance(image, np.ndarray):
        return processor([image])[0]
    loaded = load_image(image)
    with naming(image):
        return processor([loaded])[0]


def _empty_text(tokenizer: Tokenizer) -> Example:
    """A text without words, from a tokenizer that adds nothing to a text: the one token with which texts begin or end.

    Raises
    ------
    ValueError: the tokenizer has neither.
    """
    for number in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if number is not None:
            return {"input_ids": [number], "attention_mask": [1]}
    raise ValueError("a text is empty, and this tokenizer has no token that could stand for it")
