"""The model that --model and --adapter name, with what finetune noted of it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from npora.commands.forms import asked_form
from npora.commands.messages import say
from npora.commands.tasks import TASKS, Classes, Task
from npora.data import Tokenizer
from npora.files import resolve
from npora.files.kinds import called, is_of_kind
from npora.files.refusal import shortened
from npora.lora import PeftConfig, PeftModel, adapter_directory, read_record
from npora.models.config import CONFIG_NAME
from npora.models.folder import ADAPTER_CONFIG
from npora.models.generate.generation_config import text_end
from npora.models.quantized import quantize_for
from npora.models.source import read_config
from npora.stored import QUANTIZED

_NOTES = {
    "columns": "dict[str, Any] | None", "max_length": "int | None", "end_token_ids": "list[int] | None",
    "chat_template": "str | dict[str, str] | list[Any] | None", "settings": "dict[str, Any] | None",
}  # fmt: skip


@dataclass
class Loaded:
    """A model ready to be used, its task, the notes of its adapter, and the tokenizer, read when it is asked for."""

    task: Task
    model: Any
    name: str  # of the base
    notes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        tokenizer: Tokenizer = self.task.preparer(self.name, self.model)
        if "chat_template" in self.notes:
            tokenizer.chat_template = self.notes["chat_template"]
        return tokenizer

    @property
    def config(self) -> Any:
        return self.model.config

    def asked(self, name: str | None) -> Task:
        """The task of this name, or the model's own unless one is named. Raises ValueError where it needs another kind
        of model."""
        task = self.task if name is None else TASKS[name]
        if task.auto is not self.task.auto:
            raise ValueError(f"--task {name}: {self.name} is loaded for {self.task.name}")
        return task


def add_model(parser: argparse.ArgumentParser, adapter_required: bool = False) -> None:
    add = parser.add_argument
    add("--model", metavar="DIR", help="the model, or the base that the adapter was trained on: a directory, or "
        "org/name or org/name@revision on the hub (default: the one that the adapter names)")  # fmt: skip
    add("--adapter", metavar="DIR", required=adapter_required,
        help="an adapter, the --output of finetune, or org/name on the hub")  # fmt: skip
    add_quantize(parser, "the adapter's base is as it was in training")


def add_quantize(parser: argparse.ArgumentParser, unless: str) -> None:
    parser.add_argument("--quantize", choices=QUANTIZED, help="keep the base's matrices in eight bits a number or in "
        f"four, 0.27 or 0.13 of float32's memory (default: {unless})")  # fmt: skip


def load(
    options: argparse.Namespace, tasks: Sequence[str], dtype: str | None = None, named: str | None = None
) -> Loaded:
    """Load what `--model` and `--adapter` name.

    tasks : the names of those that the command can do, the first ones preferred where a model may be for several
    dtype : of the base, as of from_pretrained
    named : the task that a model without an adapter is loaded for, where the user says it

    Raises
    ------
    ValueError: neither is given; an adapter where a model belongs, or the other way round; a task that the command
    cannot do; a head that nothing has trained.
    """
    if options.model is None and options.adapter is None:
        raise ValueError("pass --model, or --adapter, or both")
    if options.adapter is None:
        folder, name = base_folder(options.model), options.model
        task = _task_of_model(read_config(folder), tasks) if named is None else TASKS[named]
        fields = task.fields(asked_form(options))
        model = task.auto.from_pretrained(name, dtype=dtype, quantize=options.quantize, **fields)
        _refuse_untrained(model, name)
        return Loaded(task, model, name)
    directory = adapter_directory(options.adapter)
    config, record = PeftConfig.from_pretrained(directory), read_record(directory)
    name = options.model or _base_of(config, directory)
    base_folder(name)
    notes = record["notes"]
    for note, kind in _NOTES.items():
        if not is_of_kind(notes.get(note), kind):
            raise ValueError(f"{directory}: the note {note} must be {called(kind)}; got {shortened(notes[note])}")
    task = _task_of_adapter(config, notes, directory, tasks)
    classes: dict[str, Any] = {}
    if task.has_classes and record["num_labels"] is not None:
        classes = {**Classes(record["num_labels"], record["id2label"]).fields, "ignore_mismatched_sizes": True}
        if record["problem_type"] is not None:
            classes["problem_type"] = record["problem_type"]
    settings = notes.get("settings") or {}
    classes |= task.fields({**settings, **asked_form(options)})
    quantize = options.quantize or quantize_for(record["base_forms"], name)
    base = task.auto.from_pretrained(name, dtype=dtype, quantize=quantize, **classes)
    task.tell(base.config, settings)
    model = PeftModel.from_pretrained(base, directory)
    _refuse_untrained(model, name)
    return Loaded(task, model, name, notes)


def agree_on_the_end(task: Task, model: Any, tokenizer: Tokenizer) -> None:
    """Let a text that is learnt end with a token at which `generate` stops, whatever the tokenizer's own is.

    Raises
    ------
    ValueError: no token ends a text.
    """
    if task.continues and tokenizer.eos_token_id != (end := text_end(model, tokenizer)):
        own, tokenizer.eos_token_id = tokenizer.eos_token, end
        say(f"a text ends with {tokenizer.eos_token!r}, at which this model stops; its tokenizer names {own!r}")


def base_folder(name: str) -> str:
    """The directory of a model. Raises ValueError for an adapter."""
    folder = resolve(name)
    inner = os.path.join(folder, "adapter")
    for path in (folder, inner):
        if os.path.isfile(os.path.join(path, ADAPTER_CONFIG)) and not os.path.isfile(os.path.join(folder, CONFIG_NAME)):
            base = PeftConfig.from_pretrained(path).base_model_name_or_path
            raise ValueError(f"--model {name} is an adapter: pass it as --adapter, and as --model its base, {base}")
    return folder


def _base_of(config: PeftConfig, directory: str) -> str:
    name = config.base_model_name_or_path
    if name is None:
        raise ValueError(f"{directory} does not say which model it was trained on: pass --model")
    return f"{name}@{config.revision}" if config.revision and not os.path.isdir(name) else name


def _task_of_adapter(config: PeftConfig, notes: Mapping[str, Any], directory: str, tasks: Sequence[str]) -> Task:
    named = (task for task in TASKS.values() if task.task_type is not None)
    found = next((task for task in named if config.task_type == task.task_type), None)
    found = TASKS.get(str(notes.get("task")), found)
    if found is None:
        if config.task_type is None and len(tasks) == 1:
            return TASKS[tasks[0]]
        known = ", ".join(dict.fromkeys(task.task_type for task in TASKS.values() if task.task_type is not None))
        raise ValueError(f"{directory} is for the task {config.task_type}; this command knows {known}")
    return _possible(found, directory, tasks)


def _task_of_model(config: Mapping[str, Any], tasks: Sequence[str]) -> Task:
    """By the architecture that config.json names, else the first of the tasks whose models there are of this type."""
    named = [str(name) for name in config.get("architectures") or ()]
    kind = str(config.get("model_type"))
    able = [task for task in TASKS.values() if kind in task.auto.classes]
    for task in able:
        if task.auto.classes[kind].__name__ in named and (not task.is_of_a_body or task.name in tasks):
            return _possible(task, named[0], tasks)
    able = [task for task in able if task.name in tasks]
    if not able:
        raise ValueError(f"a model of the type {kind!r} is not for {' or '.join(tasks)}")
    return able[0]


def _possible(task: Task, what: str, tasks: Sequence[str]) -> Task:
    if task.name not in tasks and task.used_as in tasks:
        return TASKS[str(task.used_as)]
    if task.name not in tasks:
        raise ValueError(f"{what} is for {task.name}: npora {task.command} is the command for that")
    return task


def _refuse_untrained(model: Any, name: str) -> None:
    base, brought = model, set()
    if isinstance(model, PeftModel):
        base = model.get_base_model()
        brought = {name.removeprefix("base_model.model.") for name in model.adapter_parameters(model.active_adapter)}
    lacking = [path for path in base.newly_initialized if path not in brought]
    if lacking:
        raise ValueError(
            f"{name} has no {', '.join(lacking)}, and nothing has trained them: what the model says would be random. "
            "Train them with npora finetune, and pass its --output as --adapter"
        )
