"""What a model's `config.json` says: what all families share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from npora.files.kinds import called, is_of_kind
from npora.files.refusal import shortened
from npora.nn.functional import ACTIVATIONS
from npora.nn.readable import Readable

logger = logging.getLogger("npora")

CONFIG_NAME = "config.json"
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
# Of these npora computes one value alone in every family. What is said here is what to do about another.
_EVERYWHERE: Mapping[str, tuple[Any, str]] = {
    "quantization_config": (None, "npora computes with weights of floating point: take the checkpoint that was "
                            "quantized, or load this one with transformers, call model.dequantize() and save it"),
    "pruned_heads": ({}, "npora computes every head: save the model from transformers with its heads pruned away"),
    "per_layer_config": (None, "npora gives every layer the same config"),
}  # fmt: skip
_NAMED_APART = ("num_labels", "id2label", "label2id")  # their errors say more than that the kind is wrong
_PROBABILITIES = ("dropout", "dropout_prob", "dropout_rate", "pdrop")
_MOST_LAYERS = 10_000
_MOST_UNNAMED = 100_000  # classes that a file may ask for without naming them
_Config = TypeVar("_Config", bound="PretrainedConfig")


@dataclass(kw_only=True)
class PretrainedConfig(Readable):
    """The fields of a `config.json` that decide what the model computes, with transformers' names and defaults.

    num_labels : how many classes; those that `id2label` names, else 2
    id2label : the classes' names, LABEL_0 and so on unless given; its keys are 0, 1, …
    label2id : the numbers of the names; id2label's unless given
    kept : what a file says besides. It changes nothing here, can be read as an attribute, and is written back

    A family states, as class attributes: `model_type`; `aliases`, other names that a file may use for a field; `fixed`,
    the fields of which it computes one value alone; `sizes`, the fields that are positive whole numbers; `positive`,
    other numbers above 0; `multiples`, sizes and what divides them; `activations`, the fields that name one;
    `takes_any_length`, where positions are not learnt one by one, so that a text may be longer than those that the
    model was trained on.

    Raises
    ------
    ValueError: a field that is not as these say, or of another kind than its own; a feature that is not implemented;
    classes whose numbers have a gap, or are not as many as num_labels.
    """

    model_type: ClassVar[str]
    aliases: ClassVar[Mapping[str, str]] = {}
    fixed: ClassVar[Mapping[str, Any]] = {}
    sizes: ClassVar[tuple[str, ...]] = ()
    positive: ClassVar[tuple[str, ...]] = ()
    multiples: ClassVar[Mapping[str, str]] = {}
    activations: ClassVar[tuple[str, ...]] = ("hidden_act",)
    takes_any_length: ClassVar[bool] = False
    _unsaid: ClassVar[Mapping[str, Any]] = {}  # on a config of a file: what it left out, and the values that this means

    num_labels: int = None  # type: ignore[assignment]  # a whole number once constructed
    id2label: dict[int, str] = None  # type: ignore[assignment]  # a mapping once constructed
    label2id: dict[str, int] = None  # type: ignore[assignment]
    problem_type: str | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    initializer_range: float = 0.02
    kept: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_kinds({f.name: getattr(self, f.name) for f in fields(self)})
        self._name_the_classes()
        for name in (*self.sizes, "num_labels"):
            value = getattr(self, name)
            if type(value) is not int or value < (0 if "layer" in name else 1):
                raise ValueError(f"config: {name} must be a positive whole number; got {shortened(value)}")
        for name in self.positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"config: {name} must be a positive number; got {getattr(self, name)!r}")
        for whole, part in self.multiples.items():
            self._divides(part, whole)
        for name in self.activations:
            activation = getattr(self, name, None)
            if activation is not None and activation not in ACTIVATIONS:
                raise ValueError(f"config: {name} {activation!r} is not one of {', '.join(sorted(ACTIVATIONS))}")
        said = {**vars(self), **self.kept}
        for name, only in self.fixed.items():
            if said.get(name, only) != only:
                raise ValueError(f"config: {name}={_short(said[name])} is not supported; only {only!r} is")

    @classmethod
    def _check_kinds(cls, values: Mapping[str, Any]) -> None:
        """Raise where a value is of another kind than its field, a probability does not lie in [0, 1], or a number of
        layers is one that no model has: there is work for each, before the weights say how many they are."""
        for f in fields(cls):
            value, kind = values.get(f.name), str(f.type)
            if f.name in _NAMED_APART or f.name not in values or (value is None and f.default is None):
                continue
            if not is_of_kind(value, kind):
                expected = "a positive whole number" if f.name in cls.sizes else called(kind)
                raise ValueError(f"config: {f.name} must be {expected}; got {shortened(value)}")
            if kind.startswith("int") and "layers" in f.name and value is not None and value > _MOST_LAYERS:
                raise ValueError(f"config: {f.name} is {value:,}; at most {_MOST_LAYERS:,} are made")
            if f.name.endswith(_PROBABILITIES) and value is not None and not 0 <= value <= 1:
                raise ValueError(f"config: {f.name} must lie in [0, 1]; got {value!r}")

    def _name_the_classes(self) -> None:
        if self.num_labels is None:
            self.num_labels = len(self.id2label) if self.id2label else 2
        if type(self.num_labels) is not int or self.num_labels < 1:
            raise ValueError(f"config: num_labels must be a positive whole number; got {shortened(self.num_labels)}")
        if not self.id2label and self.num_labels > _MOST_UNNAMED:
            raise ValueError(
                f"config: num_labels is {shortened(self.num_labels)}; more than {_MOST_UNNAMED:,} classes need id2label"
            )
        if not self.id2label:
            self.id2label = {i: f"LABEL_{i}" for i in range(self.num_labels)}
        try:
            self.id2label = {int(key): self.id2label[key] for key in sorted(self.id2label, key=int)}
            set(self.id2label.values())
        except (TypeError, ValueError, AttributeError):
            raise ValueError(f"config: id2label must map 0, 1, … to names; got {shortened(self.id2label)}") from None
        if len(self.id2label) != self.num_labels or list(self.id2label) != list(range(self.num_labels)):
            numbered = ", ".join(map(str, [*self.id2label][:20]))
            raise ValueError(
                f"config: id2label names {len(self.id2label)} classes, numbered {numbered}; "
                f"expected num_labels={self.num_labels} of them, numbered from 0"
            )
        try:
            self.label2id = {name: int(i) for name, i in (self.label2id or {}).items()}
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise ValueError(f"config: label2id must map names to numbers; got {shortened(self.label2id)}") from None
        self.label2id = self.label2id or {name: i for i, name in self.id2label.items()}
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(
                f"config: problem_type must be one of {', '.join(PROBLEM_TYPES)}; got {shortened(self.problem_type)}"
            )
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ValueError(
                "config: problem_type 'single_label_classification' needs at least two classes, and num_labels is "
                "1: for numbers to be predicted say 'regression'"
            )

    @property
    def named_length(self) -> int | None:
        """The most tokens of a text that the file names."""
        names = ("max_position_embeddings", "n_positions")
        named = next((int(value) for name in names if (value := getattr(self, name, None)) is not None), None)
        return None if named is None else named - self.first_position

    @property
    def most_tokens(self) -> int | None:
        """The most tokens that the model can take: those for which it learnt a position. None where positions are
        relative: such a model names the tokens that it was trained with, and takes more."""
        return None if self.takes_any_length else self.named_length

    @property
    def first_position(self) -> int:
        """The position of a sequence's first token: a place for a family that does not count from 0."""
        return 0

    def __getattr__(self, name: str) -> Any:
        """A field's other name, or what the file says besides."""
        kept: Mapping[str, Any] = self.__dict__.get("kept", {})
        if name in self.aliases:
            return getattr(self, self.aliases[name])
        if name in kept:
            return kept[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def _divides(self, part: str, whole: str) -> None:
        """Raise unless the one size is a multiple of the other."""
        if getattr(self, whole) % getattr(self, part):
            raise ValueError(
                f"config: {whole} {getattr(self, whole)} is not a multiple of {part} {getattr(self, part)}"
            )

    @classmethod
    def knows(cls, name: str) -> bool:
        """Whether this is a field of the family's, by any of its names."""
        return name != "kept" and (
            name in {f.name for f in fields(cls)} or name in cls.aliases or name in cls.fixed or name in _EVERYWHERE
        )

    @classmethod
    def plain(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of a `config.json` with all that is said of a field under its name: a place for a family whose files
        fold some of them into one. What is plain already stays."""
        return dict(values)

    @classmethod
    def from_dict(cls: type[_Config], values: Mapping[str, Any]) -> _Config:
        """A config from the keys of a `config.json`; those that change nothing here are `kept`.

        Raises
        ------
        ValueError: as the class says; a field that stands there under two names with two values.
        """
        values = cls.plain(values)
        for name, (expected, remedy) in _EVERYWHERE.items():
            if values.get(name) and values[name] != expected:
                raise ValueError(f"config: {name}={_short(values[name])} is not supported: {remedy}")
        if values.get("model_type", cls.model_type) != cls.model_type:
            logger.warning("config.json is of a %s, and is read as that of a %s", values["model_type"], cls.model_type)
        if values.get("auto_map"):
            logger.warning(
                "config.json names code of the checkpoint's own (auto_map): npora runs none, and computes a plain %s",
                cls.model_type,
            )  # fmt: skip
        known = {f.name for f in fields(cls)} - {"kept"}
        chosen: dict[str, Any] = {}
        for key, value in values.items():
            name = cls.aliases.get(key, key)
            if name in known and chosen.setdefault(name, value) != value:
                raise ValueError(
                    f"config: {name} is {shortened(chosen[name])}, and {shortened(value)} under another of its names"
                )
        cls._check_kinds(chosen)
        kept = {key: v for key, v in values.items() if cls.aliases.get(key, key) not in known and key != "model_type"}
        config = cls(**chosen, kept=kept)
        config._unsaid = {  # type: ignore[misc]
            name: getattr(config, name) for name in known - chosen.keys() - {"id2label", "label2id"}
        }
        return config

    def to_dict(self) -> dict[str, Any]:
        """The keys of a `config.json` that transformers reads back, and what the file said besides. What it left out,
        and nobody has changed since, stays out.

        Raises
        ------
        ValueError: an `id2label` that was assigned since, of another size than num_labels.
        """
        self._name_the_classes()
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values = {k: v for k, v in values.items() if k not in self._unsaid or self._unsaid[k] != v}
        values.pop("num_labels", None)  # transformers counts id2label
        values["id2label"] = {str(i): name for i, name in self.id2label.items()}
        return {"model_type": self.model_type, **values.pop("kept"), **values}


def _short(value: Any) -> str:
    return shortened(value, 200)
