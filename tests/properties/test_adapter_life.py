"""The life of adapters of every method, in any order: whatever is added, activated, renamed, merged, swapped, saved,
combined, converted and deleted, the frozen bytes stay, what is active is its formula, off is the base bit for bit, and
what is saved is what is loaded."""

from __future__ import annotations

import gc
import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from npora import LoraConfig, PeftModel, get_peft_model
from npora.lora import hotswap_adapter, save_as_lora
from npora.nn import Linear, Module
from npora.nn.module import Array
from tests.lora.cases import METHODS
from tests.lora.formulas import FORMULAS
from tests.properties.strategies import normal

NAMES = ("a", "b", "c", "d")
CASES = {case.name: case.config for case in METHODS}
TARGETS = (["dense"], ["first.dense", "dense"], ["second.dense", "dense"])


class Part(Module):
    def __init__(self, i: int, o: int, dtype: Any) -> None:
        self.dense = Linear(i, o, rng=i, dtype=dtype)
        self.dense.bias.data = normal(o, o).astype(dtype)

    def forward(self, x: Array, rng: Any = None) -> Any:
        return self.dense(x, rng)


class Net(Module):
    """Two layers, each the `dense` of its part."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.first, self.second = Part(5, 4, dtype), Part(4, 8, dtype)

    def forward(self, x: Array, rng: Any = None) -> Any:
        z, back_first = self.first(x, rng)
        y, back_second = self.second(z, rng)
        return y, lambda dy: back_first(back_second(dy))


class Life(RuleBasedStateMachine):
    """A model, and beside it each adapter's config and, by layer, the values of its tensors."""

    @initialize(dtype=st.sampled_from([np.float64, np.float32]), kinds=st.tuples(*[st.sampled_from(sorted(CASES))] * 2))
    def begin(self, dtype: Any, kinds: tuple[str, str]) -> None:
        self.dtype, self.folder = np.dtype(dtype), Path(tempfile.mkdtemp())
        self.x = normal(3, 4, 5).astype(dtype)
        self.plain = {name: array.tobytes() for name, array in Net(dtype).state_dict().items()}
        self.without = Net(dtype)(self.x)[0].tobytes()
        self.model: PeftModel = get_peft_model(Net(dtype), replace(CASES[kinds[0]], target_modules=["dense"]), "a")
        self.held: dict[str, Any] = {}
        self.saved: dict[str, Any] = {}
        self.active, self.merged, self.blocks = ["a"], list[str](), list[Any]()
        self.note("a")
        self.draw("a", 1)
        self.add("b", kinds[1], ["dense"])
        self.activate(["a", "b"])

    def teardown(self) -> None:
        if not hasattr(self, "blocks"):
            return
        shutil.rmtree(self.folder)
        expected, bound = self.expected([*self.merged, *(n for n in self.active if n not in self.merged)])
        bytes_of_base = self.model.base_state()
        merged = self.model.merge_and_unload(safe_merge=True)
        np.testing.assert_allclose(merged(self.x)[0], expected, rtol=0, atol=bound)
        assert {name: array.tobytes() for name, array in bytes_of_base.items()} == self.plain

    def note(self, name: str) -> None:
        layers = {path: layer.adapters[name] for path, layer in self.model.lora_layers() if name in layer.adapters}
        values = {
            path: {at: getattr(adapter, at).data.astype(np.float64) for at in adapter.tensors}
            for path, adapter in layers.items()
        }
        self.held[name] = self.model.peft_config[name], {path: type(one) for path, one in layers.items()}, values

    def expected(self, names: list[str]) -> tuple[Array, float]:
        """The formulas of these adapters, one after another, in float64; and what rounding may make of it: each product
        of k terms has an error of at most k ε Σ |terms|, and each of these matrices is made of two or three such."""
        z, size = self.x.astype(np.float64), float(abs(self.x).max())
        for path in ("first.dense", "second.dense"):
            dense = Net(self.dtype).get_submodule(path)
            W0, b = dense.matrix.astype(np.float64), dense.bias.data.astype(np.float64)  # type: ignore[attr-defined]
            W, most = W0, abs(W0).max()
            for name in names:
                config, kinds, values = self.held[name]
                if path in kinds:
                    formula = FORMULAS.get(kinds[path].__name__, self.defined(name, path))
                    W, b = formula(W, W0, b, values[path], config)
                    tensors = [abs(tensor).max(initial=0) for tensor in values[path].values()]
                    most = max(most, abs(W).max(), float(np.prod([max(1, t) for t in tensors])) * 8)
            z = z @ W.T + b
            size = 8 * most * (size + 1)
        return z, 8 * float(np.finfo(self.dtype).eps) * size

    def defined(self, name: str, path: str) -> Any:
        """What the method of an adapter says itself, where no formula stands above."""
        layer = dict(self.model.lora_layers()).get(path)
        adapter = None if layer is None else layer.adapters.get(name)

        def formula(W: Array, W0: Array, b: Array, tensors: Any, config: Any) -> Any:
            assert adapter is not None
            if adapter.adds:
                changed, c, _ = adapter.merged(W0, b, *tensors.values())
                return W + changed - W0, c
            return adapter.merged(W, b, *tensors.values())[:2]

        return formula

    @invariant()
    def it_is_the_base_or_the_formula_of_what_acts(self) -> None:
        if not hasattr(self, "blocks"):
            return
        y = self.model(self.x)[0]
        if self.blocks:
            assert y.tobytes() == self.without
            return
        # A layer with something merged on it has that alone, any other one what is active.
        if self.merged:
            return
        expected, bound = self.expected(self.active)
        np.testing.assert_allclose(y, expected, rtol=0, atol=bound)

    @invariant()
    def the_frozen_bytes_and_every_adapters_values_are_what_they_were(self) -> None:
        if not hasattr(self, "blocks"):
            return
        assert {name: array.tobytes() for name, array in self.model.base_state().items()} == self.plain
        assert list(self.model.peft_config) and self.model.active_adapters == self.active
        assert self.model.peft_config.keys() == self.held.keys()
        for path, layer in self.model.lora_layers():
            for name, adapter in layer.adapters.items():
                for at, value in self.held[name][2][path].items():
                    assert (getattr(adapter, at).data == value).all()

    @rule(name=st.sampled_from(NAMES), kind=st.sampled_from(sorted(CASES)), on=st.sampled_from(TARGETS))
    def add(self, name: str, kind: str, on: list[str]) -> None:
        config = replace(CASES[kind], target_modules=on)
        if name in self.held:
            with pytest.raises(ValueError, match="already"):
                self.model.add_adapter(name, config)
        else:
            self.model.add_adapter(name, config, seed=len(self.held))
            self.note(name)
            self.draw(name, len(kind))

    @rule(name=st.sampled_from(NAMES), seed=st.integers(0, 99))
    def draw(self, name: str, seed: int) -> None:
        """New values, as a step of an optimiser assigns them."""
        if name not in self.held or name in self.merged:
            return
        for _, layer in self.model.lora_layers():
            for adapter in [layer.adapters[name]] if name in layer.adapters else []:
                for number, (tensor, parameter) in enumerate(adapter.named()):
                    if tensor.trained:
                        moved = parameter.data + 0.3 * normal(seed + number, *parameter.shape)
                        parameter.data = moved.clip(-2, 2).astype(self.dtype)
        self.note(name)

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    def activate(self, names: list[str]) -> None:
        if not set(names) <= set(self.held):
            with pytest.raises(ValueError, match="there is no adapter"):
                self.model.set_adapter(names)
        elif self.merged:
            with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\) first"):
                self.model.set_adapter(names)
        else:
            self.model.set_adapter(names)
            self.active = list(dict.fromkeys(names))

    @rule(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def rename(self, old: str, new: str) -> None:
        if old not in self.held or new in self.held:
            with pytest.raises(ValueError, match="adapter"):
                self.model.rename_adapter(old, new)
            return
        self.model.rename_adapter(old, new)
        self.held = {new if name == old else name: value for name, value in self.held.items()}
        self.active = [new if name == old else name for name in self.active]
        self.merged = [new if name == old else name for name in self.merged]

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        if name not in self.held or name in self.active or name in self.merged:
            with pytest.raises((ValueError, RuntimeError), match="adapter"):
                self.model.delete_adapter(name)
        else:
            self.model.delete_adapter(name)
            del self.held[name]

    @rule(names=st.none() | st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    def merge(self, names: list[str] | None) -> None:
        chosen = self.active if names is None else [name for name in names if name in self.held]
        if self.merged or not chosen:
            return
        before = self.model(self.x)[0]
        self.model.merge_adapter(None if names is None else chosen, safe_merge=True)
        self.merged = list(chosen)
        if not self.blocks and chosen == self.active:
            _, bound = self.expected(chosen)
            np.testing.assert_allclose(self.model(self.x)[0], before, rtol=0, atol=bound)

    @precondition(lambda self: getattr(self, "merged", []))
    @rule()
    def unmerge(self) -> None:
        self.model.unmerge_adapter()
        self.merged = []

    @rule()
    def enter(self) -> None:
        if len(self.blocks) < 2:
            self.blocks.append(self.model.disable_adapter())
            self.blocks[-1].__enter__()

    @precondition(lambda self: getattr(self, "blocks", None))
    @rule()
    def leave(self) -> None:
        self.blocks.pop().__exit__(None, None, None)

    @rule(name=st.sampled_from(NAMES))
    def save_and_load_alone(self, name: str) -> None:
        """Onto a base of its own, where it does the same bit for bit."""
        if name in self.held:
            self.model.save_pretrained(self.folder, selected_adapters=[name])
            self.saved[name] = self.held[name]
            again = PeftModel.from_pretrained(Net(self.dtype), self.folder / name)
            for path, layer in again.lora_layers():
                for at, value in self.held[name][2][path].items():
                    assert (getattr(layer.adapters["default"], at).data == value).all()
            if not self.blocks and not self.merged and self.active == [name]:
                assert again(self.x)[0].tobytes() == self.model(self.x)[0].tobytes()

    @rule(name=st.sampled_from(NAMES), source=st.sampled_from(NAMES))
    def swap(self, name: str, source: str) -> None:
        if name in self.held and source in self.saved and name not in self.merged:
            order = list(self.held)
            hotswap_adapter(self.model, self.folder / source, name)
            self.held[name] = (self.model.peft_config[name], *self.saved[source][1:])
            assert list(self.held) == order

    @rule(names=st.lists(st.sampled_from((*NAMES, "__base__")), min_size=4, max_size=4))
    def go_by_rows(self, names: list[str]) -> None:
        if not set(names) <= {*self.held, "__base__"} or self.merged:
            return
        y, _ = self.model(self.x, adapter_names=names)
        for row, name in enumerate(names):
            expected, bound = self.expected([] if name == "__base__" or self.blocks else [name])
            np.testing.assert_allclose(y[row], expected[row], rtol=0, atol=bound)

    @rule(one=st.sampled_from(NAMES), other=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def combine(self, one: str, other: str, new: str) -> None:
        if not {one, other} <= self.held.keys() or new in self.held:
            return
        try:
            self.model.add_weighted_adapter([one, other], [0.5, -1.0], new, "svd", svd_rank=5)
        except ValueError as error:
            assert "changes the bias" in str(error)
            return
        self.note(new)

    @rule(name=st.sampled_from(NAMES))
    def convert(self, name: str) -> None:
        if name in self.held:
            found = save_as_lora(self.folder / "converted", self.model, 1.0, name)
            again = PeftModel.from_pretrained(Net(self.dtype), self.folder / "converted")
            if not found.changed_biases:
                expected, bound = self.expected([name])
                np.testing.assert_allclose(again(self.x)[0], expected, rtol=0, atol=4 * bound)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_a_thousand_adds_and_deletes_leave_memory_and_outputs_as_they_were() -> None:
    """Of all methods in turn. Each adapter, its config and its arrays are gone, and what stood beside them too."""
    model, x = get_peft_model(Net(), LoraConfig(r=2, target_modules=["dense"]), "stays"), normal(3, 4, 5)
    y, names = model(x)[0].tobytes(), [name for name, _ in model.named_parameters()]
    gone: list[Any] = []

    def turns(number: int) -> int:
        for kind in [kind for _ in range(-(-number // len(CASES))) for kind in CASES]:
            config = replace(CASES[kind], target_modules=["dense"])
            model.add_adapter("goes", config)
            model.set_adapter(["stays", "goes"])
            model(x)
            adapters = [layer.adapters["goes"] for _, layer in model.lora_layers()]
            arrays = [parameter.data for adapter in adapters for parameter in adapter.parameters()]
            gone.extend(weakref.ref(one) for one in (config, *adapters, *arrays))
            model.set_adapter("stays")
            model.delete_adapter("goes")
        adapters, arrays, config = [], [], None
        gc.collect()
        assert not any(reference() is not None for reference in gone)
        gone.clear()
        return len(gc.get_objects())

    turns(100)
    before = turns(1)
    assert turns(1000) - before < 100
    assert model(x)[0].tobytes() == y and [name for name, _ in model.named_parameters()] == names
