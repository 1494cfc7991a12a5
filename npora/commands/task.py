"""What is to be known of a task: the columns of its files, its classes, how its examples are read and encoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from npora.commands.preparers import load_tokenizer
from npora.data import Dataset, Tokenizer
from npora.data.dataset import Example
from npora.metrics import perplexity
from npora.nn.module import Array
from npora.train import Trainer, TrainingArguments


@dataclass(frozen=True)
class Columns:
    """Which columns of a file hold what, and what a text is where a file has none."""

    text: str = "sentence"
    text_pair: str | None = None
    label: str = "label"
    prompt: str | None = None
    rejected: str = "rejected"
    negative: str | None = None
    sample_by: str = "line"
    choices: str | None = None
    conversational: bool = False  # the text is a list of messages, as may be what stands before it


@dataclass(frozen=True)
class Classes:
    """What a classifier tells apart, with transformers' names. In a regression they are numbers, one in general."""

    num_labels: int | None
    id2label: Mapping[int, str] | None = None
    problem_type: str | None = None

    @classmethod
    def of(cls, config: Any) -> Classes:
        """Those of a model."""
        regression = config.problem_type == "regression" or config.num_labels == 1
        if regression:
            return cls(config.num_labels, problem_type="regression")
        return cls(config.num_labels, config.id2label, config.problem_type)

    @property
    def label2id(self) -> dict[str, int] | None:
        return None if self.id2label is None else {name: number for number, name in self.id2label.items()}

    @property
    def fields(self) -> dict[str, Any]:
        """For a model's from_pretrained: what is known."""
        known = {**asdict(self), "label2id": self.label2id}
        return {name: value for name, value in known.items() if value is not None}


class Task:
    """A Task is what is learnt, with the files, the Trainer and the figures that this takes.

    name : as --task has it; task_type, as PEFT has it, None where it has none
    auto : the class whose from_pretrained makes its models
    options : those of the command line that it alone, or it among others, understands; refused, those that most do
    length : the most tokens of an example where nobody says it, and the model takes so many; None where it has none
    unit : of which its speed is so many
    has_classes : whether its models tell classes apart, and labels_words, whether of each word
    command : what asks such a model; used_as, the task as which its models are used
    is_of_pairs : whether the model itself is not given its examples
    writes : whether its models answer by texts
    continues : whether what its models write stands behind what they were asked, in one text
    has_columns : whether its files have columns, to be found by their names
    prepares_late : whether each example is prepared whenever it is asked for, and not kept
    is_of_a_body : whether its models have no head, and so are for other tasks too
    is_measured_otherwise : whether they are measured on files with other columns than those that they learnt from
    has_cache : whether its examples can be kept in files
    modules_to_save : what an adapter trains whole where PEFT has no task type for it
    """

    name: ClassVar[str]
    task_type: ClassVar[str | None]
    auto: ClassVar[Any]
    options: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[frozenset[str]] = frozenset()
    length: ClassVar[int | None] = 1024
    unit: ClassVar[str] = "tokens"
    has_classes: ClassVar[bool] = False
    labels_words: ClassVar[bool] = False
    command: ClassVar[str] = "generate"
    used_as: ClassVar[str | None] = None
    is_of_pairs: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    continues: ClassVar[bool] = False
    has_columns: ClassVar[bool] = True
    prepares_late: ClassVar[bool] = False
    is_of_a_body: ClassVar[bool] = False
    is_measured_otherwise: ClassVar[bool] = False
    has_cache: ClassVar[bool] = True
    modules_to_save: ClassVar[tuple[str, ...]] = ()

    def finds(self, path: str) -> bool:
        """Whether there is what its examples are read from."""
        return os.path.isfile(path)

    def preparer(self, name: str, model: Any) -> Any:
        """What its examples are encoded with: the tokenizer of a model, by its name, or what stands in its place."""
        return load_tokenizer(name, model)

    def faults(self, examples: Dataset) -> Iterator[ValueError | None]:
        """What is wrong with the files that each example names, or None."""
        return iter(())

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        """Add to the fields of Columns that somebody chose, None elsewhere, those that the file's first example tells.

        Raises
        ------
        ValueError: it tells nothing of one that is needed.
        """

    def learns_from(self, first: Example, columns: Mapping[str, Any]) -> bool:
        """Whether a file whose first example this is has these columns, by the fields of Columns, and none besides that
        says more. Asked where is_measured_otherwise."""
        return True

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        """The examples of a file, with the texts and the label. `how` is a reader's refuse and progress."""
        raise NotImplementedError

    def encode(self, example: Example, tokenizer: Tokenizer, length: int | None) -> list[Example]:
        """What the model is given for an example: one example, or several where a long text becomes windows."""
        return self.encode_all([example], tokenizer, length)[0]

    def encode_all(self, examples: Sequence[Example], tokenizer: Tokenizer, length: int | None) -> list[list[Example]]:
        """That of each example, in one call of the tokenizer where it takes many."""
        return [self.encode(example, tokenizer, length) for example in examples]

    def typed(self, line: str, number: int, is_pair: bool = False) -> Example:
        """What `npora predict` is asked by a line, the number-th of them.

        Raises
        ------
        ValueError: the line is not what the model is asked by.
        """
        raise NotImplementedError(f"nothing predicts by {self.name}")

    def said(self, logits: Array, encoded: Sequence[Example], config: Any) -> Iterator[str]:
        """What a model with this config says of each example, which is encoded: of all its windows together."""
        raise NotImplementedError(f"nothing predicts by {self.name}")

    def has_windows(self, names: Iterable[str]) -> bool:
        """Whether an example with these columns may become several: a long text windows."""
        return False

    def batched_by(self, encoded: Example) -> int:
        """Of examples that a batch can hold together the same number."""
        return 0

    def is_idle(self, parts: Sequence[Example]) -> bool:
        """Whether nothing is learnt of an example, as it is encoded."""
        return False

    def metrics(self, classes: Classes | None) -> Any:
        """compute_metrics for a Trainer."""
        return None

    def settings(self, options: Any) -> dict[str, Any]:
        """What the options say of the loss; it is noted with the adapter."""
        return {}

    def settings_of(self, examples: Dataset) -> dict[str, Any]:
        """What a file's examples say of how the model is to be used; of those that it learns it is noted too."""
        return {}

    def tell(self, config: Any, settings: Mapping[str, Any]) -> None:
        """Let a model's config say of the settings what holds of the model without its adapter too, once merged."""

    def fields(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What of the settings is the model's, for its from_pretrained."""
        return {}

    def trainer(
        self, model: Any, args: TrainingArguments, train: Any = None, dev: Any = None, tokenizer: Any = None,
        classes: Classes | None = None, settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> Trainer:  # fmt: skip
        """A Trainer of examples as `encode` makes them, by whichever loss is the task's."""
        return Trainer(model, args, train, dev, tokenizer, self.metrics(classes))

    def shown(self, encoded: Example) -> list[Example]:
        """An encoded example as texts to be looked at, one beside the other; none of an image."""
        return [encoded]

    def figures(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """What to say of a Trainer's metrics beside the loss."""
        return {"perplexity": f"{perplexity(metrics['eval_loss']):.4f}"}


def is_plain(path: str) -> bool:
    """Whether a file has lines and no columns."""
    return path.lower().removesuffix(".gz").endswith(".txt")
