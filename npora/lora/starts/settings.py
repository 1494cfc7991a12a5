"""What the settings of a start share: PEFT's fields for it, in a config of their own within LoraConfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from npora.files.refusal import shortened
from npora.lora.values import check_values, refuse_unsupported
from npora.nn.readable import Readable

_Settings = TypeVar("_Settings", bound="Settings")


@dataclass
class Settings(Readable):
    """The settings of one start. Each field is checked by its kind, as those of an adapter's config are."""

    def __post_init__(self) -> None:
        refuse_unsupported(self)
        check_values(self)
        self.check()

    def check(self) -> None:
        """Raise ValueError for what a kind does not tell."""

    @classmethod
    def of(cls: type[_Settings], value: Any, field: str, start: str, begins: bool) -> _Settings | None:
        """Return what a field of LoraConfig means, which may be a dict: where the start begins, None its defaults.

        Raises
        ------
        ValueError: it is no such thing, or the adapter begins otherwise.
        """
        if value is None:
            return cls() if begins else None
        if not begins:
            raise ValueError(f"{field} belongs to init_lora_weights={start!r}: say that too, or leave it out")
        if isinstance(value, Mapping):
            known = [f.name for f in fields(cls)]
            if unknown := [str(name) for name in value if name not in known]:
                raise ValueError(f"{field} has no {', '.join(unknown)}; its fields: {', '.join(known)}")
            return cls(**value)
        if not isinstance(value, cls):
            raise ValueError(f"{field} must be a {cls.__name__}, or a dict of its fields; got {shortened(value)}")
        return value
