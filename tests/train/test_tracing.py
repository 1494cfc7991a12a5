"""A number that is not finite is named down to the module that made it, forward or backward."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Trainer
from npora.models.outputs import SequenceClassifierOutput
from npora.nn import Linear, Module
from npora.nn.evaluating import Seen, watching
from npora.stored import BFloat16
from npora.train.finite import NotFinite
from npora.train.micro_batches import accumulate_gradients
from npora.train.state import trainable
from npora.train.tracing import _said, first_not_finite, is_finite
from tests.models.test_all_logits import MODELS, made
from tests.tiny import tiny_peft, tiny_rows
from tests.train.test_trainer import ROWS, arguments

LAYER = "base_model.model.bert.encoder.layer.1"


def poisoned(path: str, value: float = np.inf) -> Any:
    """A model one frozen weight of which is of this value."""
    model = tiny_peft()
    parameter = model.get_parameter(path)
    changed = parameter.data.copy()
    changed[1, 2] = value
    parameter.data = changed
    return model


def test_the_first_module_whose_output_is_not_finite_is_named(tmp_path: Path) -> None:
    model = poisoned(f"{LAYER}.intermediate.dense.weight")
    with pytest.raises(NotFinite) as error:
        Trainer(model, arguments(tmp_path), ROWS).train()
    assert (
        f"step 1: the loss is nan, the gradient's norm nan; the first not finite is the output of {LAYER}."
        "intermediate.dense (Linear), while what it is given is finite, "
    ) in str(error.value)
    assert "; its weight holds nan or inf (with the dataset's examples " in str(error.value)


def test_a_product_that_overflows_is_named_with_what_it_was_given(tmp_path: Path) -> None:
    """All weights are finite: a norm's makes what the next product cannot hold."""
    model = tiny_peft()
    norm = model.get_parameter(f"{LAYER}.attention.output.LayerNorm.weight")
    norm.data = np.full_like(norm.data, 3e38)
    with pytest.raises(NotFinite) as error:
        Trainer(model, arguments(tmp_path), ROWS).train()
    assert f"the output of {LAYER}." in str(error.value) and "holds nan" not in str(error.value)


class Spoilt(Module):
    """y = x, whose gradient is nan in the batches that have the number 7 among their ids."""

    def __init__(self, inner: Module) -> None:
        self.inner = inner

    def forward(self, x: Any, *args: Any, **keywords: Any) -> Any:
        y, backward = self.inner(x, *args, **keywords)
        return y, lambda dy: backward(dy) * np.nan


@pytest.mark.parametrize("tokens_at_once", [0, 8])
def test_a_gradient_is_named_where_it_is_made(tmp_path: Path, tokens_at_once: int) -> None:
    model = tiny_peft()
    model.set_submodule(f"{LAYER}.intermediate", Spoilt(model.get_submodule(f"{LAYER}.intermediate")))
    with pytest.raises(NotFinite) as error:
        Trainer(model, arguments(tmp_path, tokens_at_once=tokens_at_once), ROWS).train()
    assert f"is the gradient of {LAYER}.intermediate (Spoilt), while the gradient that it is given is finite" in str(
        error.value
    )


class Unlucky(Module):
    """y = x, but nan where its generator draws what it drew the first time."""

    def __init__(self, inner: Module) -> None:
        self.inner, self.drawn = inner, list[float]()

    def forward(self, x: Any, rng: Any = None) -> Any:
        draw = rng.random()
        self.drawn = self.drawn or [draw]
        y, backward = self.inner(x, rng=rng)
        return y * (np.nan if draw in self.drawn else 1), backward


@pytest.mark.parametrize("tokens_at_once", [0, 8])
def test_the_step_that_is_looked_at_draws_what_the_step_drew(tmp_path: Path, tokens_at_once: int) -> None:
    model = tiny_peft()
    model.set_submodule(f"{LAYER}.intermediate", Unlucky(model.get_submodule(f"{LAYER}.intermediate")))
    with pytest.raises(NotFinite, match=rf"step 1: .* the output of {LAYER}.intermediate \(Unlucky\)"):
        Trainer(model, arguments(tmp_path, tokens_at_once=tokens_at_once), ROWS).train()


def test_a_parameters_own_gradient_is_looked_at_too(tmp_path: Path) -> None:
    """What the module returns is finite, and its lora_A has the nan."""
    model = tiny_peft()
    path = f"{LAYER}.attention.self.value"
    layer: Any = model.get_submodule(path)
    parameter = next(p for name, p in layer.named_members() if "lora_A" in name)
    forward = layer.forward

    def spoilt(*args: Any, **keywords: Any) -> Any:
        y, backward = forward(*args, **keywords)

        def back(dy: Any) -> Any:
            dx = backward(dy)
            parameter.accumulate(np.full_like(parameter.data, np.inf))
            return dx

        return y, back

    type_forward = type(layer).forward
    type(layer).forward = lambda self, *a, **k: spoilt(*a, **k) if self is layer else type_forward(self, *a, **k)
    try:
        with pytest.raises(NotFinite, match=f"is the gradient of {path} "):
            Trainer(model, arguments(tmp_path), ROWS).train()
    finally:
        type(layer).forward = type_forward


def test_the_rows_are_those_of_the_micro_batch_and_the_generator_is_the_steps(tmp_path: Path) -> None:
    """One example has an id whose embedding overflows: of the micro-batches, the one with it is found."""
    examples = [{"input_ids": [number % 5 + 1] * 4, "labels": number % 3} for number in range(8)]
    examples[5] = {"input_ids": [9, 1, 2, 3], "labels": 1}
    model = poisoned("base_model.model.bert.embeddings.word_embeddings.weight", 1.0)
    table = model.get_parameter("base_model.model.bert.embeddings.word_embeddings.weight")
    table.data = np.where(np.arange(len(table.data))[:, None] == 9, np.float32(np.inf), table.data)
    args = arguments(tmp_path, per_device_train_batch_size=8, tokens_at_once=8, train_sampling_strategy="sequential")
    with pytest.raises(NotFinite) as error:
        Trainer(model, args, examples).train()
    (named,) = [part for part in str(error.value).split("(") if part.startswith("with the dataset's examples")]
    listed = named.removeprefix("with the dataset's examples ").partition(")")[0].split(", ")
    assert "5" in listed and len(listed) < 8
    assert "word_embeddings (Embedding)" in str(error.value) and "its weight holds nan or inf" in str(error.value)


def test_a_step_that_is_skipped_is_told_of_and_nothing_is_left_on_the_model(tmp_path: Path, caplog: Any) -> None:
    examples = [
        *(example for example in tiny_rows(11) if 30 not in example["input_ids"]),
        {"input_ids": [30, 1], "labels": 1},
    ]
    model = tiny_peft()
    table = model.get_parameter("base_model.model.bert.embeddings.word_embeddings.weight")
    table.data = np.where(np.arange(len(table.data))[:, None] == 30, np.float32(np.nan), table.data)
    args = arguments(tmp_path, per_device_train_batch_size=3, on_nonfinite="skip")
    with caplog.at_level(logging.WARNING, "npora"):
        Trainer(model, args, examples).train()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3 and all("word_embeddings (Embedding); its weight holds nan or inf" in text for text in told)
    assert all(str(len(examples) - 1) in text.partition("dataset's examples ")[2] for text in told)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_of_a_step_whose_numbers_are_finite_nothing_is_named(name: str) -> None:
    """No family has a module with infinities of its own, as masks are."""
    model = made(name)
    ids = np.array([[3, 5, 2, 7], [6, 2, 8, 1]])
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids}
    seen: list[Seen] = []
    with watching(model, seen.append):
        accumulate_gradients(model, batch, np.random.default_rng(0))
    assert all(is_finite(one.made) for one in seen)
    assert {one.what for one in seen} == {"output", "gradient"}
    named = first_not_finite(model, [([0, 1], batch)], np.random.default_rng(0), 0)
    assert named.endswith("in each module nothing where the step is computed again")


def test_gradients_that_are_there_are_left_as_they_are() -> None:
    model = tiny_peft()
    for i, parameter in enumerate(trainable(model).values()):
        parameter.grad = np.full_like(parameter.data, i)
    before = [parameter.grad for parameter in trainable(model).values()]
    batch = {"input_ids": np.array([[3, 5, 2]]), "labels": np.array([1])}
    first_not_finite(model, [([0], batch)], np.random.default_rng(0), 0)
    assert all(p.grad is g for p, g in zip(trainable(model).values(), before, strict=True))


def test_numbers_are_looked_for_three_deep() -> None:
    nan = np.array([1.0, np.nan])
    assert not is_finite(SequenceClassifierOutput(np.zeros(()), nan, 1))
    assert not is_finite(SequenceClassifierOutput(0.0, [nan], 1))  # type: ignore[arg-type]
    assert is_finite(SequenceClassifierOutput(0.0, [[nan]], 1))  # type: ignore[arg-type]
    for held in (nan, [nan], [[nan]], [[[nan]]], (1, nan), {"a": nan}, {"a": [nan]}, float("inf"), np.float32("nan")):
        assert not is_finite(held)
    for unseen in ([[[[nan]]]], {"a": {"b": nan}}, "nan", np.array([2]), 3, None, [1.0, {"a": np.zeros(0)}]):
        assert is_finite(unseen)
    assert is_finite(np.full(9, 3e38, np.float32)) and not is_finite(np.array([np.inf, -np.inf]))


@pytest.mark.parametrize(
    ("path", "what", "given", "said"),
    [
        ("a.b", "output", [np.array([0.25, -0.5])],
         "the output of a.b (Linear), while what it is given is finite, 0.5 at the most"),
        ("", "gradient", np.array([3.0, -2.0]),
         "the model's (Linear) own gradient, while the gradient that it is given is finite, 3 at the most"),
        ("a", "output", np.array([np.nan]),
         "the output of a (Linear), and what it is given is not finite either, by what stands between it and other "
         "modules"),
        ("a", "output", np.array([7]), "the output of a (Linear)"),
        ("a", "output", [np.array([4.0]), np.zeros(0), np.array([0.5])],
         "the output of a (Linear), while what it is given is finite, 4 at the most"),
    ],
)  # fmt: skip
def test_what_is_said_of_the_first(path: str, what: str, given: Any, said: str) -> None:
    layer = Linear(2, 2)
    assert _said(Seen(path, layer, what, given, None)) == said
    layer.weight.requires_grad = False
    layer.weight.data = BFloat16(np.array([[0, 0x3F80]] * 2, np.uint16))
    assert _said(Seen(path, layer, what, given, None)) == said
    layer.weight.data = BFloat16(np.array([[0, 0x7F80]] * 2, np.uint16))  # ∞
    assert _said(Seen(path, layer, what, given, None)) == f"{said}; its weight holds nan or inf"
    layer.weight.data, layer.bias.data = np.zeros((2, 2)), np.array([0.0, np.inf])
    assert _said(Seen(path, layer, what, given, None)) == f"{said}; its bias holds nan or inf"


@pytest.mark.parametrize(("number", "shown"), [(16, ""), (17, ", …")])
def test_up_to_sixteen_examples_are_named(number: int, shown: str) -> None:
    model = poisoned(f"{LAYER}.intermediate.dense.weight")
    batch = {"input_ids": np.full((number, 2), 3), "labels": np.zeros(number, int)}
    named = first_not_finite(model, [(list(range(5, 5 + number)), batch)], np.random.default_rng(0), 0)
    assert named.endswith(f"(with the dataset's examples {', '.join(map(str, range(5, 21)))}{shown})")


def test_a_loss_and_a_sum_of_gradients_may_be_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = {"input_ids": np.array([[3, 5], [2, 1]]), "labels": np.array([1, 0])}
    where = ("npora.train.tracing.losses_and_gradient", lambda model, piece, rng: (np.inf, 2))
    model = tiny_peft()
    with monkeypatch.context() as patch:
        patch.setattr(*where)
        assert first_not_finite(model, [([0, 1], batch)], np.random.default_rng(0), 0).startswith(
            "the loss of finite outputs, inf (with"
        )
    names = list(trainable(model))
    parameters = list(trainable(model).values())

    def large(model: Any, piece: Any, rng: Any) -> tuple[float, int]:
        parameters[1].accumulate(np.full_like(parameters[1].data, 3e38))
        return 1.0, 1

    with monkeypatch.context() as patch:
        patch.setattr("npora.train.tracing.losses_and_gradient", large)
        assert first_not_finite(model, [([0, 1], batch)], np.random.default_rng(0), 2) == (
            "the sum of the gradients of its micro-batches, each of which is finite"
        )
    parameters[2].grad = np.full_like(parameters[2].data, np.nan)
    parameters[1].grad = np.full_like(parameters[1].data, np.nan)
    again = "and in each module nothing where the step is computed again"
    assert first_not_finite(model, [([0, 1], batch)], np.random.default_rng(0), 0) == (
        f"the gradient of {names[1]}, {again}"
    )
    parameters[1].grad = parameters[2].grad = None
    assert (
        first_not_finite(model, [([0, 1], batch)], np.random.default_rng(0), 0) == f"the norm of all gradients, {again}"
    )
