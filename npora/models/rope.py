"""What a config says of rotary positions: the base of their frequencies, and how these are scaled for longer texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from npora.files.kinds import is_of_kind
from npora.files.refusal import shortened
from npora.models.config import PretrainedConfig, logger
from npora.nn import rotary
from npora.nn.module import Array

# Each way of scaling, and the least that its fields may be.
SCALINGS: Mapping[str, tuple[Callable[..., Array], Mapping[str, float]]] = {
    "default": (lambda omega: omega, {}),
    "linear": (rotary.linear, {"factor": 1}),
    "llama3": (
        rotary.llama3,
        {"factor": 1, "low_freq_factor": 0, "high_freq_factor": 0, "original_max_position_embeddings": 1},
    ),
}
_WIDEST = 16_384  # of a head: its frequencies are computed before the weights say how wide it is


@dataclass(kw_only=True)
class RotaryConfig(PretrainedConfig):
    """The fields of rotary positions. Newer files say the two that begin with rope_ in one, `rope_parameters`.

    rope_theta : the base θ of the frequencies
    rope_scaling : None, or the fields of "linear" or "llama3" in `npora.nn.rotary`, and which of them as "rope_type".
        Others are refused: "yarn", "longrope", and "dynamic", whose frequencies change with the longest sequence met
    """

    takes_any_length = True
    fixed: ClassVar[Mapping[str, Any]] = {"is_causal": True, "partial_rotary_factor": 1.0}

    head_dim: int = None  # type: ignore[assignment]  # a whole number once constructed
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None

    def _check_rotation(self) -> None:
        """Raise where a head has no pairs to be turned, or the frequencies are none. To be called once head_dim is
        there."""
        if type(self.head_dim) is not int or self.head_dim < 1 or self.head_dim % 2:
            raise ValueError(f"config: head_dim must be a positive even number, to be turned; got {self.head_dim!r}")
        if self.head_dim > _WIDEST:
            raise ValueError(f"config: head_dim is {self.head_dim:,}; at most {_WIDEST:,} is read")
        if self.rope_scaling is not None:
            theta, self.rope_scaling = unfolded("rope_scaling", self.rope_scaling)
            self.rope_theta = self.rope_theta if theta is None else theta
        if not is_at_least(self.rope_theta, 0) or not self.rope_theta:
            raise ValueError(f"config: rope_theta must be a positive number; got {self.rope_theta!r}")
        if self.rope_scaling is not None:
            self.check_scaling(self.rope_scaling)

    def check_scaling(self, scaling: dict[str, Any]) -> None:
        """Raise ValueError where a rope_scaling lacks a field, or says what cannot be."""
        _check(scaling, self.max_position_embeddings)

    def frequencies(self) -> Array:
        """ω, by which each pair of a head turns with each position.    →  [d/2]"""
        return scaled(rotary.frequencies(self.head_dim, self.rope_theta), self.rope_scaling)

    @property
    def rope_parameters(self) -> dict[str, Any]:
        """Both fields as newer files say them."""
        return {"rope_type": "default", "rope_theta": self.rope_theta, **(self.rope_scaling or {})}

    @classmethod
    def knows(cls, name: str) -> bool:
        return name == "rope_parameters" or super().knows(name)

    @classmethod
    def plain(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of rope_parameters and the older rope_scaling that counts which transformers takes, the older, and of two
        bases the one inside."""
        values = dict(values)
        newer = values.pop("rope_parameters", None)
        older = values.get("rope_scaling")
        if older or newer:
            said = ("rope_scaling", older) if older else ("rope_parameters", newer)
            theta, values["rope_scaling"] = unfolded(*said)
            values |= {} if theta is None else {"rope_theta": theta}
        return values

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        scaling = values.pop("rope_scaling", None)
        # Older versions of transformers read rope_scaling, newer ones both.
        older = {"rope_scaling": scaling} if scaling and scaling["rope_type"] != "default" else {}
        return {**values, **older, "rope_parameters": self.rope_parameters}


def scaled(omega: Array, scaling: Mapping[str, Any] | None) -> Array:
    """ω as a config scales it.    omega [d/2]"""
    if scaling is None:
        return omega
    scale, fields = SCALINGS[scaling["rope_type"]]
    return scale(omega, **{name: scaling[name] for name in fields})


def unfolded(name: str, rope: Any) -> tuple[Any, dict[str, Any] | None]:
    """(theta or None, rope_scaling) of what a file says under this name.

    Raises
    ------
    ValueError: it is no mapping, or says something of each kind of layer.
    """
    if not isinstance(rope, Mapping):
        raise ValueError(f"config: {name} must map names to numbers; got {shortened(rope)}")
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise ValueError(f"config: {name} that differ from layer to layer are not supported: {', '.join(rope)}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    others = {key: value for key, value in rope.items() if key not in ("rope_type", "type", "rope_theta")}
    return rope.get("rope_theta"), {"rope_type": kind, **others} if others or kind != "default" else None


def unscaled(name: str, rope: Any) -> Any:
    """The theta of what a file says under this name, or None. Raises ValueError as `unfolded`, and for a scaling."""
    theta, scaling = unfolded(name, rope or {})
    if scaling is not None:
        raise ValueError(f"config: {name} {shortened(scaling)} is not supported; only rope_type 'default' is")
    return theta


def _check(scaling: dict[str, Any], longest: int) -> None:
    """Raise ValueError where a rope_scaling lacks a field, or says what cannot be. The positions learnt are the
    `longest` unless it says them."""
    kind = scaling["rope_type"]
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise ValueError(f"config: rope_type {shortened(kind)} is not supported; npora has {', '.join(SCALINGS)}")
    if kind == "llama3":
        scaling.setdefault("original_max_position_embeddings", longest)
    for name, least in SCALINGS[kind][1].items():
        if not is_at_least(given := scaling.get(name), least):
            raise ValueError(
                f"config: {name} of rope_type {kind!r} must be a number of at least {least}; got {shortened(given)}"
            )
    if kind == "llama3" and not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        raise ValueError(
            f"config: low_freq_factor {scaling['low_freq_factor']} of rope_type 'llama3' must be below "
            f"high_freq_factor {scaling['high_freq_factor']}"
        )
    if (part := scaling.get("partial_rotary_factor")) not in (None, 1):
        raise ValueError(f"config: partial_rotary_factor={part!r} is not supported; only 1.0 is")
    if unread := sorted(scaling.keys() - {"rope_type", "partial_rotary_factor", *SCALINGS[kind][1]}):
        logger.warning("config: rope_type %r does not read %s: not used", kind, ", ".join(map(shortened, unread)))


def is_at_least(value: Any, least: float) -> bool:
    """Whether this is a number, and not below `least`."""
    return is_of_kind(value, "float") and bool(value >= least)
