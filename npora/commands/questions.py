"""The task of questions whose answer stands in a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from npora.commands import figures, usual
from npora.commands.task import Classes, Columns, Task
from npora.data import Dataset, Tokenizer, encode_question, read_questions
from npora.data.answers import answers_of
from npora.data.collate import IGNORED
from npora.data.dataset import Example
from npora.models import AutoModelForQuestionAnswering
from npora.nn.module import Array
from npora.train import Trainer, TrainingArguments

_NONE = "handle_impossible_answer"  # transformers' name: whether a text need not hold an answer


class QuestionAnswering(Task):
    name, task_type, auto = "question-answering", "QUESTION_ANS", AutoModelForQuestionAnswering
    options = frozenset({"text_pair_column", "label_column"})
    command = "predict"
    has_cache = False
    length = 384

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        usual.questions(chosen, path, list(first))

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        return read_questions(path, columns.text, columns.text_pair or "context", columns.label, **how)

    def encode(self, example: Example, tokenizer: Tokenizer, length: int | None) -> list[Example]:
        return encode_question(tokenizer, example, length)

    def has_windows(self, names: Iterable[str]) -> bool:
        return True

    def typed(self, line: str, number: int, is_pair: bool = False) -> Example:
        question, _, text = line.partition("\t")
        if not question.strip() or not text.strip():
            raise ValueError(
                f"sentence {number}: a question and the text that is asked with a tab between them were expected; got "
                f"{line!r}"
            )
        return {"text": question, "text_pair": text}

    def said(self, logits: Array, encoded: Sequence[Example], config: Any) -> Iterator[str]:
        for _, answer, probability in answers_of(encoded, logits, bool(config.kept.get(_NONE))):
            yield f"{' '.join(answer.split())}\t{probability:.4f}"

    def shown(self, encoded: Example) -> list[Example]:
        """The window, of which the answer is learnt, or the token that stands for none."""
        ids, (first, last) = encoded["input_ids"], encoded["label"]
        return [{"input_ids": ids, "labels": [t if first <= i <= last else IGNORED for i, t in enumerate(ids)]}]

    def settings_of(self, examples: Dataset) -> dict[str, Any]:
        """Whether the text of one of the questions holds no answer."""
        return {_NONE: any(not answers for answers in examples["answers"])}

    def tell(self, config: Any, settings: Mapping[str, Any]) -> None:
        if settings.get(_NONE):
            config.kept[_NONE] = True

    def trainer(
        self, model: Any, args: TrainingArguments, train: Any = None, dev: Any = None, tokenizer: Any = None,
        classes: Classes | None = None, settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> Trainer:  # fmt: skip
        may_be_none = bool(settings.get(_NONE) or model.config.kept.get(_NONE))
        measured = None if dev is None else figures.of_answers(dev, may_be_none)
        return Trainer(model, args, train, dev, tokenizer, measured)

    def figures(self, metrics: Mapping[str, float]) -> dict[str, str]:
        return {"exact match": f"{metrics['eval_exact_match']:.4f}", "f1": f"{metrics['eval_f1']:.4f}"}
