"""What the pages compute beside the checks: V-curves, training with planted errors, and the rules of optimisers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora import optim
from npora.catalogue import draw
from npora.check import gradcheck, v_curve
from npora.check.oracles.vcurve import VCurve
from npora.check.planted.planting import plantings
from npora.nn import Linear
from npora.nn import functional as F
from npora.study.site import charts, experiments, rules, tables
from tests.study.test_site import Parsed

OPTIM = Path(npora.__file__).parent / "optim"


def test_gradient_descent_by_hand() -> None:
    """y = (x, x), and dx is the sum of two halves of x − x*: at the rate ½ each step halves what is apart."""
    run = experiments.losses((lambda x: (np.repeat(x, 2), lambda dy: dy.sum(keepdims=True)), (np.ones(1),), {}), 0.5)
    apart = 0.3 * float(np.random.default_rng(1).standard_normal())
    assert run[:3] == [pytest.approx(apart**2 / 2 / 4**k, 5e-3) for k in range(3)]
    layer = Linear(2, 3, rng=0, dtype=np.float64)
    before = layer.weight.data.copy()
    run = experiments.losses((layer, (np.ones((1, 2)),), {}), 0.1)
    assert len(run) == experiments.STEPS and run[-1] < run[0] and (layer.weight.data == before).all()


def test_a_loss_goes_down_itself_and_what_cannot_be_ends_the_run() -> None:
    run = experiments.losses((lambda x: ((x * x).sum(), lambda dy: 2 * dy * x), (np.array([3.0, 4.0]),), {}), 0.25)
    assert run[:3] == [25.0, 6.25, 1.56]
    wild = experiments.losses((lambda x: ((x * x).sum(), lambda dy: 1e200 * x), (np.array([3.0]),), {}), 1.0)
    assert wild[0] == 9 and math.isinf(wild[1]) and all(map(math.isnan, wild[2:])) and len(wild) == experiments.STEPS
    refused = experiments.losses((lambda x: (_positive(x), lambda dy: np.array([9.0])), (np.array([2.0]),), {}), 1.0)
    assert refused[0] == 2 and all(map(math.isnan, refused[1:]))


def _positive(x: Any) -> Any:
    if x[0] < 0:
        raise ValueError("x is negative")
    return x.sum()


def test_errors_are_planted_in_the_gradients_that_are_asked_for() -> None:
    layer, inputs, keywords = draw("linear")
    assert [target for target, _ in plantings("sign", layer, inputs, keywords)] == ["x", "weight", "bias"]
    asked = plantings("sign", layer, inputs, keywords, ["bias", "x"])
    assert [target for target, _ in asked] == ["bias", "x"]


def test_planted_errors_train_beside_the_right_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {name: experiments.KINDS[name] for name in ("sign", "1e-8", "nan", "one head")}
    monkeypatch.setattr(experiments, "KINDS", kinds)
    found = experiments.planted(draw("linear"))
    by_kind = {error["kind"]: error for error in found["errors"]}
    assert by_kind.keys() == {"sign", "1e-8", "nan"}  # a linear layer has no heads
    assert {error["verdict"] for error in by_kind.values()} == {"FAIL"}
    right = found["loss"]
    assert right[-1] < 1e-6 * right[0] and right == experiments.losses(draw("linear"), found["rate"])
    assert all(later >= right[-1] for later in (experiments.losses(draw("linear"), r)[-1] for r in (0.5, 2.0)))
    assert by_kind["sign"]["loss"] != right and by_kind["1e-8"]["loss"][:10] == right[:10]
    assert math.isnan(by_kind["nan"]["loss"][2])
    page = tables.verdict_html("linear", {"verdict": "PASS", "rows": [], "notes": [], "planted": found}, True)
    assert not Parsed(page).wrong and page.count('<svg class="small"') == 3
    assert page.count("it does not show") == 1 and page.count("no number") >= 1


def test_errors_in_a_model_are_each_in_another_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {name: experiments.KINDS[name] for name in ("sign", "swapped", "detached")}
    monkeypatch.setattr(experiments, "KINDS", kinds)
    monkeypatch.setattr(experiments, "_RATES", (1.0,))
    monkeypatch.setattr(experiments, "STEPS", 8)
    checked: list[list[str]] = []

    def noted(model: Any, *inputs: Any, **keywords: Any) -> Any:
        checked.append([name for name, parameter in model.named_parameters() if parameter.requires_grad])
        return gradcheck(model, *inputs, **keywords)

    monkeypatch.setattr(experiments, "gradcheck", noted)
    model, inputs, keywords = draw("BertLayer")
    found = experiments.planted((model, inputs, keywords))
    # A key's bias has no gradient: whatever is planted there is no error.
    names = ["x", *(name for name, _ in model.named_parameters() if not name.endswith("key.bias"))]
    assert found["by_layer"] and not experiments.planted(draw("linear"))["by_layer"]
    sign, swapped, detached = found["errors"]
    # At 0, 0.618 and 0.236 of the list; where a kind does not apply, the next that it does.
    assert sign["in"] == names[0] and detached["in"] == names[int(0.236 * len(names))]
    assert names.index(swapped["in"]) >= int(0.618 * len(names))
    assert [error["verdict"] for error in found["errors"]] == ["FAIL", "FAIL", "DETACHED"]
    assert all(error["said"].startswith(f"{error['in']}: ") for error in found["errors"])
    assert checked[0] == names[-1:] and all(parameter.requires_grad for parameter in model.parameters())
    assert {name.rpartition(".")[0] for name in checked[2]} == {detached["in"].rpartition(".")[0], "output.LayerNorm"}
    assert all(len(error["loss"]) == 8 and error["loss"][0] == found["loss"][0] for error in found["errors"])
    assert all(error["loss"] != found["loss"] for error in found["errors"])
    page = tables.verdict_html("BertLayer", {"verdict": "PASS", "rows": [], "notes": [], "planted": found}, True)
    assert not Parsed(page).wrong and "in another layer of a copy" in page
    assert f"<td>{sign['in']}</td>" in page and page.count(swapped["in"]) == 1


def test_a_models_v_curve_is_of_its_smallest_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def noted(model: Any, *inputs: Any, **keywords: Any) -> VCurve:
        trained.extend(name for name, parameter in model.named_parameters() if parameter.requires_grad)
        return VCurve((0.1, 0.01), {"central float64": (1e-2, 1.234567e-4)})

    monkeypatch.setattr(experiments, "v_curve", noted)
    curve = experiments.curve_of(draw("distilbert"))
    errors = {"central float64": [1e-2, 1.23e-4]}
    assert curve == {"steps": (0.1, 0.01), "errors": errors, "of": "classifier.bias"}
    assert trained == ["classifier.bias"]
    page = tables.verdict_html("distilbert", {"verdict": "PASS", "rows": [], "notes": [], "curve": curve}, True)
    assert "the derivative of distilbert by classifier.bias<" in page


def test_a_chart_says_where_each_formula_is_best() -> None:
    errors = {"central float64": [1e-2, 1e-6, 1e-4], "central float32": [1e-3, math.nan, 0.0]}
    page = charts.v_chart([1e-1, 1e-2, 1e-3], errors, "f")
    assert not Parsed(page).wrong
    assert "<td>1e-06 at h = 1e-02</td><td>1e-03 at h = 1e-01</td>" in page
    # From the largest step at the right to the smallest at the left, and the larger error higher.
    assert 'class="s0" d="M632 10L348 286L64 148"' in page
    assert 'class="s0 single" d="M632 79"' in page


def test_a_small_chart_is_on_the_right_runs_scale() -> None:
    page = charts.small([1.0, 0.1, 0.01], [1.0, 100.0, math.nan])
    assert not Parsed(page).wrong
    assert 'class="right" d="M1 13L66 23L131 34"' in page  # a decade is a third of the height, the first is left free
    assert 'class="wrong" d="M1 13L66 2"' in page
    assert 'class="wrong" d=""' in charts.small([1.0, 0.1], [math.nan, math.nan])
    assert 'aria-label="loss from 1 to no number; of the right gradient to 0.01"' in page


def test_a_row_has_its_v_curve_and_what_has_no_derivative_none() -> None:
    x = np.array([0.5, 1.5])
    curve = experiments.curve_of((F.tanh, (x,), {}))
    assert curve is not None and tuple(curve["steps"]) == v_curve(F.tanh, x).steps
    assert curve["errors"]["central float64"][0] == pytest.approx(v_curve(F.tanh, x).errors["central float64"][0], 1e-2)
    assert experiments.curve_of((lambda x: (np.abs(x), lambda dy: dy * np.sign(x)), (x,), {})) is None


def test_the_rules_of_optimisers_hold() -> None:
    found = rules.rules()
    assert {verdict["verdict"] for rows in found.values() for _, verdict in rows} == {"PASS"}
    names = {name for _, name in found}
    assert names == {name for name in optim.__all__ if name != "Optimizer"} - {"create_lorafa_optimizer"}
    for (_, name), rows in found.items():
        for error in rows[0][1].get("planted", {"errors": []})["errors"]:
            assert error["verdict"] == "FAIL", (name, error)


@pytest.mark.parametrize(("file", "right", "wrong"), [
    ("sgd", 'g = g + group["weight_decay"] * theta', 'g = g - group["weight_decay"] * theta'),
    ("sgd", '["momentum_buffer"] *= mu', '["momentum_buffer"] *= 1'),
    ("sgd", '(1 - group["dampening"]) * g', 'group["dampening"] * g'),
    ("sgd", "g + mu * m if", "g + m if"),
    ("adam", 'g + group["weight_decay"] * theta', 'g + theta'),
    ("adam", "m += (1 - beta1) * g", "m += beta1 * g"),
    ("adam", "v *= beta2", "v *= beta1"),
    ("adam", "math.sqrt(1 - beta2**t)", "1"),
    ("adam", "(1 - beta1**t) *", "1 *"),
    ("adam", '+ group["eps"]', ""),
    ("adam", "v = w", "v = v"),
    ("adam", "np.maximum(w, v, out=w)", "pass"),
    ("adam", 'theta *= 1 - group["lr"]', 'theta *= 1 - 2 * group["lr"]'),
    ("lora_fa", "** 2  # (1)", "# (1)"),
    ("lora_fa", '- group["lr"] * group["weight_decay"]', '- group["weight_decay"]'),
])  # fmt: skip
def test_an_error_planted_in_an_update_breaks_a_rule(file: str, right: str, wrong: str) -> None:
    text = (OPTIM / f"{file}.py").read_text(encoding="utf-8")
    assert text.count(right) == 1
    made: dict[str, Any] = {"__name__": "made"}
    exec(compile(text.replace(right, wrong), file, "exec"), made)
    pairs = {
        "sgd": [lambda: rules._sgd(made["SGD"])],
        "adam": [lambda: rules._adam(made["Adam"]), lambda: rules._adam(made["AdamW"], decoupled=True)],
        "lora_fa": [lambda: rules._lora_fa(made["LoraFAOptimizer"])],
    }[file]  # fmt: skip
    with np.errstate(all="ignore"):
        assert "FAIL" in {rules._verdict(each())["verdict"] for each in pairs}
