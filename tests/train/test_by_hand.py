"""Trainings step by step against NumPy: examples, masks, losses, clipping, rates, decay and what the log says of
them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Trainer, TrainingArguments
from tests.watched import Call, Watched, losses_and_gradients, numbers, watched_rows

DECAYING = ("table.weight", "weight")  # neither biases nor norms

# Each shows what the others hide: a last step of fewer batches, a last batch of fewer examples, both dropped, cut
# batches.
CASES: dict[str, dict[str, Any]] = {
    "linear": {"examples": 17, "size": 3, "accumulation": 4, "num_train_epochs": 2.4, "warmup_steps": 0.3,
               "lr_scheduler_type": "linear", "max_grad_norm": 0.3},
    "cosine": {"examples": 13, "size": 4, "accumulation": 1, "max_steps": 7, "warmup_steps": 1, "max_grad_norm": 0.6,
               "lr_scheduler_type": "cosine", "data_seed": 5},
    "sequential": {"examples": 14, "size": 4, "accumulation": 2, "num_train_epochs": 3, "max_grad_norm": 0.0,
                   "train_sampling_strategy": "sequential", "dataloader_drop_last": True, "warmup_steps": 2},
    "dropped": {"examples": 15, "size": 2, "accumulation": 3, "num_train_epochs": 2, "dataloader_drop_last": True,
                "max_grad_norm": 0.25, "gradient_checkpointing": True},
    "cut": {"examples": 21, "size": 11, "accumulation": 2, "num_train_epochs": 2, "tokens_at_once": 9,
            "max_grad_norm": 0.2, "activation_checkpointing": True},
    "sgd": {"examples": 11, "size": 2, "accumulation": 2, "num_train_epochs": 2, "optim": "sgd", "max_grad_norm": 0.4},
    "singles": {"examples": 9, "size": 1, "accumulation": 1, "num_train_epochs": 1, "max_grad_norm": 0.7,
                "lr_scheduler_type": "cosine"},
}  # fmt: skip


def drawn(seed: int) -> dict[str, Any]:
    """Settings at random, the same in every run."""
    rng = np.random.default_rng(seed)
    return {
        "examples": int(rng.integers(5, 30)), "size": int(rng.integers(1, 7)), "accumulation": int(rng.integers(1, 5)),
        "num_train_epochs": float(rng.uniform(0.7, 2.6)), "warmup_steps": float(rng.choice([0, 0.4, 1, 3])),
        "lr_scheduler_type": str(rng.choice(["linear", "cosine"])), "max_grad_norm": float(rng.choice([0, 0.2, 0.5])),
        "dataloader_drop_last": bool(rng.random() < 0.3), "tokens_at_once": int(rng.choice([0, 6, 512])),
        "optim": str(rng.choice(["adamw_torch", "sgd"])), "data_seed": int(rng.integers(9)),
    }  # fmt: skip


def training_arguments(path: Path, size: int, accumulation: int, **changes: Any) -> TrainingArguments:
    defaults: dict[str, Any] = {
        "learning_rate": 0.07, "weight_decay": 0.3, "adam_beta1": 0.7, "adam_beta2": 0.93, "adam_epsilon": 1e-2,
        "save_strategy": "no", "disable_tqdm": True, "seed": 3,
    }  # fmt: skip
    return TrainingArguments(
        str(path), per_device_train_batch_size=size, gradient_accumulation_steps=accumulation, **{**defaults, **changes}
    )


def log_of(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{name: math.nan if value == "nan" else value for name, value in line.items()} for line in lines]


class ByHand:
    """The steps of one training, from the calls that the model saw."""

    def __init__(self, args: TrainingArguments, start: dict[str, Any], examples: list[dict[str, Any]]) -> None:
        self.args, self.values, self.examples = args, start, examples
        self.m = {name: np.zeros_like(value) for name, value in start.items()}
        self.v = {name: np.zeros_like(value) for name, value in start.items()}
        self.updates = 0

    def rate(self, step: int, steps: int) -> float:
        args = self.args
        warmup = math.ceil(args.warmup_steps * steps) if args.warmup_steps < 1 else int(args.warmup_steps)
        if step < warmup:
            return args.learning_rate * step / warmup
        p = (step - warmup) / max(1, steps - warmup)
        return args.learning_rate * (1 - p if args.lr_scheduler_type == "linear" else (1 + math.cos(math.pi * p)) / 2)

    def step(self, calls: list[Call], rate: float) -> dict[str, Any]:
        """The line that the log has for it."""
        found = [losses_and_gradients(self.values, call) for call in calls]
        items = sum(count for _, _, count, _ in found)
        g = {name: sum(part[name] for *_, part in found) / max(items, 1) for name in self.values}
        norm = math.sqrt(sum(float((part**2).sum()) for part in g.values()))
        limit = self.args.max_grad_norm
        scale = min(1.0, limit / (norm + 1e-6)) if limit else 1.0
        if items:
            self.updates += 1
            for name in self.values:
                self.update(name, scale * g[name], rate)
        tokens = sum(len(self.examples[i]["input_ids"]) for call in calls for i in numbers(call))
        loss = sum(part for _, part, _, _ in found) / items if items else math.nan
        return {"loss": loss, "grad_norm": norm, "learning_rate": rate, "tokens": tokens}

    def update(self, name: str, g: Any, rate: float) -> None:
        args, t = self.args, self.updates
        decay = args.weight_decay if name in DECAYING else 0.0
        theta = self.values[name]
        if args.optim == "sgd":
            self.values[name] = theta - rate * (g + decay * theta)
            return
        b1, b2 = args.adam_beta1, args.adam_beta2
        self.m[name] = b1 * self.m[name] + (1 - b1) * g
        self.v[name] = b2 * self.v[name] + (1 - b2) * g**2
        m, v = self.m[name] / (1 - b1**t), self.v[name] / (1 - b2**t)
        self.values[name] = theta * (1 - rate * decay) - rate * m / (np.sqrt(v) + args.adam_epsilon)


def rows_of_steps(args: TrainingArguments, examples: int) -> list[list[int]]:
    """How many examples each batch of each step of one epoch has."""
    size = args.per_device_train_batch_size
    kept = examples - examples % size if args.dataloader_drop_last else examples
    batches = [min(size, kept - first) for first in range(0, kept, size)]
    every = args.gradient_accumulation_steps
    return [batches[first : first + every] for first in range(0, len(batches), every)]


@pytest.mark.parametrize("case", [*CASES, *range(6)])
def test_every_step_is_what_numpy_makes_of_it(tmp_path: Path, case: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings = dict(CASES[case]) if case in CASES else drawn(case)
    recomputes = "gradient_checkpointing" in settings or "activation_checkpointing" in settings
    model, examples = Watched(), watched_rows(settings.pop("examples"))
    args = training_arguments(tmp_path, settings.pop("size"), settings.pop("accumulation"), **settings)
    epoch = rows_of_steps(args, len(examples))
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * len(epoch))
    hand, frozen = ByHand(args, model.values(), examples), model.frozen.data.tobytes()
    trainer = Trainer(model, args, examples)
    result = trainer.train()

    calls, seen, losses, clipped, tokens = iter(model.calls), [], [], 0, 0
    log = log_of(tmp_path)
    assert [line["step"] for line in log] == list(range(1, steps + 1)) and result.global_step == steps
    for step, line in enumerate(log):
        used: list[Call] = []
        for batch in epoch[step % len(epoch)]:
            part: list[Call] = []
            while sum(len(call.input_ids) for call in part) < batch:
                part.append(next(calls))
            used += part
            cut = 0 < args.tokens_at_once < sum(int(call.attention_mask.sum()) for call in part)
            assert sum(len(call.input_ids) for call in part) == batch and (len(part) > 1) == cut
        for call in used:
            for i, ids, mask, label in zip(
                numbers(call), call.input_ids, call.attention_mask, call.labels, strict=True
            ):
                assert ids[mask == 1].tolist() == examples[i]["input_ids"] and label == examples[i]["labels"]
            assert call.recomputing == recomputes
        seen.append([i for call in used for i in numbers(call)])
        expected = hand.step(used, hand.rate(step, steps))
        for name, value in expected.items():
            assert line[name] == pytest.approx(value, rel=1e-9, abs=1e-15, nan_ok=True), (step, name)
        assert line["epoch"] == pytest.approx((step + 1) / len(epoch), rel=1e-15)
        losses += [] if math.isnan(expected["loss"]) else [expected["loss"]]
        clipped += bool(args.max_grad_norm) and expected["grad_norm"] > args.max_grad_norm
        tokens += expected["tokens"]
    assert next(calls, None) is None
    for name, value in model.values().items():
        # Adam divides by √v̂ + 1e-2: rounding of the gradient is not enlarged by more than 1e2.
        np.testing.assert_allclose(value, hand.values[name], rtol=0, atol=1e-11, err_msg=name)
    assert model.frozen.data.tobytes() == frozen and not model.gradient_checkpointing
    assert result.training_loss == result.metrics["train_loss"] == pytest.approx(np.mean(losses), rel=1e-9)
    assert result.metrics["epoch"] == trainer.state.epoch == steps / len(epoch)
    assert trainer.state.num_input_tokens_seen == tokens
    assert clipped or not args.max_grad_norm  # so that clipping takes part

    kept = sum(map(sum, epoch))
    epochs = [
        list(itertools.chain(*seen[first : first + len(epoch)])) for first in range(0, len(seen), len(epoch))
    ]  # fmt: skip
    for order in epochs:
        assert len(set(order)) == len(order) and (len(order) == kept or order is epochs[-1])
        assert (order == list(range(len(order)))) == (args.train_sampling_strategy == "sequential")
    if args.train_sampling_strategy == "random" and len(epochs) > 1:
        assert epochs[0][: len(epochs[1])] != epochs[1]
    assert len(set(masks(model.calls))) == len(model.calls)


def calls_of(path: Path, **changes: Any) -> list[Call]:
    model = Watched()
    args = training_arguments(path, 7, 2, num_train_epochs=3, tokens_at_once=0, **changes)
    Trainer(model, args, watched_rows(31)).train()
    return model.calls


def orders(calls: list[Call]) -> list[list[int]]:
    return [numbers(call) for call in calls]


def masks(calls: list[Call]) -> list[bytes]:
    """Of the first example of each call: two calls may have another number of examples, and one generator."""
    return [call.keep[0].tobytes() for call in calls]


def test_the_seed_is_of_the_order_and_of_dropout_and_data_seed_of_the_order_alone(tmp_path: Path) -> None:
    first, again = calls_of(tmp_path, seed=1), calls_of(tmp_path, seed=1)
    assert orders(first) == orders(again) and masks(first) == masks(again)
    other = calls_of(tmp_path, seed=2)
    assert orders(other) != orders(first) and not set(masks(other)) & set(masks(first))
    drawn_apart = calls_of(tmp_path, seed=1, data_seed=7)
    assert orders(drawn_apart) != orders(first) and masks(drawn_apart) == masks(first)
    one_order = calls_of(tmp_path, seed=2, data_seed=7)
    assert orders(one_order) == orders(drawn_apart) and masks(one_order) == masks(other)
    assert orders(calls_of(tmp_path, seed=2, data_seed=1)) == orders(first)  # unless given it is the seed


@pytest.mark.parametrize("the_loss", [True, False])
@pytest.mark.parametrize("updates", [0, 1, 3])
def test_after_a_nan_every_value_is_that_before_the_update_that_led_there(
    tmp_path: Path, updates: int, the_loss: bool
) -> None:
    """As many steps as were good before the last one give the same values; a gradient of nan is enough."""
    changes: dict[str, Any] = {"lr_scheduler_type": "constant", "max_steps": 9}
    model, expected, examples = Watched(), Watched(), watched_rows(13)
    good = max(updates - 1, 0)
    if good:
        Trainer(
            expected, training_arguments(tmp_path / "good", 3, 1, **{**changes, "max_steps": good}), examples
        ).train()
    model.poison, model.poison_the_loss = {updates}, the_loss
    frozen = model.frozen.data.tobytes()
    with pytest.raises(FloatingPointError, match=rf"step {updates + 1}: the loss is .* gradient of bias"):
        Trainer(model, training_arguments(tmp_path / "bad", 3, 1, **changes), examples).train()
    for name, value in expected.values().items():
        assert model.values()[name].tobytes() == value.tobytes(), name
    assert model.frozen.data.tobytes() == frozen and all(p.grad is None for p in model.parameters())
    assert len(model.calls) == updates + 2  # the last one looks for the module that made it
    assert [line["step"] for line in log_of(tmp_path / "bad")] == list(range(1, updates + 2))
