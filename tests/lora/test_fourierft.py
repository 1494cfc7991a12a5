"""What holds of FourierFT beside what holds of every method: cosines, their places, and numbers in the file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import FourierFTConfig, PeftModel, get_peft_model, gradcheck
from npora.lora import torch_words
from npora.lora.inject import adapted_layer
from npora.lora.methods.fourierft import FourierFT, cosines
from npora.lora.torch_words import TorchWords
from npora.nn import Conv1D, Linear
from tests.lora.cases import Method, adapted
from tests.lora.test_files import logits
from tests.tiny import tiny_bert

# What torch.randperm gives with these seeds; tests/parity compares many more.
ORDER = {(10, 777): [5, 9, 0, 3, 1, 7, 4, 8, 6, 2]}


def test_the_first_numbers_of_a_random_order_are_torchs() -> None:
    for (n, seed), order in ORDER.items():
        for k in (n, 4, 1):
            assert TorchWords(seed).permutation(n, k).tolist() == order[:k]
    assert sorted(TorchWords(5).permutation(60, 60)) == list(range(60))


@pytest.mark.parametrize("k", [37, 9, 1])
def test_of_very_many_numbers_the_order_is_built_from_its_end_by_64_bits(
    k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, order = np.random.RandomState(5).randint(0, 2**32, 2 * 37, np.uint32).tolist(), list[int]()
    for j in range(37):
        z = (words[2 * j] << 32 | words[2 * j + 1]) % (j + 1)
        order.append(j)
        order[j], order[z] = order[z], j
    for at_once in (5, 1000):
        monkeypatch.setattr(torch_words, "_AT_ONCE", at_once)
        assert TorchWords(5)._inside_out(37, k).tolist() == order[:k]
    monkeypatch.setattr(TorchWords, "_inside_out", lambda self, n, k: (n, k))
    assert TorchWords(5).permutation(214748364, 3) == (214748364, 3)  # from here on
    assert len(TorchWords(5).permutation(214748363, 3)) == 3


@pytest.mark.parametrize("conv", [False, True])
def test_the_layer_adds_a_sum_of_cosines(conv: bool) -> None:
    layer = adapted(Method("", FourierFTConfig(n_frequency=9, scaling=4, random_loc_seed=3)), 5, 6, conv=conv)
    adapter = layer.adapters["default"]
    assert isinstance(adapter, FourierFT) and isinstance(layer.base_layer, Conv1D) == conv
    (c,), delta = adapter.theta, np.zeros((6, 5))
    places = TorchWords(3).permutation(30, 9).tolist()
    for number, place in zip(c, places, strict=True):
        for o, i in np.ndindex(6, 5):
            delta[o, i] += 4 / 30 * number * np.cos(2 * np.pi * (place // 5 * o / 6 + place % 5 * i / 5))
    x = np.random.default_rng(3).standard_normal((2, 3, 5))
    expected = x @ (layer.base_layer.matrix + delta).T + layer.base_layer.bias.data  # type: ignore[union-attr]
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.get_delta_weight("default"), delta, rtol=0, atol=1e-13)
    assert [list(part) for part in adapter.places] == [[p // 5 for p in places], [p % 5 for p in places]]


@pytest.mark.parametrize(("i", "o"), [(5, 6), (1, 4), (4, 1), (7, 3)])
def test_its_gradients_are_right_and_those_of_one_cosine_are_equal(i: int, o: int) -> None:
    layer = adapted(Method("", FourierFTConfig(n_frequency=i * o, scaling=2)), i, o)
    report = gradcheck(layer, np.random.default_rng(4).standard_normal((2, 3, i)))
    assert report.ok, report
    adapter = layer.adapters["default"]
    adapter.parameters()[0].grad = np.arange(i * o) + 1.0
    ((_, terms),) = adapter.identities({}, {})
    assert 2 * len(terms) >= i * o - 4 and terms.sum(axis=-1).all()  # all pairs but those that are their own mirror


def test_the_map_is_its_own_transpose_and_real_linear() -> None:
    rng = np.random.default_rng(0)
    F, G = rng.standard_normal((2, 5, 6))
    np.testing.assert_allclose((cosines(F) * G).sum(), (F * cosines(G)).sum(), rtol=1e-12)
    np.testing.assert_allclose(cosines(F + 1e-30j * G).imag, 1e-30 * cosines(G), rtol=1e-12)
    assert cosines(F.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("start", [True, False])
def test_it_begins_with_normal_numbers_unless_it_is_to_begin_with_nothing(start: bool) -> None:
    config = FourierFTConfig(n_frequency=2000, init_weights=start)
    c = adapted_layer(Linear(60, 50, rng=0), config, np.random.default_rng(1)).fourierft_spectrum["default"].data
    assert c.shape == (2000,) and c.dtype == np.float32
    assert not c.any() if start else abs(c.std() - 1) < 0.1 and abs(c.mean()) < 0.1
    assert FourierFTConfig().init_weights is False


def test_a_file_holds_numbers_and_the_config_their_places(tmp_path: Path) -> None:
    config = FourierFTConfig(n_frequency=7, n_frequency_pattern={"0.*query": 3}, target_modules=["query"])
    model = get_peft_model(tiny_bert(), config)
    model.save_pretrained(tmp_path / "a")
    again = PeftModel.from_pretrained(tiny_bert(), tmp_path / "a")
    assert logits(again) == logits(model) != logits(tiny_bert())
    assert [layer.fourierft_spectrum["default"].size for _, layer in again.lora_layers()] == [3, 7]
    assert {name.rpartition(".")[2] for name in again.adapter_parameters("default")} == {"fourierft_spectrum"}
    config.random_loc_seed = 1
    with pytest.raises(ValueError, match=r"the adapter in .* has random_loc_seed=777, this one random_loc_seed=1"):
        get_peft_model(tiny_bert(), config).load_adapter(tmp_path / "a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_frequency": 37}, "query is 6 by 6, and has fewer than n_frequency=37 coefficients: choose ≤ 36"),
        ({"n_frequency": 0}, "n_frequency must be a whole number of at least 1; got 0 for n_frequency"),
        (
            {"n_frequency_pattern": {"query": 0.5}},
            "n_frequency must be a whole number of at least 1; got 0.5 for query",
        ),
        ({"n_frequency_pattern": {"key": 5}, "n_frequency": 3}, "n_frequency_pattern: 'key' matches none of the 2"),
        ({"n_frequency_pattern": [3]}, "n_frequency_pattern must be a dict by patterns; got [3]"),
        ({"n_frequency_pattern": {"(": 3}}, "n_frequency_pattern: "),
        ({"scaling": float("inf")}, "scaling must be a number; got inf"),
        ({"random_loc_seed": None}, "random_loc_seed must be a whole number; got None"),
        ({"bias": "lora_only"}, "bias must be 'none', 'all' or 'fourier_only'; got 'lora_only'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        get_peft_model(tiny_bert(), FourierFTConfig(target_modules=["query"], **fields))
    assert message in str(error.value)
