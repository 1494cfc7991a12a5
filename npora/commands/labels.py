"""What the classes of a run are: the file's own, under the numbers that the checkpoint's head has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from npora.commands.examples import read
from npora.commands.tasks import TASKS, Classes, Columns, Task
from npora.data import Dataset

_SEVERAL = "multi_label_classification"


def learn_classes(
    path: str, columns: Columns, asked: Classes, config: Mapping[str, Any], task: Task = TASKS["classification"]
) -> tuple[Classes, Dataset]:
    """The classes of a training file, and its examples.

    asked : what the user says: their number, the problem; the file says the rest, and of words all
    config : the model's config.json, whose classes keep their numbers where the file's are among them by name

    Raises
    ------
    ValueError: as the reader; a file of one class, or of one tag; names in another number than asked for.
    """
    if task.labels_words:
        examples = read(task, path, columns)
        return tags_of(path, examples), examples
    asked = settled(asked)
    examples = read(task, path, columns, asked)
    if asked.problem_type == "regression":
        return asked, examples
    known = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    number = count_classes(path, examples, asked)
    if examples.label2id is None:
        return replace(asked, num_labels=number, id2label=known if len(known) == number else None), examples
    names = list(examples.label2id)
    if set(names) <= set(known.values()):
        classes = replace(asked, num_labels=len(known), id2label=known)
        return classes, read(task, path, columns, classes)
    return replace(asked, num_labels=number, id2label=dict(enumerate(names))), examples


def settled(asked: Classes) -> Classes:
    """Return what is asked for, where it is a regression as that of one number. Raises ValueError where it is nothing
    that can be learnt."""
    if asked.num_labels is not None and asked.num_labels < 1:
        raise ValueError(f"--num-labels must be at least 1; got {asked.num_labels}")
    if asked.num_labels != 1 and asked.problem_type != "regression":
        return asked
    if asked.num_labels not in (None, 1):
        raise ValueError(f"a regression learns one number an example; --num-labels is {asked.num_labels}")
    return Classes(1, problem_type="regression")


def count_classes(path: str, examples: Dataset, asked: Classes) -> int:
    """Return how many classes a file's examples have. Raises ValueError where there is one alone, where a number
    between theirs is missing, and where names are others in number than asked for."""
    if examples.label2id is None:
        return _count(examples, asked, path)
    names = list(examples.label2id)
    if asked.num_labels not in (None, len(names)):
        raise ValueError(f"{path} has {len(names)} classes ({', '.join(names)}), --num-labels {asked.num_labels}")
    if len(names) == 1 and asked.problem_type != _SEVERAL:
        raise _single(path, names[0])
    return len(names)


def _count(examples: Dataset, asked: Classes, path: str) -> int:
    """How many classes there are where labels are numbers."""
    if asked.problem_type == _SEVERAL:
        return len(examples[0]["label"])
    found = sorted(set(examples["label"]))
    number = asked.num_labels or found[-1] + 1
    missing = next((label for label in range(number) if label not in found), None)
    if len(found) == 1:
        raise _single(path, found[0])
    if asked.num_labels is None and missing is not None:
        remedy = f"pass --num-labels {number} if that is right"
        if "image" in examples.column_names:
            remedy = "number the classes without a gap, or give them names"
        raise ValueError(
            f"{path}: labels count from 0, and no example has the label {missing}, though one has {found[-1]}: {remedy}"
        )
    return int(number)


def _single(path: str, label: Any) -> ValueError:
    return ValueError(f"{path}: every example has the label {label}: there is nothing to tell apart")


def tags_of(path: str, examples: Dataset) -> Classes:
    """The tags of a training file. Raises ValueError where every word has the same."""
    found = sorted({tag for example in examples for tag in example["tags"]})
    if len(found) < 2:
        raise ValueError(f"{path}: every word has the same tag: there is nothing to tell apart")
    names = examples.label2id
    number = found[-1] + 1 if names is None else len(names)
    return Classes(number, None if names is None else {number: name for name, number in names.items()})
