"""What a start made of data is made of: the inputs of layers, and the gradients of their frozen weights."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from npora.lora.adapters import Adapters
from npora.lora.inject import PlainView
from npora.lora.match import drawn_modules, target_paths
from npora.lora.methods.lora_config import LoraConfig
from npora.nn.evaluating import Seen, evaluating, trained_alone, watching
from npora.nn.grad_mode import gradients_apart, within
from npora.nn.linear import Linear, rows
from npora.nn.module import Array, Module

Data = Callable[[], Any] | Iterable[Mapping[str, Any]] | None


def targets_of(model: Module, config: LoraConfig) -> dict[str, Linear]:
    """Return the layers, by path, that an adapter of this config goes on: of a base, or of one with adapters.

    Raises ValueError for a layer that is not linear.
    """
    view = model._view() if isinstance(model, Adapters) else PlainView(model, drawn_modules(model))
    completed = copy.copy(config)
    completed.check_new()
    completed.complete(model.get_base_model() if isinstance(model, Adapters) else model)
    layers = {path: view.linear(path) for path in target_paths(view, completed)}
    for path, layer in layers.items():
        if not isinstance(layer, Linear):
            raise ValueError(
                f"init_lora_weights={config.init_lora_weights!r} is for linear layers, and {path} is a "
                f"{type(layer).__name__}: give it an adapter of its own, with init_lora_weights=True"
            )
    return layers


@contextmanager
def seeing_inputs(model: Module, layers: Mapping[str, Linear], see: Callable[[str, Array], None]) -> Iterator[None]:
    """Within this block see(path, x [n,i]) is told what each of these layers is given, with all rows of the batch and
    none of its padding. Adapters are off, nothing drops out, and no gradients are kept."""
    paths = {id(layer): path for path, layer in layers.items()}

    def tell(seen: Seen) -> None:
        if seen.what == "output" and (path := paths.get(id(seen.module))) is not None:
            see(path, rows(seen.given[0][0]))

    with _base_of(model), evaluating(model), within(every_row=True), watching(model, tell):
        yield


def mean_gradients(model: Module, layers: Mapping[str, Linear], run: Callable[[], None]) -> dict[str, Array]:
    """Return G = ∂ℓ/∂W [o,i] of each layer, a mean over the backwards that reach it while run() runs the model.

    Of all parameters these weights alone have gradients meanwhile, which are added up apart from the parameters' own:
    whatever was frozen or trained is so again.

    Raises ValueError where none reaches a layer.
    """
    paths, calls = {id(layer): path for path, layer in layers.items()}, Counter[str]()

    def tell(seen: Seen) -> None:
        if seen.what == "gradient" and (path := paths.get(id(seen.module))) is not None:
            calls[path] += 1

    weights = [layer.weight for layer in layers.values()]
    with _base_of(model), trained_alone(model, weights), gradients_apart() as gradients, watching(model, tell):
        run()
    for path in layers:
        if not calls[path]:
            raise ValueError(f"no gradient reached {path}: call backward() of the loss of each batch")
    return {
        path: layer.turned(gradients[layer.weight] / layer.dtype.type(calls[path])) for path, layer in layers.items()
    }


def run_through(data: Data, each: Callable[[Mapping[str, Any]], Any], what: str) -> None:
    """Call a function without arguments; or each(batch) for each of some batches.

    Raises
    ------
    ValueError: there are none.  TypeError: data that are neither.
    """
    if callable(data):
        data()
        return
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise TypeError(
            f"{what} takes batches, each a dict of what the model is called with, or a function that runs the model; "
            f"got {'no data' if data is None else 'one dict' if isinstance(data, Mapping) else type(data).__name__}"
        )
    is_empty = True
    for batch in data:
        each(batch)
        is_empty = False
    if is_empty:
        raise ValueError(f"{what} takes batches; there are none")


def _base_of(model: Module) -> Any:
    return model.disable_adapter() if isinstance(model, Adapters) else nullcontext()  # type: ignore[attr-defined]
