"""Evaluation and prediction: what they need, what they give, and that they leave everything as it was."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, Trainer, TrainerCallback, TrainingArguments, get_peft_model
from npora.data import Dataset
from npora.models import GPT2Config, GPT2LMHeadModel
from npora.nn.grad_mode import is_grad_enabled
from npora.train.evaluation import prefixed
from tests.tiny import tiny_bert, tiny_peft, tiny_rows
from tests.train.test_trainer import arguments, values

ROWS = tiny_rows(21)
UNLABELLED = Dataset({"input_ids": example["input_ids"]} for example in ROWS)
MASKED = Dataset({**example, "labels": -100} for example in ROWS)


def trainer_of(model: Any, path: Path, **changes: Any) -> Trainer:
    return Trainer(model, arguments(path, per_device_eval_batch_size=4, **changes), ROWS, ROWS)


def tiny_gpt2() -> Any:
    config = GPT2Config(vocab_size=31, n_embd=6, n_layer=1, n_head=2, n_positions=12)
    return get_peft_model(GPT2LMHeadModel(config, rng=0), LoraConfig(r=2, task_type="CAUSAL_LM"))


def everything_about(model: Any) -> Any:
    grads = {name: None if p.grad is None else p.grad.tobytes() for name, p in model.named_parameters()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    state = {name: array.tobytes() for name, array in model.state_dict().items()}
    return grads, flags, modes, state, np.geterr(), is_grad_enabled(), threading.active_count()


@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_and_prediction_are_the_same_after_train_and_change_nothing(tmp_path: Path, mode: bool) -> None:
    model = tiny_peft(dtype=np.float64)
    trainer = trainer_of(model, tmp_path)
    loss, logits = trainer.evaluate()["eval_loss"], trainer.predict(ROWS).predictions
    _, backward = model(np.array([[3, 4, 5]]), labels=np.array([1]))
    backward()
    model.train(mode)
    model.get_base_model().bert.embeddings.train(not mode)  # a part that is in another mode
    before = everything_about(model)
    assert trainer.evaluate()["eval_loss"] == loss
    assert trainer.predict(ROWS).predictions.tobytes() == logits.tobytes()
    for _ in trainer.predict_batches(ROWS):
        assert everything_about(model) == before  # between two batches as well
    assert everything_about(model) == before
    with pytest.raises(ValueError, match="example 0 has no token"):
        trainer.evaluate([{"input_ids": [], "labels": 0}])
    assert everything_about(model) == before


def test_training_gives_back_the_mode_and_what_recomputes(tmp_path: Path) -> None:
    model = tiny_peft().train()
    runs = []
    for recompute in (False, True):
        model = tiny_peft().train()
        trainer_of(model, tmp_path, max_steps=3, gradient_checkpointing=recompute).train()
        assert all(module.training for module in model.modules())
        assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        assert all(p.grad is None for p in model.parameters())
        runs.append(values(model))
    assert runs[0] == runs[1]
    with pytest.raises(FloatingPointError):
        trainer_of(model, tmp_path, learning_rate=1e38, max_grad_norm=0.0, gradient_checkpointing=True).train()
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_logits_stream_batch_by_batch_in_the_order_of_the_rows(tmp_path: Path) -> None:
    trainer = trainer_of(tiny_bert(), tmp_path)
    expected = trainer.predict(ROWS).predictions
    read = []

    def examples() -> Any:
        for i, example in enumerate(ROWS):
            read.append(i)
            yield {"input_ids": example["input_ids"], "labels": "not looked at"}

    found = []
    for logits in trainer.predict_batches(examples()):
        found.append(logits)
        assert len(read) == min(4 * len(found), 21)  # no more was read than is given
    assert [len(logits) for logits in found] == [4, 4, 4, 4, 4, 1]
    assert np.concatenate(found).tobytes() == expected.tobytes()
    assert list(trainer.predict_batches([])) == []


def test_without_a_label_that_counts_there_is_no_evaluation(tmp_path: Path) -> None:
    trainer = trainer_of(tiny_peft(), tmp_path)
    with pytest.raises(ValueError, match="nothing to evaluate: no example has labels"):
        trainer.evaluate(UNLABELLED)
    with pytest.raises(ValueError, match="nothing to evaluate: no label counts: all are −100"):
        trainer.evaluate(MASKED)
    for data in (UNLABELLED, {"first": ROWS, "second": UNLABELLED}):
        before = Trainer(tiny_peft(), arguments(tmp_path / "none", eval_strategy="epoch"), ROWS, data)
        with pytest.raises(ValueError, match="eval_dataset: there is nothing to evaluate: no example has labels"):
            before.train()
        assert not (tmp_path / "none").exists()  # before the first step
    causal = Trainer(tiny_gpt2(), arguments(tmp_path))
    with pytest.raises(ValueError, match="no label counts: all are −100, or have no token before them"):
        causal.evaluate([{"input_ids": [3], "labels": [3]}])


def test_a_prediction_needs_no_labels_and_says_that_there_is_no_loss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(tiny_peft(), tmp_path)
    logits = trainer.predict(ROWS).predictions
    assert not caplog.text
    unlabelled, masked = trainer.predict(UNLABELLED), trainer.predict(MASKED)
    assert unlabelled.label_ids is None and "test_loss" not in unlabelled.metrics
    assert np.isnan(masked.metrics["test_loss"]) and "test_loss is nan: no label counts" in caplog.text
    assert logits.tobytes() == unlabelled.predictions.tobytes() == masked.predictions.tobytes()


def test_labels_in_some_batches_and_not_in_others_are_an_error(tmp_path: Path) -> None:
    trainer = trainer_of(tiny_peft(), tmp_path)
    for first, second in ((ROWS, UNLABELLED), (UNLABELLED, ROWS)):
        for border in (4, 6):  # between two batches, and within one
            examples = [*first[:border], *second[border:]]
            with pytest.raises(ValueError, match="some examples have labels, and others do not"):
                trainer.predict(examples)
            with pytest.raises(ValueError, match="some examples have labels, and others do not"):
                trainer.evaluate(examples)


def test_a_step_without_a_label_changes_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_peft()
    examples = [{**example, "labels": -100 if 4 <= i < 8 else example["labels"]} for i, example in enumerate(ROWS[:12])]
    seen: list[bytes] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(b"".join(values(model).values()))

    changes = {"train_sampling_strategy": "sequential", "num_train_epochs": 2, "weight_decay": 0.1}
    result = Trainer(model, arguments(tmp_path, **changes), examples, callbacks=[Watch]).train()
    seen.append(b"".join(values(model).values()))
    assert [before == after for before, after in itertools.pairwise(seen)] == [0, 1, 0, 0, 1, 0]
    said = [r.getMessage() for r in caplog.records if "it changes nothing" in r.getMessage()]
    assert [message[:7] for message in said] == ["step 2:", "step 5:"]
    lines = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[1] == lines[4] == "nan"
    assert result.training_loss == pytest.approx(np.mean([x for x in lines if x != "nan"]))


@pytest.mark.parametrize(
    ("model", "examples"), [(tiny_peft, MASKED), (tiny_gpt2, [{"input_ids": [i], "labels": [i]} for i in range(9)])]
)
def test_where_no_label_counts_there_is_nothing_to_learn(tmp_path: Path, model: Any, examples: Any) -> None:
    for changes in ({"num_train_epochs": 2}, {"max_steps": 2}):
        with pytest.raises(ValueError, match=r"there is nothing to learn: in \d steps no label of its examples counts"):
            Trainer(model(), arguments(tmp_path, **changes), examples).train()


def test_metrics_are_given_a_pair_and_may_be_numbers_of_any_kind(tmp_path: Path) -> None:
    def metrics(pair: Any) -> dict[str, Any]:
        logits, labels = pair
        assert pair.predictions is logits and pair[1] is pair.label_ids is labels
        return {"hits": np.mean(np.argmax(logits, axis=1) == labels), "each": np.arange(3), "by": {"a": np.float32(1)},
                "undefined": np.nan}  # fmt: skip

    changes = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 1}
    trainer = Trainer(tiny_peft(), arguments(tmp_path, **changes), ROWS, ROWS, compute_metrics=metrics)
    trainer.train()
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["eval_each"] == [0, 1, 2] and last["eval_by"] == {"a": 1.0} and last["eval_undefined"] == "nan"
    assert isinstance(trainer.evaluate()["eval_hits"], float)
    with pytest.raises(TypeError, match="compute_metrics must return a dict of names and numbers; got float"):
        Trainer(tiny_peft(), arguments(tmp_path), None, ROWS, compute_metrics=lambda p: 1.0).evaluate()


def test_a_metric_whose_name_only_begins_as_the_prefix_does_gets_it() -> None:
    assert prefixed({"evals": 1, "eval_loss": 2}, "eval") == {"eval_evals": 1, "eval_loss": 2}


def test_several_datasets_are_evaluated_each_under_its_name(tmp_path: Path) -> None:
    trainer = Trainer(tiny_peft(), arguments(tmp_path), None, {"short": ROWS[:5], "long": ROWS})
    metrics = trainer.evaluate()
    assert metrics["eval_long_loss"] == trainer.evaluate(ROWS)["eval_loss"] != metrics["eval_short_loss"]
    with pytest.raises(TypeError, match="train_dataset is a dict of train, test: pass a sequence"):
        Trainer(tiny_peft(), arguments(tmp_path), {"train": ROWS, "test": ROWS}).train()


def test_a_metric_that_is_nan_is_never_the_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = iter([np.nan, 0.25, np.nan, 0.5, 0.125])
    changes = {"eval_strategy": "epoch", "save_strategy": "best", "metric_for_best_model": "f1", "num_train_epochs": 5,
               "load_best_model_at_end": True}  # fmt: skip
    trainer = Trainer(tiny_peft(), arguments(tmp_path, **changes), ROWS[:4], ROWS[:4],
                      compute_metrics=lambda pair: {"f1": next(found)})  # fmt: skip
    trainer.train()
    assert trainer.state.best_metric == 0.5 and trainer.state.best_model_checkpoint == "checkpoint-4"
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert caplog.text.count("eval_f1 is nan") == 2


def test_a_collator_makes_the_batches_and_is_given_what_the_model_takes(tmp_path: Path) -> None:
    given: list[Any] = []

    def collator(examples: list[Any]) -> dict[str, Any]:
        given.extend(examples)
        longest = max(len(example["input_ids"]) for example in examples)
        ids = [example["input_ids"] + [0] * (longest - len(example["input_ids"])) for example in examples]
        mask = [[1] * len(example["input_ids"]) + [0] * (longest - len(example["input_ids"])) for example in examples]
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "label": [example["labels"] for example in examples],
            "name": "left out",
        }

    examples = [{**example, "text": "a", "nothing": None} for example in ROWS]
    runs = []
    for keywords in ({"data_collator": collator}, {}):
        model = tiny_peft()
        trainer = Trainer(model, arguments(tmp_path, max_steps=3), examples, examples, **keywords)
        trainer.train()
        runs.append((values(model), trainer.evaluate()["eval_loss"]))
    assert runs[0] == runs[1] and all(example.keys() == {"input_ids", "labels"} for example in given)
    given.clear()
    args = TrainingArguments(str(tmp_path), remove_unused_columns=False)
    Trainer(tiny_peft(), args, None, examples, data_collator=collator).evaluate()
    assert given[0].keys() == {"input_ids", "labels", "text", "nothing"}
    with pytest.raises(TypeError, match="data_collator must return a dict of arrays; got list"):
        Trainer(tiny_peft(), args, None, examples, data_collator=lambda examples: examples).evaluate()


def test_what_is_kept_of_the_logits_is_for_the_user_to_say(tmp_path: Path) -> None:
    def keep(logits: Any, labels: Any) -> Any:
        assert len(logits) == len(labels)
        return logits.argmax(-1)

    trainer = Trainer(tiny_peft(), arguments(tmp_path), None, ROWS, preprocess_logits_for_metrics=keep,
                      compute_metrics=lambda pair: {"hits": (pair.predictions == pair.label_ids).sum()})  # fmt: skip
    assert trainer.predict(ROWS).predictions.shape == (21,)
    assert trainer.evaluate()["eval_hits"] == sum(trainer.predict(ROWS).predictions == ROWS["labels"])


def test_shares_delays_and_strategies_say_when_a_run_evaluates_and_logs(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.ERROR)
    changes = {"eval_strategy": "steps", "eval_steps": 0.2, "eval_delay": 3, "eval_on_start": True, "max_steps": 10,
               "logging_strategy": "epoch", "logging_first_step": True, "optim": "sgd"}  # fmt: skip
    trainer = Trainer(tiny_peft(), arguments(tmp_path, **changes), ROWS, ROWS)
    before = values(trainer.model)
    trainer.train()
    history = trainer.state.log_history
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [0, 4, 6, 8, 10]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 6, 10]
    assert values(trainer.model) != before


def test_an_epochs_last_small_batch_may_be_left_out(tmp_path: Path) -> None:
    trainer = Trainer(tiny_peft(), arguments(tmp_path, dataloader_drop_last=True, num_train_epochs=2), ROWS)
    assert trainer.train().global_step == 2 * 5
    with pytest.raises(ValueError, match="dataloader_drop_last leaves none of the 3 examples"):
        Trainer(tiny_peft(), arguments(tmp_path, dataloader_drop_last=True), ROWS[:3]).train()


def test_two_threads_may_evaluate_one_model_at_a_time(tmp_path: Path) -> None:
    model = tiny_peft().train()
    expected = trainer_of(model, tmp_path).predict(ROWS).predictions
    met = threading.Barrier(2)

    def meeting(logits: Any, labels: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            met.wait(60)  # the one that begins later is in its first batch when the other ends
        return logits

    def predict(examples: Dataset, found: dict[int, Any]) -> None:
        trainer = Trainer(
            model, arguments(tmp_path, per_device_eval_batch_size=4), preprocess_logits_for_metrics=meeting
        )
        found[len(examples)] = trainer.predict(examples).predictions
        met.abort()

    found: dict[int, Any] = {}
    threads = [threading.Thread(target=predict, args=(Dataset(list(ROWS)[:n]), found)) for n in (4, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.keys() == {4, 21} and (found[21] == expected).all() and (found[4] == expected[:4]).all()
    assert all(module.training for module in model.modules())
