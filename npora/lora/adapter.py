"""The seam for every method: what stands between a frozen layer and its use.

A method is one file in `methods/`, with one page of derivation, and one line in the registry. Which adapters a model
has, which one is on, merged or saved is elsewhere, and knows no mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from npora.lora.combine import Factors
from npora.lora.config import PeftConfig
from npora.machine.product import product
from npora.nn.contract import checked_input
from npora.nn.dropout import dropout
from npora.nn.embedding import Embedding
from npora.nn.init import Source
from npora.nn.linear import Conv1D, Linear, matmul, rows
from npora.nn.module import Array, Identities, Module, Named, Parameter, Pullback
from npora.nn.norm import LayerNorm, RMSNorm
from npora.nn.readable import Readable

Rng = np.random.Generator | None
Shared = Mapping[str, Parameter]
MergedPullback = Callable[[Array, Array | None], tuple[Array | None, ...]]
Merged = tuple[Array, Array | None, MergedPullback]

# That there are methods for, a kind of another before that one.
KINDS: tuple[type[Module], ...] = (Conv1D, Linear, Embedding, LayerNorm, RMSNorm)


class Tensor(NamedTuple):
    """A Tensor says what one of an adapter's tensors is called, and whose it is.

    live : in named_parameters(), as PEFT has it; {} stands for the adapter's name, as in "lora_A.{}.weight"
    file : in the file; "" is the live name without ".{}", None a tensor that files do not hold
    trained : False for a constant of the adapter, such as norms of W that it began with
    counted : whether PEFT counts a constant among all the numbers that there are; it does where it is no buffer
    shared : True for an array that the whole model has once: live and in the file its name is then one beside the
        model, "base_model.vera_A.default". Each layer's adapter holds it too
    """

    live: str
    file: str | None = ""
    trained: bool = True
    shared: bool = False
    counted: bool = False

    def live_name(self, adapter_name: str) -> str:
        return self.live.format(adapter_name)

    @property
    def short_name(self) -> str:
        return self.live.partition(".{}")[0]

    @property
    def file_name(self) -> str | None:
        return self.live.replace(".{}", "") if self.file == "" else self.file


class Adapter(Readable):
    """An adapter changes one frozen layer:  y = x f(W)ᵀ + b′.    x [...,i]  W [o,i]  b [o]  →  y [...,o]

    A method writes the class variables, `__init__`, `merged`, and `forward` where that has a quicker order of products
    than the one here. `merged` is the definition and `forward` the way: the tests hold for every method that the two
    agree, in values and in every gradient, that the pullbacks are those of their forwards, and that with the config's
    defaults a new adapter leaves its layer as it is.

    config_class : its config, with PEFT's fields and defaults
    tensors : for each attribute that holds a Parameter, its names; where it is None, this layer's adapter has not that
        tensor (a matrix of LoKr is whole, or two factors)
    adapts : the kinds of layers that it goes on, each by name: Linear does not mean Conv1D too
    samples : small configs by name, each as its fields: what `npora gradcheck NAME` and the tests try the method on, on
        a layer at the path `dense`
    adds : whether several that are merged add up, each with the ΔW that it makes of the base's own W; else each changes
        what those before it made
    replaces : whether it stands in the place of W and b, so that of several on one layer only one can be merged
    tokens : the rows of a vocabulary that it puts in the place of the layer's own; no two that are on have the same one
    calls_alone : whether forward asks its base for base(x), and beside that for sizes and dtype alone. A layer with
        adapters on it can then be its base, and of several that are active no matrix is formed

    dropout_p : set in __init__ where the config has a dropout: that of the adapter's own path, in training, by `drop`

    Beside its tensors an adapter may have numbers as attributes, such as r and s: they are shown where it is printed.
    """

    config_class: ClassVar[type[PeftConfig]]
    tensors: ClassVar[Mapping[str, Tensor]]
    samples: ClassVar[Mapping[str, Mapping[str, Any]]]
    adapts: ClassVar[tuple[type[Module], ...]] = (Linear, Conv1D)
    adds: ClassVar[bool] = False
    replaces: ClassVar[bool] = False
    calls_alone: ClassVar[bool] = False
    tokens: tuple[int, ...] = ()

    dropout_p: float = 0.0

    def __init__(self, base: Linear, config: Any, rng: Source, path: str, shared: Shared) -> None:
        """Make the tensors, with their initial values, in the base's dtype.

        base : the frozen layer. A method that reads its matrix for a start does so here, and keeps no reference
        config : of this method's class
        rng : draws whatever is drawn; an Unset where values will be loaded
        path : the layer's path in the model, for what depends on it (patterns of ranks, targets of a second kind)
        shared : the arrays that this class's `shared` made, by name, to be kept as the attributes that `tensors` names
        """
        raise NotImplementedError

    @classmethod
    def fits(cls, config: PeftConfig, base: Module) -> bool:
        """Say whether a config means this method for a layer. The registry asks its methods in their order."""
        kind = next((kind for kind in KINDS if isinstance(base, kind)), None)
        return isinstance(config, cls.config_class) and kind in cls.adapts

    @staticmethod
    def shared(
        config: Any, shapes: Mapping[str, tuple[int, int]], dtype: np.dtype[Any], rng: Source
    ) -> dict[str, Array]:
        """Make the arrays that the whole model has once, by the short name of their Tensor, as "vera_A". There are
        none, unless a method says otherwise.

        shapes : (o, i) of each target, by its path
        """
        return {}

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """Return (W′, b′, pullback): the layer's matrix with the adapter in it, as a pure function of arrays.

        W [o,i], b [o] or None, theta: the arrays of `tensors`, in their order. Where a method leaves b alone, b′ is b
        itself. The pullback takes (dW′, db′), of which db′ is None where b′ is, and returns (dW, db, *dtheta), of which
        db is None where b is. dW is dW′ itself only where ΔW does not depend on W. No array that is given may be
        written to.
        """
        raise NotImplementedError

    def factored(self) -> Factors | None:
        """Return s, B, A where ΔW = s B A, whatever W is; None of a method that has no such form."""
        return None

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        """Return y and its pullback, which adds to the grad of the tensors and returns dx.

        Unless a method knows better, W′ is formed here and again in backward, and kept by neither:

            y = x W′ᵀ + b′         (1)
            dx = dy W′             (2)
            dW′ = Σₙ dyₙ xₙᵀ       (3)
            db′ = Σₙ dyₙ           (4)

        Dropout is for the adapter's own path, the base's sees all of x. With x̃ = drop(x), also in (3):

            y = x̃ W′ᵀ + (x − x̃) Wᵀ + b′                      (1′)
            dx = dy W + drop's pullback of dy (W′ − W)       (2′)
        """
        W, bias, theta = base.matrix, base.bias, self.theta
        b = None if bias is None else bias.data
        x = checked_input(base, x, W)
        dropped, back_dropout = self.drop(x, rng)
        drops, trained = dropped is not x, [bias, *self.parameters()]
        kept = dropped if any(parameter is not None and parameter.requires_grad for parameter in trained) else None
        changed, changed_b, _ = self.merged(W, b, *theta)
        y = matmul(dropped, changed.T)  # (1) [...,o]
        if drops:
            y += matmul(x - dropped, W.T)  # (1′)
        if changed_b is not None:
            y += changed_b

        def backward(dy: Array) -> Array:
            changed, _, back_merged = self.merged(W, b, *theta)
            dx = matmul(dy, changed)  # (2) [...,i]
            if drops:
                through_base = matmul(dy, W)
                dx = through_base + back_dropout(dx - through_base)  # (2′)
            del changed  # before an array as large is made
            if kept is not None:
                dW = product(rows(dy).T, rows(kept))  # (3) [o,i]
                _, db, *dtheta = back_merged(dW, None if b is None else rows(dy).sum(axis=0))  # (4) [o]
                self.accumulate(*dtheta)
                if bias is not None and bias.requires_grad and db is not None:
                    bias.accumulate(db)
            return dx

        return y, backward

    def steps(self) -> Sequence[Adapter]:
        """Return what it does to W and b one after another, where not all of it sees x as `drop` leaves it: adapters
        of these tensors, of which each drops out on its own. It is one step unless a method says otherwise."""
        return (self,)

    @property
    def theta(self) -> list[Array]:
        """The arrays of its tensors, in the order of `tensors`."""
        return [parameter.data for parameter in self.parameters()]

    def named(self) -> Iterator[tuple[Tensor, Parameter]]:
        """Yield how each of its tensors is called, and the parameter that holds it; not those that this layer has not,
        whose attribute is None."""
        for attribute, tensor in self.tensors.items():
            if (parameter := getattr(self, attribute)) is not None:
                yield tensor, parameter

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named()]

    def in_file(self, path: str, config: PeftConfig) -> Iterator[tuple[str, Parameter]]:
        """Yield the tensors that files hold, under the names that they have there, for the layer at this path of the
        whole model."""
        for tensor, parameter in self.named():
            is_saved = not tensor.shared or getattr(config, "save_projection", True)
            if tensor.file_name is not None and is_saved:
                yield f"{'base_model' if tensor.shared else path}.{tensor.file_name}", parameter

    def saved(self, path: str, config: Any) -> Iterator[tuple[str, Parameter]]:
        """Yield what a file is to hold, as in_file does: its tensors, unless the file's form is not the live one."""
        return self.in_file(path, config)

    def live(self, path: str, config: Any, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Return those of a file's tensors, whose config this is, that this adapter has in another form, in that form;
        under the names that they have in the file. Raises ValueError where it cannot have them."""
        return {}

    def loaded(self, path: str, config: Any) -> None:
        """Take note that its tensors are now those of a file, whose config this is."""

    @classmethod
    def recorded(cls, config: Any, adapters: Any) -> Any:
        """Return the config that goes with what `saved` yields. adapters : of all layers, by path."""
        return config

    @classmethod
    def penalty(cls, config: Any, adapters: Any) -> float:
        """Add to the tensors' grad that of a term of the loss which depends on them alone, and return the term. It is
        asked for once a step. adapters : of all layers, by path"""
        return 0.0

    @classmethod
    def after_step(cls, config: Any, adapters: Any, step: int) -> None:
        """Do what there is to do after an optimiser's update, the step-th, with the gradients still there.
        adapters : of all layers, by path"""

    def state(self) -> dict[str, Array]:
        """Return the arrays beside its tensors that the next after_step depends on: checkpoints have them."""
        return {}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take what `state` gave."""

    def accumulate(self, *dtheta: Array | None) -> None:
        """Add each gradient to its tensor's, where that is trained."""
        for parameter, gradient in zip(self.parameters(), dtheta, strict=True):
            if parameter.requires_grad and gradient is not None:
                parameter.accumulate(gradient)

    def drop(self, x: Array, rng: Rng) -> tuple[Array, Pullback]:
        """Drop some elements of x, for the adapter's own path: the base's sees all of x."""
        return dropout(x, self.dropout_p, rng)

    def factors(self) -> dict[str, float]:
        """Name its constant factors, by which a gradient check may explain a wrong gradient."""
        return {}

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        """Yield (name, terms [...,k]) whose sums over the last axis are zero, whatever the loss is."""
        return iter(())

    def said(self) -> Iterator[str]:
        for name, value in vars(self).items():
            if value and isinstance(value, int | float):
                yield f"{name}={value:g}"


def of_a_product(B: Parameter, A: Parameter, name: str = "Bᵀ dB = dA Aᵀ") -> Identities:
    """Yield Bᵀ dB = dA Aᵀ, which holds where a loss sees B A alone, and so not B → B M⁻¹, A → M A. B [o,r]  A [r,i]"""
    if A.grad is not None and B.grad is not None:
        left = B.data.T[:, None, :] * B.grad.T[None, :, :]  # [r,r,o]
        right = A.grad[:, None, :] * A.data[None, :, :]  # [r,r,i]
        yield name, np.concatenate([left, -right], axis=-1)
