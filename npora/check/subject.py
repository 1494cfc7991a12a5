"""The code under test as a function of named arrays, which can be evaluated in any precision."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.check.inputs import is_floating, is_real, nothing_given, positional_names, read_call, signature_of
from npora.check.outputs import Outputs, describe, is_nested, like, outputs_of
from npora.check.returned import Arguments
from npora.check.trees import at, leaves, parts, replaced, with_leaves
from npora.check.verdict.comparison import HALVES, dtype_of
from npora.nn import Module, no_grad
from npora.nn.grad_mode import Values, holding
from npora.nn.module import Array


class Subject:
    """A layer, a function that returns `(y, backward)`, or a pair of functions `f` and `vjp`, with its inputs.

    What is checked are the floating-point arrays in the positional inputs, however nested, and the trainable
    parameters: `point`, by name, in `dtype`. Every precision is evaluated at that same point. Arrays without elements,
    of integers or of truth values are constants.

    Parameters whose elements are all alike (a LoRA B of zeros, a norm's ones) are moved off that value, unless
    `randomize` is None: there a wrong formula may give the right number. `randomized` names them.
    """

    def __init__(
        self,
        layer: Any,
        inputs: tuple[Any, ...],
        keywords: Mapping[str, Any],
        vjp: Callable[..., Any] | None = None,
        dtype: npt.DTypeLike = np.float64,
        randomize: np.random.Generator | None = None,
        reference: Any = None,
    ) -> None:
        if not callable(layer):
            raise TypeError(f"expected a Module or a function that returns (y, backward); got {type(layer).__name__}")
        inputs, keywords = read_call(layer, _name_of(layer), inputs, keywords)
        self.layer, self.vjp, self.reference, self.is_reference = layer, vjp, reference, False
        self.inputs: tuple[Any, ...] = inputs
        self.keywords = keywords
        self.dtype = dtype_of(dtype)
        parameters = _parameters(layer)
        named = layer if positional_names(layer) or reference is None else reference
        self.arguments = arguments_of(named, inputs, keywords, set(parameters))
        self.places = self.arguments.paths
        self.trainable = [name for name, p in parameters.items() if p.requires_grad and p.data.size]
        self.frozen = [name for name, p in parameters.items() if not p.requires_grad]
        given = {name: at(inputs, path) for name, path in self.places.items()}
        given |= {name: parameters[name].data for name in self.trainable}
        for name, value in given.items():
            if not np.isfinite(value).all():
                raise ValueError(f"{name} holds nan or inf: a gradient can be checked only where the inputs are finite")
        if not given:
            for path, value in leaves(inputs):
                if is_floating(value):
                    name = self.arguments.label(path)
                    raise ValueError(f"{name} is empty, of shape {value.shape}: there is nothing to differentiate by")
            raise TypeError(nothing_given(_name_of(layer), inputs, keywords))
        self.constants = {
            self.arguments.label(path): x
            for path, x in leaves(inputs)
            if isinstance(x, np.ndarray) and x.dtype.kind in "bi"
        }
        # Never written to, so that a model's own arrays need not be copied.
        with np.errstate(over="ignore"):
            self.point = {name: np.asarray(value, self.dtype) for name, value in given.items()}
        self.numbers: np.dtype[Any] | None = None  # what all numbers are rounded to first
        self.held: Values = {}  # what forward holds constant, as it is at the point
        self.randomized: list[str] = []
        if randomize is not None:
            self._randomize(randomize)
        for name, value in self.point.items():
            if not np.isfinite(value).all():
                raise ValueError(f"{name} holds numbers too large for {self.dtype}")
        if reference is not None and set(parameters) != set(_parameters(reference)):
            raise TypeError(
                f"the reference of {_name_of(layer)} must have its parameters ({', '.join(parameters) or 'none'}); got "
                f"{', '.join(_parameters(reference)) or 'none'}"
            )

    def _randomize(self, rng: np.random.Generator) -> None:
        for name in self.trainable:
            value = self.point[name]
            if (value == value.flat[0]).all() and (value.size > 1 or value.flat[0] == 0):
                noise = rng.standard_normal(value.shape) / (2 * max(1, value.shape[-1]) ** 0.5 if value.ndim > 1 else 4)
                self.point[name] = (value + noise).astype(self.dtype)
                self.randomized.append(name)

    def at(self, dtype: npt.DTypeLike, shared: bool = False) -> Bench:
        """A copy in one precision. shared : it may read the subject's own arrays, where they have that dtype."""
        return Bench(self, np.dtype(dtype), shared)

    @cached_property
    def exact(self) -> Subject:
        """What the oracles evaluate at the same point: the reference, where one was given; in float64 what is in half
        precision, whose numbers were rounded once, to `point`."""
        if self.reference is None and self.dtype.name not in HALVES:
            return self
        twin = copy.copy(self)
        if self.reference is not None:
            twin.layer, twin.vjp, twin.reference, twin.is_reference = self.reference, None, None, True
        if self.dtype.name in HALVES:
            twin.dtype, twin.numbers = np.dtype(np.float64), self.dtype
            twin.point = {name: x.astype(np.float64) for name, x in self.point.items()}
        return twin

    def check_reference(self, shapes: list[tuple[int, ...]]) -> None:
        """Raise ValueError where the reference returns arrays of other shapes, and what it raises itself."""
        found = [y.shape for y in self.exact.at(np.float64, shared=True).outputs()]
        if found != shapes:
            raise ValueError(
                f"the reference must be the same function as {self}, which returned arrays of the shapes {shapes}; the "
                f"reference returned {found}"
            )

    def has_pullback(self) -> bool:
        return self.at(self.dtype).forward()[1] is not _unknown

    def runs_in(self, dtype: npt.DTypeLike) -> bool:
        """Does the layer take arrays of another precision?"""
        return self.refusal_of(dtype) is None

    def refusal_of(self, dtype: npt.DTypeLike) -> Exception | None:
        """What the layer raises on arrays of another precision, to be told of where that one is needed."""
        try:
            self.at(dtype).forward()
        except Exception as error:  # whatever a kernel of one precision says to another
            return error
        return None

    @cached_property
    def size(self) -> int:
        """The number of elements of every input and parameter, frozen ones included."""
        parameters = self.layer.parameters() if isinstance(self.layer, Module) else ()
        return sum(p.size for p in parameters) + sum(self.point[name].size for name in self.places)

    def __str__(self) -> str:
        return _name_of(self.layer)


class Bench:
    """A copy of the subject in one precision. The layer sees read-only views of `arrays`, which may be written to
    unless they are shared."""

    def __init__(self, subject: Subject, dtype: np.dtype[Any], shared: bool = False) -> None:
        self.subject, self.dtype = subject, dtype
        self.arrays = {name: value.astype(dtype, copy=not shared) for name, value in subject.point.items()}
        names = {path: name for name, path in subject.places.items()}
        self.inputs = with_leaves(
            subject.inputs, lambda path, x: _view(self.arrays[names[path]]) if path in names else self._cast(x)
        )
        self.layer: Any = subject.layer
        self.parameters: dict[str, Any] = {}
        if isinstance(subject.layer, Module):
            held = {id(parameter.data): parameter.data for parameter in subject.layer.parameters()}
            self.layer = copy.deepcopy(subject.layer, {**held})  # all but the values
            self.parameters = dict(self.layer.named_parameters())
            for name, parameter in self.parameters.items():
                parameter.grad = None
                value = self.arrays[name] if name in self.arrays else self._rounded(parameter.data, copy=not shared)
                parameter.data = _view(value)
        self.keywords = with_leaves(subject.keywords, lambda _, x: self._cast(x))
        given = [*leaves(self.inputs), *leaves(self.keywords)]
        self._draws = any(isinstance(x, np.random.Generator) for _, x in given)
        self.missing: frozenset[str] = frozenset()

    def _cast(self, value: Any) -> Any:
        """A floating-point array that is a constant here takes part in the arithmetic, so in the precision too."""
        if not isinstance(value, np.ndarray):
            return value
        return _view(self._rounded(value) if is_real(value.dtype) else value)

    def _rounded(self, value: Array, copy: bool = True) -> Array:
        numbers = self.subject.numbers
        return (value if numbers is None else value.astype(numbers)).astype(self.dtype, copy=copy)

    def put(self, name: str, value: Array) -> None:
        """Another array in place of an input."""
        self.inputs = replaced(self.inputs, self.subject.places[name], value)

    def given(self, name: str) -> Array:
        """The array that the layer gets for an input."""
        array: Array = at(self.inputs, self.subject.places[name])
        return array

    def forward(self) -> tuple[Outputs, Callable[..., Any]]:
        """The outputs, and the pullback. Each Generator among the arguments is copied, so that it draws the same; what
        forward holds constant is what it was in the subject's first forward, wherever this bench has been moved to."""
        inputs, keywords = self.inputs, self.keywords
        if self._draws:
            inputs, keywords = (with_leaves(given, lambda _, x: _fresh(x)) for given in (inputs, keywords))
        try:
            with holding(self.subject.held, self.dtype):
                result = self.layer(*inputs, **keywords)
        except TypeError as error:
            labels = self.subject.arguments.labels
            nested = [label for label, value in zip(labels, inputs, strict=True) if parts(value) is not None]
            if not nested:
                raise
            raise TypeError(
                f"{error}. {', '.join(nested)} was given as it came, a structure; if {self.subject} takes arrays, pass "
                f"each as an input of its own, gradcheck(f, x, y)"
            ) from error
        vjp = self.subject.vjp
        if vjp is not None:
            return outputs_of(result), lambda *dy: vjp(*like(result, dy), *inputs, **keywords)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            if self.subject.is_reference:
                return outputs_of(result), _unknown
            raise TypeError(
                f"{self.subject} returned {describe(result)}, expected (y, backward): return the value and its "
                f"pullback, or pass the pullback as vjp=…, called as vjp(dy, *inputs)"
            )
        y, backward = result
        return outputs_of(y), (lambda *dy: backward(*like(y, dy))) if is_nested(y) else backward

    def outputs(self) -> Outputs:
        with no_grad():
            return self.forward()[0]

    def gradients(self, backward: Callable[..., Any], dy: Outputs) -> dict[str, Array]:
        """What backward returns for the inputs and adds to the parameters' grad, by name: zeros where it gives nothing,
        as `missing` then says.

        Raises
        ------
        ValueError: the number of gradients is wrong, or a shape.
        """
        for parameter in self.parameters.values():
            parameter.grad = None
        returned = backward(*dy)
        located = self.subject.arguments.located(returned)
        found = {name: None if place is None else np.asarray(at(returned, place)) for name, place in located.items()}
        found |= {name: self.parameters[name].grad for name in self.subject.trainable}
        self.missing = frozenset(name for name, gradient in found.items() if gradient is None)
        gradients = {
            name: np.zeros(self.arrays[name].shape, self.dtype) if gradient is None else gradient
            for name, gradient in found.items()
        }
        for name, gradient in gradients.items():
            expected = self.arrays[name].shape
            if gradient.shape != expected:
                hint = ": it has the shape of the transpose" if gradient.shape[::-1] == expected else ""
                raise ValueError(f"the gradient of {name} has shape {gradient.shape}, expected {expected}{hint}")
        return gradients


def arguments_of(layer: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any], taken: set[str]) -> Arguments:
    """The floating-point arrays in the inputs, by the names that the code gives them."""
    names = positional_names(layer)
    labels = [names[k] if k < len(names) else f"input {k}" for k in range(len(inputs))]
    labels = [f"input {label}" if label in taken else label for label in labels]
    signature = signature_of(layer)
    order: list[int | None] = []
    for name in signature.bind(*inputs, **keywords).arguments if signature else ():
        order.append(labels.index(name) if name in labels else None)
    arguments = Arguments(inputs, labels, {}, order)
    paths = {arguments.label(path): path for path, x in leaves(inputs) if is_floating(x) and x.size}
    return dataclasses.replace(arguments, paths=paths)


def _unknown(*dy: Array) -> Any:
    """The pullback of a reference that has none."""
    raise TypeError("the reference returns its value alone")


def _parameters(layer: Any) -> dict[str, Any]:
    return dict(layer.named_parameters()) if isinstance(layer, Module) else {}


def _view(x: Array) -> Array:
    view: Array = x.view()
    view.flags.writeable = False
    return view


def _fresh(value: Any) -> Any:
    return copy.deepcopy(value) if isinstance(value, np.random.Generator) else value


def _name_of(layer: Any) -> str:
    return str(getattr(layer, "__name__", type(layer).__name__))
