"""What is measured of an update is what was put into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig, LNTuningConfig, LoraConfig, PeftModel, get_peft_model
from npora.lora import PeftConfig
from npora.lora.combine import singular
from npora.lora.measures import directions, effective_rank, measured, of_file, of_model, similarity
from npora.nn import CentredRMSNorm, LayerNorm
from npora.nn.module import Array
from tests.lora.test_two_adapters import Net
from tests.properties.strategies import normal


def turned(seed: int, size: int, count: int) -> Array:
    """Orthonormal rows."""
    return np.array(np.linalg.qr(normal(seed, size, count))[0].T)


def test_an_update_along_the_top_directions_of_its_layer_overlaps_them_wholly() -> None:
    U, V = turned(0, 6, 6), turned(1, 5, 5)
    W = U[:5].T @ np.diag([9.0, 7, 5, 2, 1]) @ V
    along = U[:2].T @ np.diag([3.0, 1.5]) @ V[:2]
    found = measured(singular(along), W)
    np.testing.assert_allclose(found.values, [3, 1.5], rtol=0, atol=1e-13)
    assert abs(found.overlap - 1) < 1e-12 and found.chance == 2 / 5
    assert abs(found.relative - np.hypot(3, 1.5) / np.sqrt(81 + 49 + 25 + 4 + 1)) < 1e-13
    assert abs(found.amplification - np.hypot(3, 1.5) / np.hypot(9, 7)) < 1e-12
    across = measured(singular(U[3:5].T @ np.diag([3.0, 1.5]) @ V[3:]), W)
    assert across.overlap < 1e-20 and abs(across.amplification - np.hypot(3, 1.5) / np.hypot(2, 1)) < 1e-12
    half = measured(singular(U[:1].T @ V[:1] + U[4:5].T @ V[4:]), W)
    assert abs(half.overlap - 0.5) < 1e-12


@pytest.mark.parametrize(("values", "rank"), [([2.0, 2, 2], 3), ([5.0, 0, 0], 1), ([0.0, 0], 0), ([3.0, 1], 1.7548)])
def test_the_effective_rank_counts_what_is_equal(values: list[float], rank: float) -> None:
    assert abs(effective_rank(np.array(values)) - rank) < 1e-4


def test_subspaces_are_as_similar_as_they_are_shared_and_chance_says_how_much_that_is() -> None:
    V = turned(2, 7, 7)
    for one, other, expected in ((V[:3], V[:3], 1), (V[:3], V[3:], 0), (V[:3], V[2:4], 0.5), (V[:1], V[:4], 1)):
        assert abs(similarity(one, other) - expected) < 1e-12
    assert abs(similarity(turned(3, 3, 3) @ V[:3], V[:3]) - 1) < 1e-12  # which basis it has is no matter
    drawn = [similarity(turned(seed, 40, 4), turned(seed + 1000, 40, 6)) for seed in range(300)]
    assert abs(np.mean(drawn) - 6 / 40) < 5 * np.std(drawn) / 300**0.5


def test_values_that_are_zero_to_rounding_are_no_directions() -> None:
    found = singular(np.outer(np.arange(1.0, 7), np.arange(1.0, 6)))
    assert directions(found).shape == (1, 5) and directions(singular(np.zeros((6, 5)))).shape == (0, 5)
    nothing = measured(singular(np.zeros((6, 5))), np.ones((6, 5)))
    assert (nothing.relative, nothing.overlap, nothing.norm, nothing.effective_rank) == (0.0, None, 0.0, 0.0)


def moved(config: Any) -> PeftModel:
    model = get_peft_model(Net(), config)
    for number, parameter in enumerate(model.adapter_parameters("default").values()):
        parameter.data = parameter.data + 0.4 * normal(number, *parameter.shape)
    return model


@pytest.mark.parametrize(
    "config", [{}, {"use_rslora": True}, {"alpha_pattern": {"upper": 7}, "rank_pattern": {"lower": 3}}]
)
def test_a_file_alone_says_the_same_of_the_update_as_the_model(tmp_path: Path, config: dict[str, Any]) -> None:
    model = moved(LoraConfig(r=2, lora_alpha=5, target_modules=["lower", "upper"], **config))
    model.save_pretrained(tmp_path)
    of_it, of_base = dict(of_file(str(tmp_path), PeftConfig.from_pretrained(tmp_path))), dict(of_model(model))
    assert of_it.keys() == of_base.keys() == {"lower", "upper"}
    for path, layer in model.lora_layers():
        sigma = np.linalg.svd(layer.get_delta_weight("default"))[1]
        for found in (of_it[path], of_base[path]):
            np.testing.assert_allclose(found.values, sigma[: len(found.values)], rtol=0, atol=1e-12)
            assert len(found.values) == layer.adapters["default"].r
        assert of_it[path].overlap is None and of_base[path].overlap is not None
        np.testing.assert_allclose(similarity(of_it[path].directions, of_base[path].directions), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [HiraConfig(r=2, target_modules=["lower"]),
                                    LoraConfig(r=2, target_modules=["lower"], use_dora=True)])  # fmt: skip
def test_of_an_update_that_depends_on_the_base_a_file_says_nothing(tmp_path: Path, config: PeftConfig) -> None:
    model = moved(config)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="depends on the base's weights: pass --base"):
        list(of_file(str(tmp_path), config))
    ((_, found),) = of_model(model)
    sigma = np.linalg.svd(model.lora_layers()[0][1].get_delta_weight("default"))[1]
    np.testing.assert_allclose(found.values, sigma[: len(found.values)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [LayerNorm, CentredRMSNorm])
def test_of_a_norm_the_matrix_is_diagonal(kind: Any) -> None:
    net = Net()
    net.lower = kind(5, dtype=np.float64)
    start = net.lower.weight.data = np.array([1.0, -2, 0.5, 1, 3])
    model = get_peft_model(net, LNTuningConfig(target_modules=["lower"]))
    gamma, *beta = model.adapter_parameters("default").values()
    gamma.data = start + np.array([0.0, 0.3, 0, -0.4, 0])
    for shift in beta:
        net.lower.base_layer.bias.data, shift.data = np.array([3.0, 0, 0, 4, 0]), np.array([3.0, 0, 0, 4, 2])
    ((_, found),) = of_model(model)
    W = start + (kind is CentredRMSNorm)
    np.testing.assert_allclose(found.values, [0.4, 0.3], rtol=0, atol=1e-15)
    assert abs(found.relative - 0.5 / np.linalg.norm(W)) < 1e-15
    assert found.overlap == 0.5 and abs(found.amplification - 0.5 / np.hypot(W[1], W[3])) < 1e-14
    assert found.bias == (pytest.approx(0.4, abs=1e-15) if beta else None)
