"""What every method's config shares: PEFT's fields for where an adapter goes, and its way to and from a file."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from npora.files import read_json, write_json
from npora.files.kinds import called, is_of_kind
from npora.files.refusal import naming, shortened
from npora.lora.folder import CONFIG_NAME, adapter_directory
from npora.lora.names import TaskType, plain
from npora.lora.pattern import is_plain
from npora.lora.values import check_values, refuse_unsupported
from npora.nn.readable import Readable

logger = logging.getLogger("npora")

# Keys of the program that wrote the file: how PEFT runs, and when its first versions merged.
_OF_PROGRAMS = ("runtime_config", "merge_weights")
_Config = TypeVar("_Config", bound="PeftConfig")


@dataclass(kw_only=True)
class PeftConfig(Readable):
    """A config says what an adapter is on. Each method's config inherits from this one, and has PEFT's name.

    target_modules : names, each of a module or of its last path components, in a list, tuple or set; a string that is
        one such name, or a regular expression for the whole path; "all-linear"; None: the model's own default
    exclude_modules : taken out again, same forms
    modules_to_save : modules trained as a whole copy and saved with the adapter; a classification task adds its head
    task_type : PEFT's name of the task, as of TaskType
    base_model_name_or_path, revision, auto_mapping, peft_version : what is written of where it came from
    inference_mode : whether the adapter stays frozen when it is active

    The other fields are the method's, under PEFT's names and with its defaults, and mean the same in every method:

    r, …alpha, …dropout, bias, a field that is a bool or a Literal : their values are checked (`values.py`)
    layers_to_transform, layers_pattern : which layers; the method need not look at them
    bias : which of the base's biases train; as little
    fan_in_fan_out : written as PEFT does, True where a target is a Conv1D; as little
    rank_pattern, alpha_pattern : for the method to read, by `by_pattern(config.rank_pattern, path, config.r)`
    …dropout : for the method to keep, as its `dropout_p`
    any field of the type Unsupported : refused by name unless it is idle

    Raises
    ------
    ValueError: a value that makes no sense, or a field of PEFT's that npora does not support, by its name.
    TypeError: a field that there is not, with the name that was meant.
    """

    kinds: ClassVar[dict[str, type[PeftConfig]]] = {}  # each method's class, by its peft_type
    meaning: ClassVar[tuple[str, ...]] = ()  # the fields that decide what the tensors mean
    found: ClassVar[tuple[str, ...]] = ()  # those of them that a training finds
    beginning: ClassVar[tuple[str, ...]] = ()  # those that say how they began, and nothing of an adapter that is loaded
    lacks: ClassVar[tuple[str, ...]] = ()  # the fields of this class that PEFT's of the method has not
    own: ClassVar[tuple[str, ...]] = ()  # the fields that PEFT's has not, which a file has where they say something
    meant: ClassVar[Mapping[str, str]] = {  # what a field is called elsewhere, or is taken to be called
        "targets": "target_modules", "lora_target": "target_modules", "task": "task_type",
    }  # fmt: skip

    usual: ClassVar[Mapping[str, Sequence[str]]] = {}  # PEFT's own default target_modules, by a model's model_type
    waits_for = ""  # of a new adapter: what is to be called before it is used

    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    task_type: str | None = None
    peft_type: str = ""
    base_model_name_or_path: str | None = None
    revision: str | None = None
    inference_mode: bool = False
    auto_mapping: dict[str, Any] | None = None
    peft_version: str | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if kind := vars(cls).get("peft_type"):
            PeftConfig.kinds[kind] = cls

    def __new__(cls, *args: Any, **values: Any) -> PeftConfig:
        known = [f.name for f in fields(cls) if f.name not in cls.lacks]
        for name, value in values.items():
            if name not in known and not (name in cls.lacks and value is None):
                near = [cls.meant[name]] if name in cls.meant else difflib.get_close_matches(name, known, n=3)
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise TypeError(f"{cls.__name__} has no field '{name}'{hint}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self._normalise()
        own = type(self).peft_type
        if self.peft_type != own:
            raise ValueError(
                f"peft_type {shortened(self.peft_type)} is not supported by {type(self).__name__}, whose own is "
                f"{own!r}; npora has {', '.join(self.kinds)}"
            )
        self.check_new()
        tasks = sorted(task.value for task in TaskType)
        if self.task_type is not None and self.task_type not in tasks:
            raise ValueError(f"task_type {shortened(self.task_type)} is not one of {', '.join(tasks)}")
        check_values(self)

    def complete(self, model: Any) -> None:
        """Fill in, for a new adapter, what None leaves to the model. Raises ValueError where it has no default."""
        if self.target_modules is None:
            kind = getattr(getattr(model, "config", None), "model_type", "")
            names: Sequence[str] = self.usual.get(kind, ()) or getattr(model, "default_target_modules", ())
            ends = {path.split(".", k)[-1] for path, _ in model.named_modules() for k in range(path.count(".") + 1)}
            self.target_modules = sorted(name for name in names if name in ends)
            if not self.target_modules:
                raise ValueError("this model has no default target_modules: name them in the config")

    def check_new(self) -> None:
        """Raise ValueError where a new adapter cannot be as this config says. One that is loaded may say more: how its
        tensors began, for one thing."""
        refuse_unsupported(self)

    def check_loaded(self, directory: str, is_trainable: bool) -> None:
        """Raise ValueError where an adapter that lies in this directory does not belong on the base's own weights."""

    def _normalise(self) -> None:
        for name in ("target_modules", "exclude_modules", "feedforward_modules"):
            value = getattr(self, name, None)
            if isinstance(value, str) and value.lower() != "all-linear" and is_plain(value):
                value = [value]  # a plain name is a list of one
            elif value is not None and not isinstance(value, str):
                value = _names(name, value)
            if hasattr(self, name):
                setattr(self, name, value)
        if isinstance(self.modules_to_save, str):
            self.modules_to_save = [self.modules_to_save]
        if self.modules_to_save is not None:
            self.modules_to_save = _names("modules_to_save", self.modules_to_save)  # PEFT's files may name one twice
        for name in ("task_type", "peft_type"):
            setattr(self, name, plain(getattr(self, name)))

    @classmethod
    def from_dict(cls: type[_Config], values: Mapping[str, Any], ignore: Collection[str] = ()) -> _Config:
        """Make a config from the keys of an adapter's `adapter_config.json`. Asked of PeftConfig itself, it is of the
        class that peft_type names.

        ignore : keys to pass over. Of those that npora does not know, one that is null, false or empty says nothing; a
            number or a string is passed over with a word in the log, since in PEFT it qualifies what another field
            switches on

        Raises
        ------
        ValueError: as the class itself; an unknown peft_type; an unknown key that may change what the adapter computes.
        """
        kind = values.get("peft_type", cls.peft_type)
        if cls is PeftConfig and (not isinstance(kind, str) or kind not in cls.kinds):
            raise ValueError(f"peft_type {shortened(kind)} is not supported; npora has {', '.join(cls.kinds)}")
        found: Any = cls.kinds[kind] if cls is PeftConfig else cls
        return found._from_dict(values, ignore)

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any], ignore: Collection[str]) -> PeftConfig:
        known = {f.name: f for f in fields(cls) if f.name not in cls.lacks}
        passed = {*known, *ignore, *_OF_PROGRAMS}
        unknown = {key: value for key, value in values.items() if key not in passed and value}
        if unsure := [
            key for key, value in unknown.items() if value is True or not isinstance(value, str | int | float)
        ]:
            raise ValueError(
                f"adapter_config.json: npora does not know the fields {', '.join(unsure)}, and cannot tell what they "
                "change: if they change nothing here, remove them, or load with "
                f"config={cls.__name__}.from_pretrained(…, ignore={unsure})"
            )
        if unknown:
            logger.warning("adapter_config.json: passed over, since npora does not know them: %s", ", ".join(unknown))
        chosen = {key: value for key, value in values.items() if key in known and key not in ignore}
        for key in [key for key, value in chosen.items() if value is None and known[key].default is not None]:
            del chosen[key]
        if isinstance(excluded := chosen.get("exclude_modules"), str) and is_plain(excluded):
            chosen["exclude_modules"] = f"(?:{excluded})"  # for PEFT it is an expression for whole paths, as any string
        beginning = {key: chosen.pop(key) for key in cls.beginning if key in chosen}
        config = cls(**chosen)
        for key, value in beginning.items():
            kind = str(known[key].type)  # what a way to begin is called may be new
            if kind == "float" and not is_of_kind(value, kind):
                raise ValueError(f"{key} must be {called(kind)}; got {shortened(value)}")
            setattr(config, key, value)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of PEFT's `adapter_config.json`, in a form that JSON can hold."""
        return {k: value for k, value in asdict(self).items() if k not in self.lacks and (value or k not in self.own)}

    @classmethod
    def from_pretrained(
        cls: type[_Config], name_or_path: str | os.PathLike[str], ignore: Collection[str] = (), **where: Any
    ) -> _Config:
        """Read the config of an adapter: a directory, an output of finetune, or a name on the hub.

        ignore : as of from_dict
        where : revision, cache_dir, local_files_only, subfolder

        Raises
        ------
        ValueError, as from_dict does; FileNotFoundError, as adapter_directory does.
        """
        path = os.path.join(adapter_directory(name_or_path, **where), CONFIG_NAME)
        values = read_json(path)
        if "peft_type" not in values:
            raise ValueError(f"{path} has no 'peft_type': it is not the config of an adapter")
        with naming(path):
            return cls.from_dict(values, ignore)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `adapter_config.json`. Patterns stay in their order, since the first that fits a layer counts."""
        values = {**self.to_dict(), "inference_mode": True}
        write_json(os.path.join(directory, CONFIG_NAME), dict(sorted(values.items())), sort_keys=False)


def _names(field_name: str, values: Any) -> list[str]:
    names = list(values) if isinstance(values, Iterable) and not isinstance(values, Mapping) else [values]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{field_name} holds names, which are strings; got {shortened(names)}")
    return sorted(set(names))
