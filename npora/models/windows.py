"""Layers whose queries see a window of keys, among layers that see all: what a config says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npora.files.refusal import shortened
from npora.models.config import PretrainedConfig
from npora.nn.rules import Rule, causal, window

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(kw_only=True)
class LayerTypesConfig(PretrainedConfig):
    """The fields that say which keys each layer sees.

    layer_types : each layer's, "full_attention" or "sliding_attention"; as `slides` says unless given
    sliding_window : how many keys a query of the latter sees, its own and those just before it
    """

    num_hidden_layers: int
    layer_types: list[str] = None  # type: ignore[assignment]  # a list once constructed
    sliding_window: int | None = None

    def width(self) -> int | None:
        """The window's, or None where the config asks for none: a place for a family with a switch for them."""
        return self.sliding_window

    def slides(self, index: int) -> bool:
        """Whether a layer sees a window, where `layer_types` does not say: for a family to write."""
        raise NotImplementedError(f"{type(self).__name__} does not say which layers see a window")

    def rule(self, index: int) -> Rule:
        """Which keys the queries of a layer see."""
        return window(self.sliding_window or 0) if self.layer_types[index] == SLIDING else causal

    def __post_init__(self) -> None:
        super().__post_init__()
        layers, width = self.num_hidden_layers, self.width()
        self.sliding_window = width
        if self.layer_types is None:
            self.layer_types = [SLIDING if self.slides(index) else FULL for index in range(layers)]
        if len(self.layer_types) != layers:
            raise ValueError(f"config: layer_types names {len(self.layer_types)} layers; num_hidden_layers is {layers}")
        if others := sorted({str(kind) for kind in self.layer_types} - {FULL, SLIDING}):
            raise ValueError(
                f"config: layer_types {', '.join(others)} are not supported; only {FULL} and {SLIDING} are"
            )
        if SLIDING in self.layer_types and (width is None or width < 1):
            raise ValueError(f"config: a layer of {SLIDING} needs a sliding_window of at least 1; got {width!r}")


def by_kinds(rope: Any) -> Mapping[str, Any]:
    """What rope_parameters say of each kind of layer. Raises ValueError where they name another kind, or none."""
    kinds = rope or {}
    if not isinstance(kinds, Mapping) or kinds.keys() - {FULL, SLIDING}:
        raise ValueError(f"config: rope_parameters must be of {FULL} and {SLIDING}; got {shortened(rope)}")
    return kinds
