"""The product in blocks is the product, and its bits are the same for any number of threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import LoraConfig, get_peft_model, no_grad, set_num_threads
from npora.machine import blas
from npora.machine import product as page
from npora.machine.product import product
from npora.machine.threads import in_parallel
from npora.models import BertConfig, BertForSequenceClassification, LlamaForCausalLM
from npora.models.families.llama import LlamaConfig
from npora.nn import MultiHeadAttention
from npora.train import accumulate_gradients

THREADS = (1, 2, 3, 8)
# [n,i] by [i,o]: all that are cut by columns, by rows, along i, and one row by columns; a few that are not.
SIZES = [(65, 257, 1030), (1031, 258, 66), (1, 1037, 1500), (1, 3001, 519), (517, 1033, 130), (9, 2049, 777), (3, 5, 7),
         (0, 300, 400), (70, 0, 90), (1, 1, 40_000), (2, 1037, 1500)]  # fmt: skip


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    yield
    set_num_threads(None)


def same_for_any_number_of_threads(compute: Callable[[], list[Any]]) -> list[Any]:
    results = []
    for number in THREADS:
        set_num_threads(number)
        results.append(compute())
    for other in results[1:]:
        assert [np.asarray(value).tobytes() for value in other] == [np.asarray(v).tobytes() for v in results[0]]
    return results[0]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("order", ["CC", "CF", "FC", "FF"])
@pytest.mark.parametrize("dtypes", [("f4", "f4"), ("f8", "f4"), ("f4", "f8"), ("c16", "f8"), ("f8", "c16")], ids=str)
def test_it_is_the_product(size: tuple[int, int, int], order: str, dtypes: tuple[str, str]) -> None:
    n, i, o = size
    rng = np.random.default_rng(7)
    a = np.asarray(rng.standard_normal((n, i)), dtype=dtypes[0], order=order[0])  # type: ignore[call-overload]
    b = np.asarray(rng.standard_normal((i, o)), dtype=dtypes[1], order=order[1])  # type: ignore[call-overload]
    a.flags.writeable = b.flags.writeable = False
    (y,) = same_for_any_number_of_threads(lambda: [product(a, b)])
    expected = a.astype(np.result_type(a, np.float64)) @ b
    assert y.dtype == np.result_type(a, b) and y.shape == (n, o)
    rounding = np.finfo(y.dtype).eps * np.sqrt(max(i, 1)) * 8  # of i terms of size 1, added in any order
    np.testing.assert_allclose(y, expected, rtol=0, atol=rounding * np.sqrt(max(i, 1)))


@given(st.integers(0, 1 << 36), st.integers(1, 1 << 20))
def test_blocks_cover_the_axis_once_and_in_order(work: int, width: int) -> None:
    parts = page._parts(work, width)
    assert parts[0].start == 0 and parts[-1].stop == width
    assert all(one.stop == other.start for one, other in itertools.pairwise(parts))
    assert all(part.start < part.stop for part in parts)


CUT: dict[tuple[int, int], list[int]] = {  # (work, width): the edges
    (0, 9): [0, 9],
    (12_000_000 - 1, 256): [0, 256],  # two blocks have six millions each at least
    (12_000_000, 255): [0, 255],  # and 128 rows or columns
    (12_000_000, 256): [0, 192, 256],  # the caller's is ahead by 149 of 256, as seven of twelve millions are
    (80_000_000 - 1, 1024): [0, 544, 1024],
    (80_000_000, 1024): [0, 320, 544, 784, 1024],  # of more blocks each has twenty
    (56_000_000, 1024): [0, 576, 1024],
    (56_000_000 + 1, 1024): [0, 560, 1024],
    (10**12, 100_000): [0, 12496, 24992, 37488, 50000, 62496, 74992, 87488, 100_000],  # there are eight at most
}


@pytest.mark.parametrize(("of", "edges"), CUT.items(), ids=str)
def test_where_an_axis_is_cut_is_decided_by_sizes_alone(of: tuple[int, int], edges: list[int]) -> None:
    """In sixteens, by hand."""
    assert page._parts(*of) == [slice(*pair) for pair in itertools.pairwise(edges)]


def test_the_longer_axis_is_cut_and_of_one_row_the_one_that_its_matrix_is_stored_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The work is i n o multiplications, and reading i (n + o) numbers takes as long as 16 each."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(page, "_parts", lambda work, width: asked.append((work, width)) or [slice(0, width)])
    rng = np.random.default_rng(0)
    for n, i, o in ((40, 50, 60), (60, 50, 40), (1, 300, 400), (2, 300, 400), (16, 16, 32), (16, 16, 33)):
        for order in "CF":
            a, b = rng.standard_normal((n, i)), np.asarray(rng.standard_normal((i, o)), order=order)  # type: ignore[call-overload]
            np.testing.assert_allclose(product(a, b), np.einsum("ni,io->no", a, b), rtol=0, atol=1e-12)
    cut_alike = [(200_000, 60), (200_000, 60), (2_044_800, 300), (2_044_800, 400)]
    assert [asked[k] for k in (0, 2, 4, 5)] == cut_alike and asked[:4] == [(200_000, 60)] * 4
    assert asked[6:] == [(300 * (800 + 16 * 402), 400)] * 2 + [(16 * (528 + 16 * 49), 33)] * 2  # 8192: no more than one


def test_large_products_are_cut_and_none_inside_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    monkeypatch.setattr(page, "in_parallel", lambda tasks: pieces.append(len(tasks)) or [task() for task in tasks])
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((65, 512)), rng.standard_normal((512, 1030))
    whole = product(a, b)
    assert len(pieces) == 1 and pieces[0] > 1
    inside = in_parallel([lambda: product(a, b)] * 2)
    assert len(pieces) == 1
    for y in inside:
        np.testing.assert_allclose(y, whole, rtol=0, atol=1e-11)


def bert() -> Any:
    config = BertConfig(vocab_size=40, hidden_size=256, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=1030, max_position_embeddings=64)  # fmt: skip
    base = BertForSequenceClassification(config, rng=0)
    lora = LoraConfig(r=3, target_modules=["query", "value"], lora_dropout=0.1, task_type="SEQ_CLS")
    model = get_peft_model(base, lora)
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * rng.standard_normal(parameter.shape, dtype=np.float32)
    return model


@pytest.mark.parametrize("tokens_at_once", [0, 70, 512], ids=["whole", "in pieces", "as usual"])
def test_a_training_step_has_the_same_bits_for_any_number_of_threads(tokens_at_once: int) -> None:
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 60, 8)
    mask = (np.arange(60) < lengths[:, None]).astype(np.int64)
    batch = {"input_ids": rng.integers(1, 40, mask.shape) * mask, "attention_mask": mask,
             "labels": rng.integers(0, 2, 8)}  # fmt: skip

    def step() -> list[Any]:
        model = bert()
        loss, items = accumulate_gradients(model, batch, np.random.default_rng(5), tokens_at_once)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert items == 8 and len(gradients) == 10
        return [loss, *gradients]

    assert np.isfinite(same_for_any_number_of_threads(step)[0])


def test_prediction_and_attention_have_the_same_bits_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(3)
    ids, model = rng.integers(1, 40, (9, 61)), bert()
    layer = MultiHeadAttention(192, 3, rng=0)
    x, dy = rng.standard_normal((2, 5, 300, 192), dtype=np.float32)

    def compute() -> list[Any]:
        with no_grad():
            logits = model(ids)[0].logits
        layer.zero_grad()
        y, backward = layer(x)
        return [logits, y, backward(dy), *(parameter.grad for parameter in layer.parameters())]

    same_for_any_number_of_threads(compute)


def test_generation_has_the_same_bits_for_any_number_of_threads() -> None:
    config = LlamaConfig(vocab_size=5000, hidden_size=512, intermediate_size=1500, num_hidden_layers=2,
                         num_attention_heads=8, num_key_value_heads=2)  # fmt: skip
    model = LlamaForCausalLM(config, rng=0)
    ids = np.random.default_rng(4).integers(3, 5000, (1, 40))

    def compute() -> list[Any]:
        with no_grad():
            return [model.generate(ids, max_new_tokens=6, eos_token_id=[]), model(ids)[0].logits]

    same_for_any_number_of_threads(compute)


def test_blas_has_one_thread_for_a_product_that_is_not_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its threads would wait for each other, beside ours."""
    threads, seen = [3], []
    monkeypatch.setattr(blas, "_functions", lambda: (lambda: threads[0], lambda n: threads.__setitem__(0, n)))

    class Watched(np.ndarray[Any, Any]):
        def __matmul__(self, b: Any) -> Any:
            seen.append(threads[0])
            return np.asarray(self) @ b

    product(np.ones((40, 50)).view(Watched), np.ones((50, 60)))
    assert seen == [1] and threads == [3]
