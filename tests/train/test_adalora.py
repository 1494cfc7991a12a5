"""A training with AdaLoRA: the penalty is in the loss, ranks are cut on the schedule, and a resumed run is the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AdaLoraConfig, LoraConfig, PeftModel, Trainer, get_peft_model
from tests.lora.test_adalora import ranks
from tests.tiny import tiny_bert, tiny_rows
from tests.train.test_state import steps, stop_after
from tests.train.test_trainer import arguments, values

ROWS = tiny_rows(21)


def trainer(path: Path, steps: int = 9, **changes: Any) -> Trainer:
    config = AdaLoraConfig(
        init_r=4, target_r=2, total_step=9, tinit=2, tfinal=2, lora_alpha=6, lora_dropout=0.1,
        target_modules=["query", "value"], task_type="SEQ_CLS", **changes,
    )  # fmt: skip
    args = arguments(path, max_steps=steps, save_strategy="steps", save_steps=1, learning_rate=0.05)
    return Trainer(get_peft_model(tiny_bert(), config), args, ROWS, ROWS)


def test_ranks_end_at_their_target_and_the_adapter_is_what_is_saved(tmp_path: Path) -> None:
    run = trainer(tmp_path / "run")
    run.train()
    model: Any = run.model
    assert sum(ranks(model)) == 2 * 4 and len(set(ranks(model))) > 1  # not as many in each
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(tiny_bert(), tmp_path / "adapter")
    ids = np.array([[3, 4, 5]])
    np.testing.assert_allclose(again(input_ids=ids)[0].logits, model(input_ids=ids)[0].logits, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    run = trainer(tmp_path_factory.mktemp("whole"))
    run.train()
    return run


@pytest.mark.parametrize("at", [1, 4, 7, 8])
def test_a_resumed_run_equals_an_uninterrupted_one(whole: Trainer, tmp_path: Path, at: int) -> None:
    """Before ranks are cut, in the midst of it, where it ends, and behind."""
    first = trainer(tmp_path / "parts")
    stop_after(first, at)
    second = trainer(tmp_path / "parts")
    second.train(resume_from_checkpoint=True)
    assert values(second.model) == values(whole.model)
    assert steps(tmp_path / "parts") == steps(Path(whole.args.output_dir))
    first.train(resume_from_checkpoint=True)  # a model that has been trained goes on as well as a new one
    assert values(first.model) == values(whole.model)


def test_the_loss_has_the_penalty_and_the_gradient_its_gradient(tmp_path: Path) -> None:
    runs = [trainer(tmp_path / str(weight), 1, orth_reg_weight=weight) for weight in (0.0, 3.0)]
    norms = [
        np.linalg.norm(M @ M.T - np.eye(4))
        for _, layer in runs[0].model.lora_layers()  # type: ignore[operator]
        for M in (layer.lora_A["default"].data, layer.lora_B["default"].data.T)
    ]
    for run in runs:
        run.train()
    first, second = (steps(tmp_path / str(weight))[0] for weight in (0.0, 3.0))
    assert second["loss"] - first["loss"] == pytest.approx(3 * np.mean(norms), rel=1e-5)
    assert second["grad_norm"] > first["grad_norm"]


def test_a_loss_that_is_not_the_models_own_has_the_penalty_and_the_ranks_too(tmp_path: Path) -> None:
    run = trainer(tmp_path / "run")
    run.args.label_smoothing_factor = 0.1
    run.train()
    assert sum(ranks(run.model)) == 2 * 4
    runs = [trainer(tmp_path / str(weight), 1, orth_reg_weight=weight) for weight in (0.0, 3.0)]
    for one in runs:
        one.args.class_weights = [1.0, 2.0, 3.0]
        one.train()
    first, second = (steps(tmp_path / str(weight))[0]["loss"] for weight in (0.0, 3.0))
    assert second > first + 1


@pytest.mark.parametrize("order", [["plain", "default"], ["default", "other"], ["other", "default"]])
def test_it_is_trained_so_beside_another_adapter_and_resumed_so(tmp_path: Path, order: list[str]) -> None:
    def made(folder: str) -> Trainer:
        run = trainer(tmp_path / folder)
        model: Any = run.model
        model.add_adapter("plain", LoraConfig(r=2, target_modules=["query"]))
        other = AdaLoraConfig(init_r=3, target_r=1, total_step=9, tinit=1, tfinal=1, target_modules=["query"])
        model.add_adapter("other", other)
        model.set_adapter(order)
        return Trainer(model, run.args, ROWS, ROWS)

    whole, first = made("whole"), made("parts")
    whole.train()
    layers: Any = [layer for _, layer in whole.model.lora_layers()]  # type: ignore[operator]
    cut = {
        name: sum(int((layer.lora_E[name].data != 0).sum()) for layer in layers if name in layer.lora_E)
        for name in ("default", "other")
    }
    assert cut == {"default": 2 * 4, "other": 1 * 2 if "other" in order else 0}
    stop_after(first, 4)
    second = made("parts")
    second.train(resume_from_checkpoint=True)
    assert values(second.model) == values(whole.model)
