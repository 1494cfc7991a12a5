"""A layer with each method's adapter on it: the rows follow from the methods' own `samples`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from npora.catalogue.row import Draw, Drawn, Draws, Row, call
from npora.lora import HiraConfig, LoraConfig, PeftConfig
from npora.lora.inject import adapted_layer
from npora.lora.methods import METHODS, method_of
from npora.nn import Conv1D, Embedding, LayerNorm, Linear, Module, Parameter, RMSNorm
from npora.stored import FORMS

CONFIGS: dict[str, PeftConfig] = {
    **{name: method.config_class(**fields) for method in METHODS if Embedding not in method.adapts
       for name, fields in method.samples.items()},
    "hira_linear, from normal numbers": HiraConfig(r=5, init_weights="gaussian"),
    "lora_linear, with patterns": LoraConfig(r=2, rank_pattern={"dense": 4}, alpha_pattern={"dense": 3}),
}  # fmt: skip

# The config of a table's adapter may mean another method on a Linear.
OF_TABLES: dict[str, PeftConfig] = {
    name: method.config_class(**fields) for method in METHODS if Embedding in method.adapts
    for name, fields in method.samples.items()
}  # fmt: skip


def goes_on(config: PeftConfig, kind: type[Module]) -> bool:
    return method_of(config, kind.__new__(kind)) is not None  # its kind is all that is asked


def drops(config: PeftConfig) -> bool:
    """Whether a config of this kind can ask for dropout."""
    return any(f.name.endswith("_dropout") and f.type != "Unsupported" for f in fields(config))


def outputs(config: PeftConfig, o: int) -> int:
    """The first number from o on of which an adapter of this config can have outputs: RoAd's have groups."""
    return o + -o % getattr(config, "group_size", 1)


def on_linear(i: int, o: int) -> Linear:
    return Linear(i, o, rng=0)


def on_a_norm(i: int, o: int) -> Any:
    return LayerNorm(i)


def on_an_rms_norm(i: int, o: int) -> Any:
    return RMSNorm(i)


def on_conv1d(i: int, o: int) -> Linear:
    return Conv1D(i, o, bias=False, rng=0)


def stored(form: str) -> Callable[[int, int], Linear]:
    def base(i: int, o: int) -> Linear:
        layer = on_linear(i, o)
        layer.weight = Parameter(FORMS[form](layer.weight.data), requires_grad=False)
        return layer

    return base


def adapted(config: PeftConfig, *dropouts: float, base: Callable[[int, int], Any] = on_linear) -> Draws:
    """A layer at the path `dense` with an adapter of this config, of sizes that are none of the config's own; with one
    of the dropouts, where it can have any."""
    own = [value for f in fields(config) if (value := getattr(config, f.name)) != f.default]

    def drawn(d: Draw) -> Drawn:
        n, i, o = [size for size in d.sizes(7) if size not in own][:3]
        layer = adapted_layer(base(i, outputs(config, o)), config, np.random.default_rng(1), "dense")
        if drops(config):
            layer.adapters["default"].dropout_p = float(d.rng.choice(dropouts))
        return call(d.moved(layer), d.normal(n, i), rng=np.random.default_rng(2))

    return drawn


def rows_of(name: str, config: PeftConfig) -> Iterator[Row]:
    if not goes_on(config, Linear):
        yield Row(name, adapted(config, base=on_a_norm), row_wise=True)
        yield Row(f"{name}, of an RMSNorm", adapted(config, base=on_an_rms_norm), row_wise=True)
    elif drops(config):
        yield Row(name, adapted(config, 0.0, 0.2))
        yield Row(f"{name}, without dropout", adapted(config, 0.0), row_wise=True)
        yield Row(f"{name}, with dropout", adapted(config, 0.3))
    else:
        yield Row(name, adapted(config), row_wise=True)
    if goes_on(config, Conv1D):
        yield Row(f"{name}, on a Conv1D", adapted(config, 0.0, base=on_conv1d), row_wise=True)


def adapted_table(config: PeftConfig, padding_idx: int | None = None) -> Draws:
    """A table of embeddings with an adapter of this config, and ids of which some stand twice."""

    def drawn(d: Draw) -> Drawn:
        base: Any = Embedding(9, 5, padding_idx, rng=1)
        layer = adapted_layer(base, config, np.random.default_rng(1), "dense")
        return call(d.moved(layer), np.concatenate([d.rng.integers(0, 8, 4), [1, 1]]))

    return drawn


ROWS = [
    *(row for name, config in CONFIGS.items() for row in rows_of(name, config)),
    *(
        Row(f"lora_linear, on a base in {form}", adapted(CONFIGS["lora_linear"], 0.0, base=stored(form)), row_wise=True)
        for form in FORMS
    ),
]
ROWS.append(Row("trainable_tokens, of a head", adapted(OF_TABLES["trainable_tokens"]), row_wise=True))
for _name, _config in OF_TABLES.items():
    ROWS += [Row(_name, adapted_table(_config)), Row(f"{_name}, padding", adapted_table(_config, 8))]
