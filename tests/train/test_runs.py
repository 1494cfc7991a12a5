"""What a training and an evaluation do around the steps: when they evaluate, save and stop, and what they report."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npora import DataCollatorWithPadding, Trainer, TrainingArguments
from npora.data import ByteTokenizer
from tests.tiny import tiny_peft, tiny_rows
from tests.tiny_encoders import tiny_encoder
from tests.watched import IGNORED, Watched, losses_and_gradients, watched_rows

ROWS = watched_rows(23)


def trainer(path: Path, model: Watched | None = None, examples: Any = ROWS, **changes: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 4, "per_device_eval_batch_size": 5, "save_strategy": "no", "disable_tqdm": True,
        "learning_rate": 0.05,
    }  # fmt: skip
    keywords = {key: changes.pop(key) for key in list(changes) if not hasattr(TrainingArguments, key)}
    args = TrainingArguments(str(path), **{**defaults, **changes})
    return Trainer(model or Watched(), args, examples, **{"eval_dataset": ROWS, **keywords})


def stopped_after(step: int, path: Path, **changes: Any) -> None:
    """A run whose checkpoints are those up to a step, since the one after it has a gradient of nan."""
    model = Watched()
    model.poison = {step}  # each step is one call
    with pytest.raises(FloatingPointError):
        trainer(path, model, eval_dataset=None, save_strategy="steps", save_steps=1, **changes).train()


def history(run: Trainer, name: str) -> list[int]:
    return [entry["step"] for entry in run.state.log_history if name in entry]


# What a resumed run must share with the one that it goes on from, and another value of it.
RUN = {
    "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "learning_rate": 0.06, "weight_decay": 0.2,
    "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-7, "max_grad_norm": 0.5, "lr_scheduler_type": "cosine",
    "warmup_steps": 3, "seed": 43, "data_seed": 1, "tokens_at_once": 99, "train_sampling_strategy": "sequential",
    "dataloader_drop_last": True, "optim": "sgd", "lr_scheduler_kwargs": {},
}  # fmt: skip


def test_a_run_is_resumed_with_its_own_arguments_and_rows_alone(tmp_path: Path) -> None:
    stopped_after(2, tmp_path, max_steps=9)
    for name, value in RUN.items():
        with pytest.raises(ValueError, match=rf"of a run with {name}=.*, this one has {value!r}"):
            trainer(tmp_path, **{"max_steps": 9, name: value}).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="of a run with examples=23, this one has 22"):
        trainer(tmp_path, examples=ROWS[:22], max_steps=9).train(resume_from_checkpoint=True)


def test_a_run_goes_on_from_the_newest_checkpoint_and_reports_its_own_steps(tmp_path: Path) -> None:
    """The newest is that of the largest number: 11, and neither 9 nor 2. Two are kept."""
    stopped_after(11, tmp_path, max_steps=14, save_total_limit=2)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-10", "checkpoint-11"}
    model = Watched()
    run = trainer(tmp_path, model, max_steps=14, eval_on_start=True)
    start = time.perf_counter()
    result = run.train(resume_from_checkpoint=True)
    most = time.perf_counter() - start
    unbroken = Watched()
    trainer(tmp_path / "unbroken", unbroken, max_steps=14).train()
    assert all(model.values()[name].tobytes() == value.tobytes() for name, value in unbroken.values().items())
    assert len(model.calls) == 14 - 11 and result.global_step == 14  # nothing is evaluated: it has started before
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    tokens = [line["tokens"] for line in lines]
    assert len(tokens) == 14 and run.state.num_input_tokens_seen == sum(tokens)
    seconds = result.metrics["train_runtime"]
    assert 0 < seconds <= most
    assert result.metrics["train_steps_per_second"] * seconds == pytest.approx(3)
    assert result.metrics["train_tokens_per_second"] * seconds == pytest.approx(sum(tokens[11:]))
    assert result.training_loss == pytest.approx(np.mean([line["loss"] for line in lines]))


def test_an_evaluation_is_by_hand_over_batches_of_its_own_size(tmp_path: Path) -> None:
    """Of any size, also where a batch is cut into pieces: the loss is the mean over the labels, not the examples."""
    examples = watched_rows(40) * 7  # 280 examples of some 900 tokens
    for count, size in ((23, 5), (280, 280), (280, 3), (7, 7)):
        model = Watched().train()
        _, loss, items, _ = losses_and_gradients(model.values(), whole(examples[:count]))
        metrics = trainer(tmp_path, model, examples=None, per_device_eval_batch_size=size).evaluate(examples[:count])
        assert metrics["eval_loss"] == pytest.approx(loss / items, rel=1e-12) and 0 < items < count
        assert all(call.keep is None and not call.training for call in model.calls)
        batches = [min(size, count - first) for first in range(0, count, size)]
        if size != 280:
            assert [len(call.input_ids) for call in model.calls] == batches
        seconds = metrics["eval_runtime"]
        assert metrics["eval_samples_per_second"] * seconds == pytest.approx(count)
        assert metrics["eval_steps_per_second"] * seconds == pytest.approx(len(batches))
        assert metrics.keys() == {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second",
                                  "epoch"}  # fmt: skip


def whole(examples: list[dict[str, Any]]) -> Any:
    """All examples as one call."""
    longest = max(len(example["input_ids"]) for example in examples)
    ids = np.array([example["input_ids"] + [0] * (longest - len(example["input_ids"])) for example in examples])
    mask = np.array(
        [[1] * len(example["input_ids"]) + [0] * (longest - len(example["input_ids"])) for example in examples]
    )
    return SimpleNamespace(
        input_ids=ids, attention_mask=mask, labels=np.array([example["labels"] for example in examples]), keep=None
    )


def test_predictions_and_streams_are_the_logits_in_order(tmp_path: Path) -> None:
    examples = watched_rows(40) * 5
    model = Watched().train()
    logits, *_ = losses_and_gradients(model.values(), whole(examples))
    run = trainer(tmp_path, model, examples=None, per_device_eval_batch_size=190, compute_metrics=lambda pair: {
        "shift": float(pair.predictions[:, 1].sum() - pair.label_ids.sum()), "final_own": 3,
    })  # fmt: skip
    found = run.predict(examples, metric_key_prefix="final")
    np.testing.assert_allclose(found.predictions, logits, rtol=0, atol=1e-12)
    labels = [example["labels"] for example in examples]
    assert found.label_ids.tolist() == labels and found.metrics["final_own"] == 3
    assert found.metrics["final_shift"] == pytest.approx(logits[:, 1].sum() - sum(labels))
    streamed = list(run.predict_batches(iter(examples[:191])))
    assert [len(part) for part in streamed] == [190, 1]
    np.testing.assert_allclose(np.concatenate(streamed), logits[:191], rtol=0, atol=1e-12)
    model.calls.clear()
    run.args.per_device_eval_batch_size = 6
    assert [len(part) for part in run.predict_batches(examples[:20])] == [6, 6, 6, 2]
    assert all(call.labels is None and not call.training for call in model.calls)


def test_what_is_kept_of_the_logits_may_depend_on_the_labels(tmp_path: Path) -> None:
    def keep(logits: Any, labels: Any) -> Any:
        return logits[np.arange(len(labels)), labels]

    examples = [{**example, "labels": i % 4} for i, example in enumerate(ROWS)]
    logits, *_ = losses_and_gradients(Watched().values(), whole(examples))
    run = trainer(tmp_path, preprocess_logits_for_metrics=keep, compute_metrics=lambda p: {"sum": p.predictions.sum()})
    expected = logits[np.arange(23), [example["labels"] for example in examples]]
    np.testing.assert_allclose(run.predict(examples).predictions, expected, rtol=0, atol=1e-12)
    assert run.evaluate(examples)["eval_sum"] == pytest.approx(expected.sum())


def test_sequences_are_padded_behind_with_zeros_and_their_labels_with_ignored_ones(tmp_path: Path) -> None:
    model = tiny_encoder("bert", "TokenClassification", dtype=np.float64)
    examples = [{"input_ids": list(range(3, 3 + n)), "labels": [n % 3] * n} for n in (2, 3, 7, 5, 4)]
    args = TrainingArguments(str(tmp_path), per_device_eval_batch_size=2, disable_tqdm=True)
    found = Trainer(model, args).predict(examples)
    assert found.predictions.shape == (5, 7, 3) and found.label_ids.shape == (5, 7)
    for example, logits, labels in zip(
        examples[:2] + examples[4:], found.predictions[[0, 1, 4]], found.label_ids[[0, 1, 4]], strict=True
    ):
        n = len(example["input_ids"])
        np.testing.assert_allclose(logits[:n], model(np.array([example["input_ids"]]))[0].logits[0], rtol=0, atol=1e-12)
        assert labels.tolist() == example["labels"] + [IGNORED] * (7 - n)
    assert (found.predictions[:2, 3:] == 0).all() and (found.predictions[4, 4:] == 0).all()


def test_evaluations_begin_after_the_delay_and_several_datasets_keep_their_names(tmp_path: Path) -> None:
    for strategy, delay, changes, expected in (
        ("steps", 4, {"eval_steps": 2}, [4, 6, 8]),  # with the step or epoch of the delay
        ("epoch", 2, {"per_device_train_batch_size": 6, "max_steps": 14}, [8, 12, 14]),
        ("epoch", 0, {"per_device_train_batch_size": 6, "max_steps": 14}, [4, 8, 12, 14]),
        ("steps", 0, {"logging_steps": 3, "save_steps": 5}, [3, 6]),  # eval_steps is logging_steps unless given
        ("steps", 0, {"eval_steps": 0.3, "max_steps": 11}, [4, 8]),  # a share is rounded up: 3.3 to 4
    ):
        run = trainer(tmp_path, **{"max_steps": 8, "eval_strategy": strategy, "eval_delay": delay, **changes})
        run.train()
        assert history(run, "eval_loss") == expected
    found = trainer(tmp_path, eval_dataset={"a": ROWS[:9], "b": ROWS}).evaluate(metric_key_prefix="x")
    apart = [trainer(tmp_path).evaluate(examples)["eval_loss"] for examples in (ROWS[:9], ROWS)]
    assert [found["x_a_loss"], found["x_b_loss"]] == apart and apart[0] != apart[1]


def test_the_log_history_has_every_nth_step(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=8, logging_steps=3)
    run.train()
    assert history(run, "learning_rate") == [3, 6]


@pytest.mark.parametrize("greater", [True, False])
def test_the_first_of_two_best_ones_is_the_best_and_is_kept_and_loaded(tmp_path: Path, greater: bool) -> None:
    """Of 3, 5, 1, 5, 1, 4 the second is the greatest, and the third the least."""
    scores, best = iter([3.0, 5.0, 1.0, 5.0, 1.0, 4.0]), 2 if greater else 3
    changes = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 6,
               "load_best_model_at_end": True, "metric_for_best_model": "score", "greater_is_better": greater,
               "save_total_limit": 2}  # fmt: skip
    model = Watched()
    run = trainer(tmp_path, model, compute_metrics=lambda pair: {"score": next(scores)}, **changes)
    run.train()
    assert run.state.best_model_checkpoint == f"checkpoint-{best}" and run.state.best_metric == (5 if greater else 1)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {f"checkpoint-{best}", "checkpoint-6"}
    short = Watched()
    stopped = Watched()
    stopped.poison = {best}
    with pytest.raises(FloatingPointError):
        trainer(
            tmp_path / "short", stopped, eval_dataset=None, max_steps=6, save_strategy="steps", save_steps=best
        ).train()
    again = trainer(tmp_path / "short", short, eval_dataset=None, max_steps=6)
    short.poison = {0}  # the values of the checkpoint, before another step is taken
    with pytest.raises(FloatingPointError):
        again.train(resume_from_checkpoint=True)
    for name, value in short.values().items():
        assert model.values()[name].tobytes() == value.tobytes()


def test_rates_of_warm_up(tmp_path: Path) -> None:
    """warmup_steps of 1 is one step, below 1 a share that is rounded up; warmup_ratio stands behind warmup_steps."""
    for changes, steps in (({"warmup_steps": 1}, 1), ({"warmup_steps": 0.25}, 3), ({"warmup_ratio": 0.45}, 5),
                           ({"warmup_steps": 2, "warmup_ratio": 0.5}, 2), ({}, 0)):  # fmt: skip
        trainer(tmp_path, max_steps=10, **changes).train()
        rates = [json.loads(line)["learning_rate"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        expected = [0.05 * i / steps for i in range(steps)] + [
            0.05 * i / (10 - steps) for i in range(10 - steps, 0, -1)
        ]
        assert rates == pytest.approx(expected, rel=1e-12), changes


def test_save_model_saves_the_tokenizer_that_processing_class_names(tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path), disable_tqdm=True)
    both = {"tokenizer": ByteTokenizer(), "processing_class": ByteTokenizer(eos=True)}
    for keywords, size in ((both, 257), ({"tokenizer": ByteTokenizer()}, 256)):
        Trainer(tiny_peft(), args, tiny_rows(3), **keywords).save_model(tmp_path / f"{size}")
        names = {path.name for path in (tmp_path / f"{size}").iterdir()}
        assert names >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"}
        written = json.loads((tmp_path / f"{size}" / "tokenizer.json").read_text())
        assert len(written["model"]["vocab"]) == size


def test_ids_are_padded_with_the_configs_token_before_the_tokenizers(tmp_path: Path) -> None:
    examples, names = (
        [{"input_ids": [4], "labels": 1}, {"input_ids": [5, 6], "labels": 0}],
        SimpleNamespace(pad_token_id=17),
    )
    for own, tokenizer, pad in ((30, names, 30), (None, names, 17), (-1, names, 17), (None, None, 0), (99, None, 0)):
        for collator in (None, DataCollatorWithPadding(names)):
            model: Any = Watched()
            model.config = SimpleNamespace(pad_token_id=own, vocab_size=43)
            trainer(tmp_path, model, examples=examples, max_steps=1, tokenizer=tokenizer, data_collator=collator,
                    train_sampling_strategy="sequential").train()  # fmt: skip
            expected = 17 if collator else pad
            assert model.calls[0].input_ids.tolist() == [[4, expected], [5, 6]]


def test_a_step_without_a_label_is_none_of_the_updates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither moments nor decay see it: the run has the values of one without its examples."""
    caplog.set_level(logging.ERROR)
    examples = [{**example, "labels": i % 4} for i, example in enumerate(ROWS[:9])]
    values = []
    for masked in (False, True):
        model = Watched()
        data = (
            examples
            if not masked
            else [*examples[:3], *[{**example, "labels": IGNORED} for example in examples[3:6]], *examples[3:]]
        )
        changes = {"per_device_train_batch_size": 3, "train_sampling_strategy": "sequential", "num_train_epochs": 1,
                   "lr_scheduler_type": "constant", "weight_decay": 0.3}  # fmt: skip
        model.drops = False
        result = trainer(tmp_path, model, examples=data, **changes).train()
        values.append((model.values(), result.training_loss))
    for name, value in values[0][0].items():
        np.testing.assert_allclose(values[1][0][name], value, rtol=0, atol=1e-12)
    assert math.isclose(values[0][1], values[1][1], rel_tol=1e-12)
