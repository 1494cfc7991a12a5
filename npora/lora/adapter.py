"""The seam for every method: what stands between a frozen layer and its use.

A method is one file in `methods/`, with one page of derivation, and one line in the registry. It says what its tensors
are called in PEFT, what it makes of a layer's matrix, and, where there is a quicker way than forming that matrix, how
it goes. Which adapters a model has, which one is on, merged or saved is elsewhere, and knows no mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from npora.lora.config import PeftConfig
from npora.machine.product import product
from npora.nn.dropout import dropout
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Identities, Module, Named, Parameter, Pullback
from npora.nn.readable import Readable

Rng = np.random.Generator | None
MergedPullback = Callable[[Array, Array | None], tuple[Array | None, ...]]


class Tensor(NamedTuple):
    """How one of an adapter's tensors is called.

    live : in named_parameters(), as PEFT has it; {} stands for the adapter's name, as in "lora_A.{}.weight"
    file : in the file; "" is the live name without ".{}", None a tensor that files do not hold
    trained : False for a constant of the adapter, such as norms of W that it began with
    """

    live: str
    file: str | None = ""
    trained: bool = True

    def live_name(self, adapter_name: str) -> str:
        return self.live.format(adapter_name)

    @property
    def short_name(self) -> str:
        return self.live.partition(".{}")[0]

    @property
    def file_name(self) -> str | None:
        return self.live.replace(".{}", "") if self.file == "" else self.file


class Adapter(Readable):
    """What one adapter makes of one frozen layer:  y = x f(W)ᵀ + b′.    x [...,i]  W [o,i]  b [o]  →  y [...,o]

    A method writes the class variables, `__init__`, `merged`, and `forward` where that has a quicker order of products
    than the one here. `merged` is the definition and `forward` the way: the tests hold for every method that the two
    agree, in values and in every gradient, and that the pullbacks are those of their forwards.

    config_class : its config, with PEFT's fields and defaults
    tensors : for each attribute that holds a Parameter, its names
    adapts : the kinds of layers that it goes on
    identity_at_start : whether a new adapter leaves its layer as it is, with the config's defaults
    changes_bias : whether b′ differs from b
    samples : small configs by name, each as its fields: what `npora gradcheck NAME` and the tests try the method on, on
        a layer at the path `dense`
    forms_matrix : whether forward holds an array of the size of W meanwhile. None keeps one for backward
    """

    config_class: ClassVar[type[PeftConfig]]
    tensors: ClassVar[Mapping[str, Tensor]]
    samples: ClassVar[Mapping[str, Mapping[str, Any]]]
    adapts: ClassVar[tuple[type[Module], ...]] = (Linear,)
    identity_at_start: ClassVar[bool] = True
    changes_bias: ClassVar[bool] = False
    forms_matrix: ClassVar[bool] = True

    dropout_p: float = 0.0  # of its input, in training

    def __init__(
        self, base: Linear, config: Any, rng: Source, path: str = "", shared: Mapping[str, Parameter] | None = None
    ) -> None:
        """Make the tensors, with their initial values, in the base's dtype.

        base : the frozen layer. A method that reads its matrix for a start does so here, and keeps no reference
        config : of this method's class
        rng : draws whatever is drawn; a Blank where values will be loaded
        path : the layer's path in the model, for what depends on it (patterns of ranks, targets of a second kind)
        shared : the arrays that this class's `shared` made, by name
        """
        raise NotImplementedError

    @classmethod
    def fits(cls, config: PeftConfig, base: Module) -> bool:
        """Whether this method is the one that a config means for a layer. The registry asks in its order."""
        return isinstance(config, cls.config_class) and isinstance(base, cls.adapts)

    @staticmethod
    def shared(config: Any, shapes: Mapping[str, tuple[int, int]], dtype: np.dtype[Any]) -> dict[str, Array]:
        """Arrays of the whole model, made once: by the name that they have in PEFT's model, as "vera_A". They are
        frozen. None, unless a method says otherwise.

        shapes : (o, i) of each target, by its path
        """
        return {}

    def merged(self, W: Array, b: Array | None, *theta: Array) -> tuple[Array, Array | None, MergedPullback]:
        """(W′, b′, pullback): the layer's matrix with the adapter in it, as a pure function of arrays.

        W [o,i], b [o] or None, theta: the arrays of `tensors`, in their order. The pullback takes (dW′, db′), of which
        db′ is None where there is no bias, and returns (dW, db, *dtheta).
        """
        raise NotImplementedError

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        """y and its pullback, which adds to the grad of the tensors and returns dx.

        Unless a method knows better:  y = base(x) + drop(x) (W′ − W)ᵀ,  with ΔW = W′ − W formed here, and again in
        backward, and kept by neither.  dΔW = Σₙ dyₙ drop(xₙ)ᵀ,  dx = base's pullback + drop's pullback of dy ΔW.
        """
        if self.changes_bias:
            raise NotImplementedError(f"{type(self).__name__} changes the bias, and needs a forward of its own")
        W, theta = base.matrix, self.theta
        y, back_base = base(x)
        dropped, back_dropout = self.drop(x, rng)
        y += matmul(dropped, (self.merged(W, None, *theta)[0] - W).T)  # [...,o]

        def backward(dy: Array) -> Array:
            changed, _, back_merged = self.merged(W, None, *theta)
            dx: Array = back_base(dy)
            dx += back_dropout(matmul(dy, changed - W))
            if any(parameter.requires_grad for parameter in self.parameters()):
                _, _, *dtheta = back_merged(product(rows(dy).T, rows(dropped)), None)
                self.accumulate(*dtheta)
            return dx

        return y, backward

    @property
    def theta(self) -> list[Array]:
        """The arrays of its tensors, in the order of `tensors`."""
        return [parameter.data for parameter in self.parameters()]

    def parameters(self) -> list[Parameter]:
        return [getattr(self, attribute) for attribute in self.tensors]

    def in_file(self) -> Iterator[tuple[str, Parameter]]:
        """Its tensors that files hold, under the names that they have there."""
        for tensor, parameter in zip(self.tensors.values(), self.parameters(), strict=True):
            if tensor.file_name is not None:
                yield tensor.file_name, parameter

    def accumulate(self, *dtheta: Array | None) -> None:
        """Add each gradient to its tensor's, where that is trained."""
        for parameter, gradient in zip(self.parameters(), dtheta, strict=True):
            if parameter.requires_grad and gradient is not None:
                parameter.accumulate(gradient)

    def drop(self, x: Array, rng: Rng) -> tuple[Array, Pullback]:
        """x with some of its elements dropped, for the adapter's own path: the base's sees all of x."""
        return (x, _unchanged) if rng is None or not self.dropout_p else dropout(x, self.dropout_p, rng)

    def factors(self) -> dict[str, float]:
        """Its constants by name, by which a gradient check may explain a wrong gradient."""
        return {}

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        """(name, terms [...,k]) whose sums over the last axis are zero, whatever the loss is."""
        return iter(())


def _unchanged(dy: Array) -> Array:
    return dy
