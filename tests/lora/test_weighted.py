"""An adapter that is made of others: which layers it is on, what its config and files say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig, IA3Config, LoraConfig, PeftModel, VeraConfig, get_peft_model
from npora.nn.module import Array
from tests.lora.test_two_adapters import Net, values
from tests.properties.strategies import normal
from tests.tiny import tiny_bert

X = values(7, 6, 5)
PRUNED = {"density": 0.4}
KINDS: dict[str, dict[str, Any]] = {
    "linear": {}, "ties": PRUNED, "dare_linear": PRUNED, "dare_ties": PRUNED, "magnitude_prune": PRUNED, "cat": {},
    "svd": {}, "ties_svd": PRUNED, "dare_linear_svd": PRUNED, "dare_ties_svd": PRUNED, "magnitude_prune_svd": PRUNED,
}  # fmt: skip


def model_of(*configs: Any) -> PeftModel:
    model = PeftModel(Net(), configs[0], "a", seed=1)
    for name, config in zip("bcdef", configs[1:], strict=False):
        model.add_adapter(name, config, seed=ord(name))
    for name in model.peft_config:
        for number, parameter in enumerate(model.adapter_parameters(name).values()):
            if "vera_A" not in name:
                parameter.data = parameter.data + 0.4 * normal(number + ord(name), *parameter.shape)
    return model


def loras() -> PeftModel:
    return model_of(
        LoraConfig(r=3, lora_alpha=5, target_modules=["lower", "upper"], lora_dropout=0.1, modules_to_save=["head"]),
        LoraConfig(r=3, lora_alpha=2, use_rslora=True, target_modules=["upper"]),
    )


def deltas(model: PeftModel, name: str) -> dict[str, Array]:
    return {path: layer.get_delta_weight(name) for path, layer in model.lora_layers() if name in layer.adapters}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_is_a_plain_lora_that_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    model = loras()
    before = model(X)[0].tobytes()
    model.add_weighted_adapter(["a", "b"], [0.5, -0.8], "new", kind, **KINDS[kind])
    config = model.peft_config["new"]
    assert isinstance(config, LoraConfig) and config.target_modules == ["lower", "upper"]
    assert config.r == config.lora_alpha == (6 if kind == "cat" else 3) and config.lora_dropout == 0.1
    assert not (config.use_rslora or config.use_dora or config.rank_pattern) and config.modules_to_save == ["head"]
    assert model(X)[0].tobytes() == before and model.active_adapters == ["a"]
    assert not any(parameter.requires_grad for parameter in model.adapter_parameters("new").values())
    model.set_adapter("new")
    y = model(X)[0]
    model.save_pretrained(tmp_path, selected_adapters=["new"])
    assert PeftModel.from_pretrained(Net(), tmp_path / "new")(X)[0].tobytes() == y.tobytes()
    model.delete_adapter("a")
    assert model(X)[0].tobytes() == y.tobytes()


def test_what_is_exact_is_the_weighted_sum_and_the_head_is_that_of_the_one_that_has_it() -> None:
    model = loras()
    a, b = deltas(model, "a"), deltas(model, "b")
    model.add_weighted_adapter(["a", "b"], [0.5, -0.8], "cat", "cat")
    model.add_weighted_adapter(["a", "b"], [0.5, -0.8], "svd", "svd", svd_rank=6)
    for name in ("cat", "svd"):
        found = deltas(model, name)
        np.testing.assert_allclose(found["lower"], 0.5 * a["lower"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found["upper"], 0.5 * a["upper"] - 0.8 * b["upper"], rtol=0, atol=1e-12)
        heads = [dict(model.adapter_parameters(n))["base_model.model.head.weight"] for n in ("a", name)]
        assert heads[0].data.tobytes() == heads[1].data.tobytes() and heads[0].data is not heads[1].data
    model.add_weighted_adapter(["a", "b"], [0.5, -0.8], "less", "svd", svd_rank=np.int64(2))
    U, S, V = np.linalg.svd(0.5 * a["upper"] - 0.8 * b["upper"])
    np.testing.assert_allclose(deltas(model, "less")["upper"], (U[:, :2] * S[:2]) @ V[:2], rtol=0, atol=1e-12)
    for kind in KINDS:  # one alone is scaled
        model.add_weighted_adapter(["b"], [-3], f"one_{kind}", kind, **KINDS[kind])
        np.testing.assert_allclose(deltas(model, f"one_{kind}")["upper"], -3 * b["upper"], rtol=0, atol=1e-12)


def test_what_is_dropped_is_drawn_for_each_layer_anew() -> None:
    model = get_peft_model(tiny_bert(), LoraConfig(r=3, target_modules=["query", "key"], init_lora_weights=False), "a")
    model.add_adapter("b", LoraConfig(r=3, target_modules=["query", "key"], init_lora_weights=False))
    model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "c", "dare_linear", density=0.3)
    kept = [(layer.adapters["c"].A.data != 0).tobytes() for _, layer in model.lora_layers()]
    assert len(set(kept)) == len(kept) > 1


def test_whole_updates_may_be_of_any_methods() -> None:
    on: dict[str, Any] = {"r": 2, "target_modules": ["lower"]}
    of_two = VeraConfig(r=2, target_modules=["lower", "upper"])
    model = model_of(LoraConfig(**on), LoraConfig(use_dora=True, **on), HiraConfig(**on), of_two)
    names, weights = ["a", "b", "c", "d"], [0.5, 1, -1, 2]
    model.add_weighted_adapter(names, weights, "new", "svd", svd_rank=4)
    expected = sum(w * deltas(model, name)["lower"] for w, name in zip(weights, names, strict=True))
    np.testing.assert_allclose(deltas(model, "new")["lower"], expected, rtol=0, atol=1e-12)
    model.add_weighted_adapter(["d"], [1], "dd", "svd")
    np.testing.assert_allclose(deltas(model, "dd")["upper"], deltas(model, "d")["upper"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "first",
    [
        LoraConfig(r=2, target_modules="all-linear", exclude_modules=["head"]),
        LoraConfig(r=2, target_modules=["lower"]),
        LoraConfig(r=2, target_modules="(low|he).*", exclude_modules="head"),
    ],
)
@pytest.mark.parametrize("second", [["upper"], "up.*"])
def test_the_targets_are_those_of_the_adapters_whatever_their_configs_leave_out(
    first: Any, second: Any, tmp_path: Path
) -> None:
    model = model_of(first, LoraConfig(r=2, target_modules=second))
    model.add_weighted_adapter(["a", "b"], [1, 1], "new", "cat")
    found = deltas(model, "new")
    model.save_pretrained(tmp_path, selected_adapters=["new"])
    again = deltas(PeftModel.from_pretrained(Net(), tmp_path / "new"), "default")
    assert found.keys() == again.keys() == {"lower", "upper"}
    assert all((found[path] == again[path]).all() for path in found)


def test_ranks_that_differ_by_layer_are_put_together_where_each_layer_has_one() -> None:
    patterns: dict[str, Any] = {"target_modules": ["lower", "upper"], "rank_pattern": {"upper": 2}}
    model = model_of(LoraConfig(r=3, **patterns), LoraConfig(r=3, **patterns))
    model.add_weighted_adapter(["a", "b"], [1, 0], "new", "linear")
    for path, delta in deltas(model, "a").items():
        np.testing.assert_allclose(deltas(model, "new")[path], delta, rtol=0, atol=1e-12)
    model = model_of(LoraConfig(r=3, **patterns), LoraConfig(r=3, target_modules=["upper"]))
    with pytest.raises(ValueError, match="at upper they have several"):
        model.add_weighted_adapter(["a", "b"], [1, 1], "new", "linear")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"adapters": ["a", "x"]}, "there is no adapter 'x'"),
    ({"adapters": []}, "each adapter needs a weight"),
    ({"weights": [1]}, "got 2 adapters and 1 weights"),
    ({"weights": [1, float("nan")]}, "must be finite"),
    ({"adapter_name": "a"}, "there is an adapter named 'a' already"),
    ({"combination_type": "mean"}, "combination_type 'mean' is not one of linear"),
    ({"combination_type": "ties"}, "ties needs a density"),
    ({"combination_type": "ties", "density": 1.5}, "ties needs a density"),
    ({"combination_type": "svd", "density": 0.5}, "density is for combinations that prune"),
    ({"combination_type": "cat", "svd_rank": 2}, "svd_rank is for combinations by svd"),
    ({"combination_type": "svd", "svd_rank": True}, "svd_rank must be a whole number"),
    ({"combination_type": "svd", "svd_rank": 0}, "svd_rank must be a whole number"),
    ({"combination_type": "linear", "svd_clamp": 0.9}, "svd_clamp is for combinations by svd"),
    ({"combination_type": "svd", "svd_clamp": 2}, "svd_clamp is a quantile"),
    ({"combination_type": "svd", "svd_driver": "gesvd"}, "svd_driver='gesvd'"),
    ({"combination_type": "ties", "density": 0.5, "majority_sign_method": "most"}, "'total' or 'frequency'"),
    ({"combination_type": "svd", "majority_sign_method": "frequency"}, "majority_sign_method is for ties"),
    ({"adapters": ["a", "c"], "combination_type": "linear"}, "combines adapters of one rank; got 3, 2"),
    ({"adapters": ["c", "d"], "combination_type": "cat"}, "'d' is no plain LoRA at lower"),
    ({"adapters": ["c", "e"], "combination_type": "svd"}, "'e' changes the bias of upper"),
    ({"adapters": ["a", "f"], "combination_type": "svd"}, "both train head whole"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error"), REFUSED, ids=[error for _, error in REFUSED])
def test_what_has_no_meaning_is_refused_and_nothing_is_changed(options: dict[str, Any], error: str) -> None:
    both = {"target_modules": ["lower", "upper"]}
    model = model_of(
        LoraConfig(r=3, modules_to_save=["head"], **both), LoraConfig(r=3, **both), LoraConfig(r=2, **both),
        LoraConfig(r=2, use_dora=True, **both), IA3Config(target_modules=["upper"], feedforward_modules=[]),
        LoraConfig(r=3, modules_to_save=["head"], **both),
    )  # fmt: skip
    before = [name for name, _ in model.named_parameters()]
    with pytest.raises(ValueError, match=error):
        model.add_weighted_adapter(**{"adapters": ["a", "b"], "weights": [1, 1], "adapter_name": "new", **options})
    assert [name for name, _ in model.named_parameters()] == before and "new" not in model.peft_config


def test_what_takes_away_where_it_began_is_combined_as_the_plain_lora_that_it_is() -> None:
    on: dict[str, Any] = {"target_modules": ["lower", "upper"]}
    model = model_of(LoraConfig(r=2, init_lora_weights="pissa", **on), LoraConfig(r=4, **on))
    a, b = deltas(model, "a"), deltas(model, "b")
    model.add_weighted_adapter(["a", "b"], [0.5, -2], "new", "cat")
    assert model.peft_config["new"].r == 8 and min(abs(delta).max() for delta in a.values()) > 0.1
    for path, delta in deltas(model, "new").items():
        np.testing.assert_allclose(delta, 0.5 * a[path] - 2 * b[path], rtol=0, atol=1e-12)
    model.add_weighted_adapter(["a"], [2], "twice", "linear")
    np.testing.assert_allclose(deltas(model, "twice")["lower"], 2 * a["lower"], rtol=0, atol=1e-12)
