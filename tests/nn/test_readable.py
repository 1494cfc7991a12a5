"""Printed, an object says what it is: its sizes and settings, over lines that fit, and never an address or a dump."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npora
from npora import LoraConfig, Trainer, TrainingArguments, get_peft_model
from npora.catalogue import CATALOGUE, draw
from npora.check import Context, taylor_test, v_curve
from npora.models import BertConfig, BertForSequenceClassification
from npora.nn import Cache, LayerCache, Linear, Module, Packing, Parameter
from npora.nn import functional as F
from npora.nn.readable import Readable, brief, laid_out
from npora.optim import SGD, AdamW
from npora.train import EvalPrediction
from tests.tiny import tiny_bert, tiny_peft

WIDEST = 120
# AutoModel… choose a class and are never made; tokenizers print themselves where they are.
NEVER_MADE = {"AutoTokenizer"}


def public_classes() -> list[type]:
    found = {}
    for module in pkgutil.walk_packages(npora.__path__, "npora."):
        if not module.name.endswith("__main__"):
            names = vars(importlib.import_module(module.name))
            found |= {names[name]: None for name in names.get("__all__", ()) if inspect.isclass(names[name])}
    return [cls for cls in found if not cls.__name__.startswith("AutoModel") and cls.__name__ not in NEVER_MADE]


@pytest.mark.parametrize("cls", public_classes(), ids=lambda cls: cls.__name__)
def test_no_public_class_prints_an_address(cls: type) -> None:
    assert cls.__repr__ is not object.__repr__


def assert_readable(value: object, lines: int) -> None:
    text = repr(value)
    assert " object at 0x" not in text and type(value).__name__ in text
    assert len(text.splitlines()) <= lines
    assert all(len(line) <= WIDEST for line in text.splitlines())


@pytest.mark.parametrize("name", CATALOGUE)
def test_layers_and_models_print_as_trees(name: str) -> None:
    layer, _, _ = draw(name)
    if isinstance(layer, Module):
        assert_readable(layer, 220)


def objects() -> list[Any]:
    model, rows = tiny_bert(), 40 * [{"input_ids": [1, 2], "labels": 1}]
    ids = np.full((40, 9), 3)
    output, _ = model(ids, labels=np.zeros(40, dtype=int))
    gpt2, _, batch = draw("gpt2")
    cache = Cache()
    trainer = Trainer(tiny_peft(), TrainingArguments(output_dir="x"), rows, compute_metrics=lambda _: {})
    trainer.state.log_history = 500 * [{"step": 1, "loss": 0.25}]
    for row in range(12):
        cache[row].append(np.ones((40, 6)), np.ones((40, 6)), Packing.dense(40, 1))
    return [
        model(ids)[0], output, gpt2(batch["input_ids"])[0], gpt2(**batch)[0], model.bert(ids)[0], cache, cache[0],
        LayerCache(), Packing.of_lengths(range(1, 30)), Parameter(np.ones((40, 50))), LoraConfig(r=8), model.config,
        TrainingArguments(output_dir="x"), trainer, trainer.state, EvalPrediction(ids, ids[:, 0]),
        AdamW(list(model.parameters())), SGD([{"params": [p]} for p in model.parameters()][:3], lr=0.1), Context(),
        v_curve(F.tanh, np.array([0.5, 1.5])), taylor_test(F.tanh, np.array([0.5, 1.5])),
    ]  # fmt: skip


def test_outputs_states_and_settings_print_on_a_few_lines() -> None:
    for value in objects():
        assert_readable(value, 14)


def test_an_output_says_its_loss_and_shapes_and_computes_nothing_for_it() -> None:
    output, _ = tiny_bert()(np.full((40, 9), 3), labels=np.zeros(40, dtype=int))
    assert (
        repr(output) == f"SequenceClassifierOutput(loss={float(output.loss):.6g}, logits=float32[40,3], num_items=40)"
    )
    gpt2, _, batch = draw("gpt2")
    output, _ = gpt2(**batch)
    assert "logits=computed when asked for" in repr(output) and "logits" not in vars(output)
    assert f"logits=float32[{','.join(map(str, output.logits.shape))}]" in repr(output)


def test_a_cache_says_how_many_layers_remember_how_much() -> None:
    cache = Cache()
    assert repr(cache) == "Cache(0 layers)"
    for layer in range(3):
        cache[layer].append(np.ones((5, 6)), np.ones((5, 4)), Packing.of_lengths([2, 3]))
    assert repr(cache) == "Cache(3 layers, lengths=[2, 3])"
    assert repr(cache[0]) == "LayerCache(lengths=[2, 3])"


def test_a_layer_says_its_shapes_settings_and_whether_it_is_trained() -> None:
    layer = Linear(4, 3)
    assert repr(layer) == "Linear(weight [3,4], bias [3], trainable)"
    layer.weight.requires_grad = False
    assert repr(layer) == "Linear(weight [3,4] frozen, bias [3] trainable)"
    assert (
        repr(Linear(2, 5, bias=False, dtype=np.float64).requires_grad_(False)) == "Linear(weight [5,2] float64, frozen)"
    )


def test_blocks_that_print_alike_stand_once_and_others_alone() -> None:
    config = BertConfig(vocab_size=11, hidden_size=6, num_hidden_layers=12, num_attention_heads=2, intermediate_size=7)
    model = BertForSequenceClassification(config, rng=0)
    assert "(layer.0-11): 12 x BertLayer(" in repr(model)
    adapted = repr(get_peft_model(model, LoraConfig(r=2, layers_to_transform=[4], task_type="SEQ_CLS")))
    for blocks in ("(layer.0-3): 4 x BertLayer(", "(layer.4): BertLayer(", "(layer.5-11): 7 x BertLayer("):
        assert adapted.count(blocks) == 1
    assert "default: lora_A [2,6], lora_B [6,2], trainable, r=2, s=4" in adapted


def test_a_tree_ends_with_the_number_of_parameters_and_of_those_that_are_trained() -> None:
    model = tiny_peft()
    sizes = [parameter.size for parameter in model.parameters()]
    trained = sum(parameter.size for parameter in model.parameters() if parameter.requires_grad)
    assert repr(model).endswith(f")  # {sum(sizes):,} parameters, {trained:,} trainable")


def test_a_module_of_ones_own_may_say_something_else() -> None:
    class Scale(Module):
        def __init__(self) -> None:
            self.gain, self.words, self.table = Parameter(np.ones(3)), "x" * 500, np.ones((50, 50))
            self.inner = [Linear(2, 3), Linear(3, 2)]

        def extra_repr(self) -> str:
            return "three gains"

    assert repr(Scale()).splitlines()[1:3] == [
        "  three gains",
        "  (inner.0): Linear(weight [3,2], bias [3], trainable)",
    ]
    del Scale.extra_repr
    assert_readable(Scale(), 6)


class Saying:
    """An object that prints as it is told."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (np.float32(1 / 3), "0.333333"),
        (3.0, "3.0"),
        (0.25, "0.25"),
        (np.int64(7), "7"),
        (np.arange(12), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"),
        (np.arange(13), "int64[13]"),
        (np.array([[1.23456, 2.0]]), "[[1.2346, 2. ]]"),
        (np.array([None]), "object[1]"),
        ("x" * 70, repr("x" * 70)),
        ("x" * 60 + "y" * 11, "'" + "x" * 55 + "…" + "y" * 11 + "'"),
        (print, "print"),
        (Saying("·"), "·"),
        (Saying("x" * 72), "x" * 72),
        (Saying("x" * 73), "Saying(…)"),
        (Saying(""), "Saying(…)"),
        ([0] * 12, str([0] * 12)),
        ([0] * 13, "list of 13"),
        (["x" * 68], str(["x" * 68])),
        (["x" * 69], "list of 1"),
        ([[[1]]], "[[list of 1]]"),
        ({"a": {"b": {"c": 1}}}, "{'a': {'b': dict of 1}}"),
        ({(1, 2): 3, 4: 5}, "{tuple of 2: 3, 4: 5}"),
        ((1,), "(1,)"),
        ((1, 2), "(1, 2)"),
        ([1], "[1]"),
        ({3, 1, 2}, "{1, 2, 3}"),
    ],
    ids=str,
)
def test_a_value_prints_shortly(value: object, text: str) -> None:
    assert brief(value) == text


def test_a_line_is_broken_where_an_item_would_stand_beyond_a_hundred_columns() -> None:
    assert laid_out("N", ["a" * 97]) == "N(" + "a" * 97 + ")"
    assert laid_out("N", ["a" * 97, "b"]) == "N(" + "a" * 97 + ",\n  b)"
    assert laid_out("N", ["a" * 98, "b", "c"]) == "N(\n  " + "a" * 98 + ",\n  b, c)"
    assert laid_out("N", []) == "N()"


def test_a_tree_prints_line_by_line() -> None:
    class Both(Module):
        def __init__(self, *inner: Module, gain: float = 2.5) -> None:
            self.first, self.inner, self.gain, self.word, self.off, self._own = Linear(2, 3), inner, gain, "", False, 4

    layers = [Linear(3, 3) for _ in range(2)]
    layers[1].weight.requires_grad = layers[1].bias.requires_grad = False
    assert repr(Both(layers[0], Linear(3, 3), layers[1], Linear(3, 3))).splitlines() == [
        "Both(",
        "  gain=2.5",
        "  (first): Linear(weight [3,2], bias [3], trainable)",
        "  (inner.0-1): 2 x Linear(weight [3,3], bias [3], trainable)",
        "  (inner.2): Linear(weight [3,3], bias [3], frozen)",
        "  (inner.3): Linear(weight [3,3], bias [3], trainable)",
        ")  # 57 parameters, 45 trainable",
    ]


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
arrays = st.tuples(st.integers(0, 40), st.integers(0, 5)).map(np.zeros)
values = st.recursive(
    plain | arrays | st.just(object()) | st.just(print),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=30) | st.tuples(inner),
)


@given(values)
def test_whatever_an_object_holds_it_prints_in_lines_that_fit(value: Any) -> None:
    @dataclass
    class Holder(Readable):
        one: Any
        many: dict[str, Any] = field(default_factory=dict)

    assert len(brief(value)) <= 90 and "\n" not in brief(value)
    assert all(len(line) <= WIDEST for line in repr(Holder(value, {"x": value})).splitlines())
