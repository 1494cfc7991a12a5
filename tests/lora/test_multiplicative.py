"""Methods that turn what goes into a layer, or what comes out: OFT, HRA and RoAd, their formulas computed apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import HRAConfig, OFTConfig, PeftModel, RoadConfig, get_peft_model, gradcheck
from npora.catalogue.adapters import CONFIGS
from npora.lora.cayley import cayley, neumann, skew
from npora.lora.methods.oft import nearest_divisor
from npora.nn import Linear, Module
from tests.lora.cases import Method, adapted


def made(config: Any, i: int = 12, o: int = 8) -> tuple[Any, Any, Any, list[Any]]:
    """What the layer makes of x, W, b, and the adapter's numbers, none of them special."""
    layer = adapted(Method("", config), i, o, seed=3)
    x = np.random.default_rng(7).standard_normal((5, i))
    base = layer.base_layer
    expected = layer(x)[0] - base.bias.data
    layer.merge()
    np.testing.assert_allclose(layer(x)[0] - base.bias.data, expected, rtol=0, atol=1e-12)
    return x, np.array(base.matrix), base.bias.data, [expected, *layer.adapters["default"].theta]


def series(Q: Any, factors: list[float]) -> Any:
    return sum(a * np.linalg.matrix_power(Q, power) for power, a in enumerate(factors))


NEUMANN = {2: [1, 2], 3: [1, 2, 2, 1], 4: [1, 2, 2, 1], 5: [1, 2, 2, 2, 1], 6: [1, 2, 2, 2, 2, 1]}


@pytest.mark.parametrize("terms", [0, *NEUMANN])
@pytest.mark.parametrize("shared", [False, True])
def test_oft_turns_each_block_of_the_inputs(terms: int, shared: bool) -> None:
    fields = {"num_cayley_neumann_terms": terms} if terms else {"use_cayley_neumann": False}
    x, W, _, (y, q) = made(OFTConfig(oft_block_size=4, block_share=shared, **fields))
    R = np.zeros((12, 12))
    for block in range(3):
        Q, numbers = np.zeros((4, 4)), iter(q[0 if shared else block])
        for row in range(4):
            for column in range(row + 1, 4):
                Q[row, column] = next(numbers)
                Q[column, row] = -Q[row, column]
        part = series(Q, NEUMANN[terms]) if terms else (np.eye(4) - Q) @ np.linalg.inv(np.eye(4) + Q)
        R[4 * block : 4 * block + 4, 4 * block : 4 * block + 4] = part
    np.testing.assert_allclose(y, x @ R @ W.T, rtol=0, atol=1e-12)


def test_the_exact_form_is_orthogonal_and_the_other_one_is_its_inverse_nearly() -> None:
    q = 0.01 * np.random.default_rng(0).standard_normal((3, 10))
    Q, _ = skew(q, 5)
    R, S = cayley(Q)[0], neumann(Q, 5)[0]
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.broadcast_to(np.eye(5), (3, 5, 5)), atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-14)
    np.testing.assert_allclose(S, R.transpose(0, 2, 1), rtol=0, atol=1e-6)
    assert abs(S - R).max() > 1e-3
    errors = [abs(neumann(Q, terms)[0] - R.transpose(0, 2, 1)).max() for terms in (2, 3, 5, 7, 9)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-12


@pytest.mark.parametrize(("wanted", "found"), [(1, 1), (4, 4), (5, 4), (7, 6), (8, 6), (9, 6), (10, 12), (99, 12)])
def test_a_block_size_that_does_not_divide_the_inputs_gives_way_to_the_nearest_that_does(
    wanted: int, found: int
) -> None:
    assert nearest_divisor(12, wanted) == found
    layer = adapted(Method("", OFTConfig(oft_block_size=wanted)), 12, 8)
    assert layer.adapters["default"].size == found
    layer = adapted(Method("", OFTConfig(r=wanted, oft_block_size=0)), 12, 8)
    assert layer.adapters["default"].blocks == found


@pytest.mark.parametrize("r", [1, 2, 5])
def test_hra_reflects_the_inputs_one_reflection_after_another(r: int) -> None:
    x, W, _, (y, U) = made(HRAConfig(r=r, init_weights=False))
    z = x
    for u in U.T[::-1]:  # the last one first: W H₁ ⋯ Hᵣ x
        z = z - 2 * np.outer(z @ u, u) / (u @ u)
    np.testing.assert_allclose(y, z @ W.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), np.linalg.norm(x, axis=1), rtol=1e-12)


@pytest.mark.parametrize("variant", ["road_1", "road_2", "road_4"])
@pytest.mark.parametrize("group", [2, 4, 8])
def test_road_turns_and_scales_pairs_of_outputs(variant: str, group: int) -> None:
    x, W, b, (y, theta, alpha) = made(RoadConfig(variant=variant, group_size=group))
    z, expected, half = x @ W.T + b, np.zeros((5, 8)), group // 2
    for first in [at for at in range(8) if at % group < half]:
        second, start = first + half, first - first % group
        number = {"road_1": start // 2 + first % group, "road_2": first, "road_4": 2 * start + first % group}[variant]
        other = {"road_1": number, "road_2": second, "road_4": number + half}[variant]
        beside = group if variant == "road_4" else 0
        for row, at, partner, sign in ((number, first, second, -1), (other, second, first, 1)):
            along, across = alpha[row] * np.cos(theta[row]), alpha[row + beside] * np.sin(theta[row + beside])
            expected[:, at] = along * z[:, at] + sign * across * z[:, partner]
    np.testing.assert_allclose(y + b, expected, rtol=0, atol=1e-12)
    if variant == "road_1":
        pairs = (part.reshape(5, -1, 2, half) for part in (y + b, z))
        lengths = [np.linalg.norm(part, axis=2).reshape(5, -1) for part in pairs]
        np.testing.assert_allclose(lengths[0], abs(alpha) * lengths[1], rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith(("oft", "hra", "road"))])
def test_the_pullback_is_that_of_the_forward_over_several_blocks_and_groups(name: str) -> None:
    layer = adapted(Method(name, CONFIGS[name]), 12, 16)
    report = gradcheck(layer, np.random.default_rng(0).standard_normal((3, 12)))
    assert report.ok, report


class Holder(Module):
    def __init__(self) -> None:
        self.dense = Linear(6, 10, rng=1)

    def forward(self, x: Any) -> Any:
        return self.dense(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: get_peft_model(Holder(), HRAConfig(r=3, target_modules=["dense"])),
         "r must be even; got r=3. With init_weights=False it may be odd"),
        (lambda: HRAConfig(apply_GS=True), "apply_GS=True is not supported"),
        (lambda: HRAConfig(r=0), "the rank must be a whole number of at least 1"),
        (lambda: OFTConfig(r=4), "the other one is 0; got r=4, oft_block_size=32"),
        (lambda: OFTConfig(oft_block_size=0), "the other one is 0; got r=0, oft_block_size=0"),
        (lambda: OFTConfig(r=-1, oft_block_size=0), "the rank must be a whole number of at least 0; got -1"),
        (lambda: OFTConfig(oft_block_size=-2), "got r=0, oft_block_size=-2"),
        (lambda: OFTConfig(num_cayley_neumann_terms=1), "num_cayley_neumann_terms must be at least 2; got 1"),
        (lambda: OFTConfig(coft=True), "coft=True is not supported"),
        (lambda: OFTConfig(module_dropout=0.1), "module_dropout=0.1 is not supported"),
        (lambda: RoadConfig(group_size=3), "group_size must be an even number of at least 2; got 3"),
        (lambda: RoadConfig(group_size=0), "group_size must be an even number of at least 2; got 0"),
        (lambda: RoadConfig(variant="road_3"), "variant must be 'road_1', 'road_2' or 'road_4'; got 'road_3'"),
        (lambda: get_peft_model(Holder(), RoadConfig(target_modules=["dense"], group_size=4)),
         "in groups of 4, and dense has 10 outputs: give an even group_size that divides them"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)


def test_an_odd_number_of_reflections_that_was_saved_is_loaded(tmp_path: Path) -> None:
    """Whatever its config says of how it began."""
    config, x = HRAConfig(r=3, init_weights=False, target_modules=["dense"]), np.ones((2, 6), np.float32)
    model = get_peft_model(Holder(), config)
    config.init_weights = True
    model.save_pretrained(tmp_path)
    assert PeftModel.from_pretrained(Holder(), tmp_path)(x)[0].tobytes() == model(x)[0].tobytes()


def test_where_one_layer_is_refused_none_is_changed() -> None:
    model = Holder()
    model.wide = Linear(6, 8)
    with pytest.raises(ValueError, match="dense has 10 outputs"):
        get_peft_model(model, RoadConfig(target_modules=["wide", "dense"], group_size=8))
    assert type(model.wide) is type(model.dense) is Linear and all(p.requires_grad for p in model.parameters())
