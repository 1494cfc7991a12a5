"""What holds of AdaLoRA beside what holds of every method: penalty, importance, and ranks that are cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model, gradcheck
from npora.lora.methods.adalora_ranks import Importance, cut, orthogonality
from npora.lora.whole import load_states, states
from npora.nn import Parameter
from tests.lora.cases import Method, adapted
from tests.lora.test_files import change_config
from tests.tiny import tiny_bert, tiny_rows

NAMES = ("A", "E", "B")


def config(**changes: Any) -> AdaLoraConfig:
    defaults = {"init_r": 4, "target_r": 2, "total_step": 10, "lora_alpha": 6, "target_modules": ["query", "value"]}
    return AdaLoraConfig(**{**defaults, **changes})


def with_gradients(seed: int = 0, **changes: Any) -> PeftModel:
    """A model whose tensors and gradients are anything."""
    model, rng = get_peft_model(tiny_bert(dtype=np.float64), config(**changes)), np.random.default_rng(seed)
    for parameter in trained(model):
        parameter.data = rng.standard_normal(parameter.shape)
        parameter.grad = rng.standard_normal(parameter.shape)
    return model


def trained(model: PeftModel) -> list[Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def outputs(model: PeftModel) -> Any:
    return model(input_ids=np.array([[3, 4, 5, 9]]))[0].logits


def ranks(model: PeftModel) -> list[int]:
    """How many numbers of E each layer has that are not zero."""
    return [int(np.count_nonzero(layer.lora_E["default"].data)) for _, layer in model.lora_layers()]


def test_targets_that_are_not_named_are_the_models_own() -> None:
    of_adalora, of_lora = AdaLoraConfig(total_step=9), LoraConfig()
    for made in (of_adalora, of_lora):
        get_peft_model(tiny_bert(), made)
    assert of_adalora.target_modules == of_lora.target_modules == ["query", "value"]


def test_the_layer_adds_a_scaled_sum_of_outer_products() -> None:
    layer = adapted(Method("", config()), 7, 5)
    A, E, B, R = layer.adapters["default"].theta
    assert R.tolist() == [4.0] and not layer.ranknum["default"].requires_grad
    delta = sum(6 / 4.00001 * E[k, 0] * np.outer(B[:, k], A[k]) for k in range(4))
    x = np.random.default_rng(3).standard_normal((2, 3, 7))
    expected = x @ (layer.base_layer.matrix + delta).T + layer.base_layer.bias.data  # type: ignore[union-attr]
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.get_delta_weight("default"), delta, rtol=0, atol=1e-13)


def test_the_penalty_is_the_mean_distance_from_orthonormal_rows_and_columns() -> None:
    model = with_gradients()
    layers = [(layer.lora_A["default"], layer.lora_B["default"]) for _, layer in model.lora_layers()]
    before = [np.array(parameter.grad) for parameter in trained(model)]
    norms = [np.linalg.norm(M @ M.T - np.eye(4)) for A, B in layers for M in (A.data, B.data.T)]
    assert model.penalty() == pytest.approx(0.5 * np.mean(norms), rel=1e-13)
    gradients = [p.grad - old for p, old in zip(trained(model), before, strict=True) if p.grad is not None]
    step, directions = 1e-6, [np.random.default_rng(5).standard_normal(g.shape) for g in gradients]
    values = []
    for sign in (1, -1):
        for parameter, direction in zip(trained(model), directions, strict=True):
            parameter.data = parameter.data + sign * step * direction
        values.append(model.penalty())
        for parameter, direction in zip(trained(model), directions, strict=True):
            parameter.data = parameter.data - sign * step * direction
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-7)
    model.set_adapter("default", inference_mode=True)
    assert model.penalty() == 0


def test_the_distances_pullback_is_right_and_zero_where_the_rows_are_orthonormal() -> None:
    report = gradcheck(orthogonality, np.random.default_rng(0).standard_normal((3, 5)))
    assert report.ok, report
    f, backward = orthogonality(np.eye(2, 5))
    assert f == 0 and not backward(1.0).any()


def test_importance_is_two_running_means() -> None:
    theta, found = Parameter(np.array([3.0, -2.0])), Importance(np.zeros(2))
    mean = uncertainty = np.zeros(2)
    for gradient in ([1.0, 5.0], [-2.0, 0.0], None):
        theta.grad = None if gradient is None else np.array(gradient)
        found.follow(theta, config(beta1=0.7, beta2=0.6))
        now = np.abs(theta.data * (gradient or 0.0))
        mean = 0.7 * mean + 0.3 * now
        uncertainty = 0.6 * uncertainty + 0.4 * np.abs(now - mean)
        np.testing.assert_allclose(found.score(), mean * uncertainty, rtol=1e-13)


def test_the_lowest_scores_of_all_layers_are_cut_and_their_equals() -> None:
    scores = [np.array([5.0, 1.0, 3.0]), np.array([2.0, 2.0, 9.0])]
    for budget, left in (
        (6, "111 111"),
        (5, "101 111"),
        (4, "101 001"),
        (3, "101 001"),
        (1, "000 001"),
        (0, "000 000"),
    ):
        assert " ".join("".join(map(str, map(int, part))) for part in cut(scores, budget)) == left


@pytest.mark.parametrize(
    ("step", "expected"), [(1, (32, False)), (3, (32, False)), (4, (27, True)), (5, (23, False)), (6, (20, True)),
                           (12, (16, True)), (13, (16, True)), (14, (16, True))]
)  # fmt: skip
def test_the_budget_falls_by_a_cube_between_the_first_and_the_last_steps(step: int, expected: tuple[int, bool]) -> None:
    schedule = config(init_r=8, target_r=4, total_step=15, tinit=3, tfinal=3, deltaT=2)
    assert schedule.budget(step, 32, 4) == expected
    assert config(init_r=8, tinit=4, deltaT=2).budget(4, 32, 4) == (32, False)  # the last of those that cut nothing
    assert config(init_r=16, target_r=4).budget(1, 64, 4) == (50, True)  # 48 · 0.9³ + 16 = 50.992
    assert config(init_r=8, target_r=3).budget(5, 32, 4) == (14, True)  # 20 · 0.5³ + 12 = 14.5


def test_a_step_scores_cuts_and_goes_on_cutting() -> None:
    model = with_gradients(tinit=1, tfinal=3, deltaT=2)
    found = []
    for step in range(1, 11):
        model.after_step(step)
        found.append(sum(ranks(model)))
        for parameter in trained(model):
            parameter.data = parameter.data + 0.1  # what was cut grows again, until the next cut
    assert found == [16, 12, 16, 9, 16, 8, 8, 8, 8, 8]


def test_the_last_cut_is_by_the_importance_of_the_steps_before_it_which_is_then_let_go_of() -> None:
    cuts = []
    for factor in (1.0, 1e3):
        model, rng = with_gradients(tfinal=3), np.random.default_rng(7)
        for step in range(1, 8):
            if step == 7:
                for parameter in trained(model):
                    parameter.grad = factor * rng.standard_normal(parameter.shape)
            model.after_step(step)
        cuts.append([layer.adapters["default"].state() for _, layer in model.lora_layers()])
    assert all(state.keys() == {"left"} for states in cuts for state in states)
    assert [state["left"].tolist() for state in cuts[0]] == [state["left"].tolist() for state in cuts[1]]


def test_the_last_step_cuts_to_the_target_and_what_is_left_stays_as_it_is() -> None:
    model = with_gradients(tinit=3, tfinal=3, deltaT=4)
    before = [layer.lora_E["default"].data.copy() for _, layer in model.lora_layers()]
    found = []
    for step in range(1, 8):
        model.after_step(step)
        found.append(sum(ranks(model)))
    assert found == [16, 16, 16, 11, 11, 11, 8]  # 8 (3/4)³ + 8 = 11.4
    for E, (_, layer) in zip(before, model.lora_layers(), strict=True):
        now = layer.lora_E["default"].data
        np.testing.assert_array_equal(now, np.where(now == 0, 0, E))


def test_a_state_has_the_ranks_that_are_left_and_how_important_each_number_was() -> None:
    models = [with_gradients(deltaT=4), with_gradients(seed=1)]
    models[0].after_step(4)
    for (_, one), (_, other) in zip(*(model.lora_layers() for model in models), strict=True):
        first, second = (layer.adapters["default"] for layer in (one, other))
        state = first.state()
        assert state.keys() == {"left", *(f"{n}.{what}" for n in NAMES for what in ("mean", "uncertainty"))}
        second.load_state(state)
        assert second.state().keys() == state.keys()
        for name, array in second.state().items():
            np.testing.assert_array_equal(array, state[name])
        np.testing.assert_array_equal(second.score(), first.score())
        assert first.score().all()


def test_rank_scores_are_of_e_and_the_means_of_a_and_b() -> None:
    model = with_gradients(tinit=1)
    model.after_step(1)
    layer = model.lora_layers()[0][1]
    of = {}
    for name in NAMES:
        parameter = getattr(layer, f"lora_{name}")["default"]
        now = np.abs(np.asarray(parameter.data) * parameter.grad)
        of[name] = 0.15 * now * (0.15 * np.abs(now - 0.15 * now))
    adapter: Any = layer.adapters["default"]
    expected = of["E"][:, 0] + of["A"].mean(axis=1) + of["B"].mean(axis=0)
    np.testing.assert_allclose(adapter.score(), expected, rtol=1e-12)


def cut_model(**changes: Any) -> PeftModel:
    model = with_gradients(**changes)
    model.after_step(9)
    return model


def test_the_state_from_before_a_cut_brings_all_ranks_back() -> None:
    model = with_gradients()
    before = states(model)
    model.after_step(9)
    assert any(not layer.adapters["default"].remaining().all() for _, layer in model.lora_layers())
    load_states(model, before)
    for _, layer in model.lora_layers():
        layer.adapters["default"].E.data = np.zeros((4, 1))  # or what has grown again would be there all the same
        assert layer.adapters["default"].remaining().all()


def test_a_layer_may_lose_all_its_ranks(tmp_path: Path) -> None:
    model = with_gradients(target_r=1)
    model.lora_layers()[0][1].lora_E["default"].grad = None
    for parameter in model.lora_layers()[0][1].adapters["default"].parameters():
        parameter.grad = np.zeros(parameter.shape)
    model.after_step(9)
    assert ranks(model)[0] == 0
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path, is_trainable=True)
    np.testing.assert_allclose(outputs(again), outputs(model), rtol=0, atol=1e-12)
    rows = tiny_rows(1)[0]
    _, backward = again(input_ids=np.array([rows["input_ids"]]), labels=np.array([rows["labels"]]))
    backward()
    again.penalty()
    again.after_step(1)


def test_a_pattern_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    cut_model().save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())["rank_pattern"]
    for wrong, message in (
        (
            {name: pattern[:3] for name, pattern in written.items()},
            "rank_pattern has 3 ranks for .*query, and init_r is 4",
        ),
        ({name: [not left for left in pattern] for name, pattern in written.items()}, "shape|belong together"),
        (None, "shape|belong together"),
    ):
        change_config(rank_pattern=wrong)(tmp_path)
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path)
    with pytest.raises(ValueError, match="rank_pattern is what a training finds: a new adapter has none"):
        get_peft_model(tiny_bert(), config(rank_pattern=written))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"total_step": None}, "total_step must be the number of steps that the training has; got None"),
        ({"total_step": 0}, "total_step must be the number of steps that the training has; got 0"),
        ({"tinit": 5, "tfinal": 5}, "tinit=5 and tfinal=5 leave none of the 10 steps to cut ranks in"),
        ({"target_r": 5}, "target_r=5 is above init_r=4, and ranks are only cut"),
        ({"init_r": 0, "target_r": 1}, "init_r must be at least 1; got 0"),
        ({"init_r": 2.5}, "init_r must be a whole number; got 2.5"),
        ({"deltaT": 0}, "deltaT must be at least 1; got 0"),
        ({"beta1": 1.0}, "beta1 must lie in (0, 1); got 1.0"),
        ({"orth_reg_weight": -1.0}, "orth_reg_weight must be at least 0; got -1.0"),
        ({"lora_alpha": 0}, "lora_alpha must be positive; got 0"),
        ({"r": 4}, "r=4 is not used by AdaLoRA: say init_r, and target_r"),
        ({"use_dora": True}, "AdaLoraConfig: use_dora=True is not supported by npora; leave it out"),
        ({"use_rslora": True}, "use_rslora=True is not supported"),
        ({"rank_pattern": {"query": 3}}, "rank_pattern must be an object of values or None"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        config(**fields)
    assert message in str(error.value)
