"""Say what is wrong in a file of examples: each example that finetune could not use, with its line, or else what it
could not learn from the examples as a whole.

The exit code is 0 where every example is good, and 1 where one is not.
"""

from __future__ import annotations

import argparse
from collections import Counter

from npora.commands.examples import add_columns, columns, refuse_idle_options
from npora.commands.labels import count_classes, settled
from npora.commands.tasks import TASKS, Classes
from npora.models.config import PROBLEM_TYPES
from npora.train.progress import Progress

_MOST_CLASSES = 20  # that are listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", default="classification", choices=list(TASKS), help="what the file is for")
    add_columns(parser)
    add("--num-labels", type=int, metavar="N", help="classification: number of classes, 1 for a regression")
    add("--problem-type", choices=PROBLEM_TYPES, help="classification: as for finetune")
    add("file", metavar="FILE", help="examples as for finetune")


def run(options: argparse.Namespace) -> int:
    task = TASKS[options.task]
    refuse_idle_options(options, task, options.file)
    bad = 0

    def told(error: ValueError) -> None:
        nonlocal bad
        bad += 1
        print(error)

    classes = settled(Classes(options.num_labels, problem_type=options.problem_type))
    progress = Progress(None, "example")
    found = columns(options, task, {}, options.file)
    examples = task.read(options.file, found, classes, refuse=told, progress=progress.step)
    for number, fault in enumerate(task.faults(examples)):
        if fault is not None:
            told(fault)
        progress.step(number)
    progress.close()
    summary = f"{options.file}: {len(examples):,} examples"
    if not bad and not len(examples):
        bad = 1
        summary += ", and so nothing to learn"
    elif not bad and task.has_classes and not task.labels_words and classes.problem_type != "regression":
        try:
            count_classes(options.file, examples, classes)
        except ValueError as error:
            told(error)
        if classes.problem_type is None:
            names = {number: name for name, number in (examples.label2id or {}).items()}
            counted = sorted(Counter(examples["label"]).items())
            shown = ", ".join(f"{names.get(label, label)}: {count:,}" for label, count in counted[:_MOST_CLASSES])
            summary += f" of {len(counted)} classes ({shown}{', …' if len(counted) > _MOST_CLASSES else ''})"
    print(f"{summary}; {bad:,} faults" if bad else f"{summary}, all good")
    return 1 if bad else 0
