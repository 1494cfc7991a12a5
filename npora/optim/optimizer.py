"""What every optimiser shares: groups of parameters, and a state for those that are trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from npora.nn.module import Array, Parameter
from npora.nn.readable import Readable, brief

Params = Iterable[Parameter] | Iterable[dict[str, Any]]


class Optimizer(Readable):
    """An optimiser updates trainable parameters in place. Subclasses write `update` for one parameter.

    params : the parameters, or groups of them, dicts with `params` and whichever defaults are to differ
    param_groups : the groups with all their options; a schedule writes to their `lr`
    state : for each trained parameter, by its number through all groups, what `update` keeps from step to step.
        Frozen parameters and those without a gradient are not touched and have none.

    Raises
    ------
    ValueError: no parameter at all, one that stands twice, an option that is negative.
    """

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        items: list[Any] = list(params)
        groups = items if items and isinstance(items[0], dict) else [{"params": items}]
        self.param_groups = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state: dict[int, dict[str, Any]] = {}
        self._shapes: dict[int, tuple[int, ...]] = {}  # of parameters of which something is kept, then
        everything = self._numbered()
        if not everything:
            raise ValueError("an optimiser needs at least one parameter; got none")
        if len({id(parameter) for _, parameter, _ in everything}) != len(everything):
            raise ValueError("a parameter stands twice among those to optimise")
        for group in self.param_groups:
            for name in ("lr", "weight_decay", "momentum", "eps"):
                if not group.get(name, 0) >= 0:
                    raise ValueError(f"{name} must not be negative; got {group[name]}")

    def said(self) -> Iterator[str]:
        for group in self.param_groups:
            options = [f"{key}={brief(value)}" for key, value in group.items() if key != "params"]
            yield ", ".join([f"{len(group['params'])} parameters", *options])

    def _numbered(self) -> list[tuple[int, Parameter, dict[str, Any]]]:
        pairs = [(parameter, group) for group in self.param_groups for parameter in group["params"]]
        return [(number, parameter, group) for number, (parameter, group) in enumerate(pairs)]

    def zero_grad(self) -> None:
        for _, parameter, _ in self._numbered():
            parameter.grad = None

    def step(self) -> None:
        """Update every trainable parameter that has a gradient, once: down the loss, or up where `maximize`.

        Raises ValueError where one has another shape than at its last step; nothing is then changed.
        """
        for number, parameter, _ in self._numbered():
            was = self._shapes.get(number, parameter.shape)
            if parameter.requires_grad and parameter.grad is not None and was != parameter.shape:
                raise ValueError(
                    f"what is kept of parameter number {number} is of shape {was}, and it has {parameter.shape}: make "
                    "a new optimiser"
                )
        for number, parameter, group in self._numbered():
            if not parameter.requires_grad or parameter.grad is None:
                continue
            if not parameter.data.flags.writeable:  # a memory-mapped checkpoint: its bytes are not ours to change
                parameter.data = parameter.data.copy()
            gradient = -parameter.grad if group.get("maximize") else parameter.grad
            self.update(parameter.data, gradient, self.state.setdefault(number, {}), group)
            if self.state[number]:
                self._shapes[number] = parameter.shape

    def update(self, theta: Array, g: Array, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        """Change θ in place by its gradient g, which stays as it is."""
        raise NotImplementedError(f"{type(self).__name__} has no update")

    def state_dict(self) -> dict[str, Any]:
        """Return the state and the groups' options, without the parameters."""
        groups = [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]
        return {"state": {number: dict(values) for number, values in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what state_dict returned. Raises ValueError, and changes nothing, where it does not fit."""
        if len(saved["param_groups"]) != len(self.param_groups):
            raise ValueError(
                f"the state has {len(saved['param_groups'])} groups, this optimiser {len(self.param_groups)}"
            )
        parameters = {number: parameter for number, parameter, _ in self._numbered()}
        for number, values in saved["state"].items():
            if number not in parameters:
                raise ValueError(f"the state is of parameter number {number}; there are {len(parameters)}")
            for name, value in values.items():
                if isinstance(value, np.ndarray) and value.shape != parameters[number].shape:
                    raise ValueError(
                        f"{name} of parameter number {number} has shape {value.shape}, expected "
                        f"{parameters[number].shape}"
                    )
        self.state = {
            number: {name: np.array(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}
            for number, values in saved["state"].items()
        }
        self._shapes = {number: parameters[number].shape for number, values in self.state.items() if values}
        for group, options in zip(self.param_groups, saved["param_groups"], strict=True):
            group.update(options)
