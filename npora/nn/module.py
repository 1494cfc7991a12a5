"""Parameters, the modules that hold them, and the one contract that every layer keeps.

    y, backward = layer(x)     the value, and the function that carries a gradient back through it
    dx = backward(dy)          adds dℓ/dθ to θ.grad of each trainable parameter θ, returns dℓ/dx

There is no tape and no cache on the layer: what backward needs, its closure holds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from npora.machine.stored import Stored
from npora.nn.contract import Array as Array
from npora.nn.contract import checked_pullback, no_pullback
from npora.nn.grad_mode import is_grad_enabled, no_grad
from npora.nn.misfit import Misfit
from npora.nn.parameter import Parameter as Parameter
from npora.nn.readable import described, tree

Named = Mapping[str, Array]
Identities = Iterator[tuple[str, Array]]
Backward = Callable[..., Any]
Pullback = Callable[[Array], Array]
_Module = TypeVar("_Module", bound="Module")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Module:
    """A layer has parameters and modules as plain attributes (also in lists and dicts), and a `forward`.

    `forward` returns the value and its pullback. Names are the attribute paths, `encoder.layer.0.query.weight`.
    """

    training = False

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Backward]:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Backward]:
        result = self.forward(*args, **kwargs)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise no_pullback(self, result)
        output, backward = result
        if not is_grad_enabled():
            return output, _no_backward  # drops the closure, and with it every activation that it held
        return output, checked_pullback(self, output, backward) if isinstance(output, np.ndarray) else backward

    def __repr__(self) -> str:
        return tree(self, Module.__repr__)

    def extra_repr(self) -> str:
        """Say what is printed of a module beside its children: its own parameters, and settings that are numbers or
        words. A layer may say something else."""
        own = [(name, value) for name, value in self.named_members() if isinstance(value, Parameter)]
        return ", ".join(described(own, vars(self)))

    def named_members(self) -> Iterator[tuple[str, Module | Parameter]]:
        """Yield the modules and parameters that this one holds, under their names in it: by default its attributes'.
        Whatever walks modules or parameters goes by this, so that a module may give its members other names."""
        for name, value in vars(self).items():
            if isinstance(value, _MEMBERS):
                yield name, value
            elif isinstance(value, _HOLDERS):
                yield from _walk(name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for name, member in self.named_members():
            if isinstance(member, Module):
                yield name, member

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Yield this module (under the name `prefix`) and every one below it once, under its first name; under all of
        its names without `remove_duplicate`."""
        seen: set[int] = set()
        left: list[tuple[str, Module]] = [(prefix, self)]  # the next one last: no generators inside one another
        while left:
            path, module = left.pop()
            if remove_duplicate and id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            below = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
            left += reversed(below)

    def modules(self) -> Iterator[Module]:
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Yield every parameter once, under its first name; under all of its names without `remove_duplicate`."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, parameter in module.named_members():
                if isinstance(parameter, Parameter) and not (remove_duplicate and id(parameter) in seen):
                    seen.add(id(parameter))
                    yield f"{path}.{name}" if path else name, parameter

    def parameters(self) -> Iterator[Parameter]:
        for _, parameter in self.named_parameters():
            yield parameter

    def get_parameter(self, name: str) -> Parameter:
        """Return the parameter of this name, as in `encoder.layer.0.query.weight`."""
        for path, parameter in self.named_parameters():
            if path == name:
                return parameter
        raise AttributeError(f"{type(self).__name__} has no parameter '{name}'")

    def get_submodule(self, path: str) -> Module:
        """Return the module at a dotted path, as in `encoder.layer.0.attention`."""
        for name, module in self.named_modules(remove_duplicate=False):
            if name == path:
                return module
        raise AttributeError(f"{type(self).__name__} has no module '{path}'")

    def set_submodule(self, path: str, module: Module) -> None:
        """Put `module` in the place that the dotted path names. Raises AttributeError where there is none."""
        *parents, name = path.split(".")
        holder: Any = vars(self)
        try:
            for part in parents:
                held = holder[int(part) if isinstance(holder, list | tuple) else part]
                holder = vars(held) if isinstance(held, Module) else held
            holder[int(name) if isinstance(holder, list) else name] = module
        except (LookupError, TypeError, ValueError):
            raise AttributeError(f"{type(self).__name__} has no place '{path}' for a module") from None

    def requires_grad_(self: _Module, requires_grad: bool = True) -> _Module:
        """Freeze or thaw every parameter below this module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None

    def train(self: _Module, mode: bool = True) -> _Module:
        """Say that forward calls are meant to drop out.

        Randomness is an input here: dropout happens exactly when forward is given `rng`, a `numpy.random.Generator`.
        After `train()` a dropout layer that is given none raises instead of doing nothing.
        """
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: _Module) -> _Module:
        """Undo `train()`: a forward call without `rng` is then deterministic, as it is to begin with."""
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """Return what the parameters hold, by name: the arrays or stored matrices themselves."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Assign every parameter's value, or raise and assign none.

        Raises
        ------
        ValueError
            Naming what is missing, unexpected, misshapen, or no floating-point numbers.
        """
        own = dict(self.named_parameters())
        shapes = {name: parameter.shape for name, parameter in own.items()}
        if problems := Misfit.of(state, shapes, kinds="fc").said(state, shapes):
            raise ValueError(f"the state does not fit this {type(self).__name__}: " + "; ".join(problems))
        for name, parameter in own.items():
            value, is_frozen = state[name], not parameter.requires_grad
            stays = is_frozen and isinstance(value, Stored)
            parameter.data = value if stays else np.array(value, dtype=parameter.dtype)


# As tuples: `A | B` would make a type anew for each of the values that are asked.
_MEMBERS, _SEQUENCES, _HOLDERS = (Module, Parameter), (list, tuple), (list, tuple, dict)


def is_trained(*modules: Module) -> bool:
    """Say whether a parameter of these modules requires a gradient."""
    return any(parameter.requires_grad for module in modules for parameter in module.parameters())


def _walk(name: str, value: object) -> Iterator[tuple[str, Module | Parameter]]:
    """Yield the modules and parameters in an attribute: itself, or the items of a list or dict."""
    if isinstance(value, _MEMBERS):
        yield name, value
    elif isinstance(value, _SEQUENCES):
        for index, item in enumerate(value):
            yield from _walk(f"{name}.{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(f"{name}.{key}", item)


def checkpoint(layer: Callable[..., tuple[Any, Backward]], *inputs: Any, **keywords: Any) -> tuple[Any, Backward]:
    """Call layer(*inputs, **keywords) and keep the inputs alone: backward runs forward again (Chen et al., 2016).

    A Generator `rng` among the keywords is copied first, so that dropout draws the same mask again: same bits, less
    memory.
    """
    drawn = copy.deepcopy(keywords.get("rng"))
    with no_grad():
        y, _ = layer(*inputs, **keywords)

    def backward(*dy: Any) -> Any:
        again = {**keywords, "rng": copy.deepcopy(drawn)} if "rng" in keywords else keywords
        return layer(*inputs, **again)[1](*dy)

    return y, backward


def declares(identities: Callable[[Named, Named], Identities]) -> Callable[[_Function], _Function]:
    """Give a function the identities that its pullback satisfies, for gradient checks to hold it to.

    identities(inputs, gradients) yields (name, terms [...,k]) whose sums over the last axis are zero. A Module states
    its own as a method of that name, which may also read its parameters' grad.
    """

    def attach(function: _Function) -> _Function:
        vars(function)["identities"] = identities
        return function

    return attach


def _no_backward(*_: Any, **__: Any) -> Any:
    raise RuntimeError("this forward ran under no_grad(), which drops its backward: run it again outside")
