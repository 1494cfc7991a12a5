"""A batch in pieces has the gradient of the whole, on any number of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model, no_grad, set_num_threads
from npora.models import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, T5Config, T5ForConditionalGeneration
from npora.models.families.llama import LlamaConfig
from npora.nn.grad_mode import gradients_apart, this_thread
from npora.nn.module import Array, Module, Parameter
from npora.train import accumulate_gradients, micro_batches
from npora.train.micro_batches import cut
from npora.train.state import trainable
from tests.tiny import tiny_peft

LENGTHS = np.array([0, 5, 1, 3, 2, 4, 6, 2, 0])  # 23 tokens; examples without any at both ends
MASK = (np.arange(6) < LENGTHS[:, None]).astype(np.int64)
IDS = np.where(MASK, np.random.default_rng(0).integers(2, 9, MASK.shape), 0)
LABELS = np.array([-100, 0, 2, -100, 1, 1, 0, 2, 1])
ROWS = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
BATCH = {name: array[1:-1] for name, array in ROWS.items()}
TEXT = {"input_ids": IDS[1:-1], "attention_mask": MASK[1:-1], "labels": np.where(MASK, IDS, -100)[1:-1]}
PAIRS = {"input_ids": IDS[1:-1], "attention_mask": MASK[1:-1], "labels": np.where(MASK, IDS, -100)[1:-1][::-1, :4]}


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    yield
    set_num_threads(None)


def spread(model: Any) -> Any:
    """Trained values that are nowhere special, and a gradient that is there from before."""
    rng = np.random.default_rng(5)
    for parameter in trainable(model).values():
        parameter.data = 0.5 * rng.standard_normal(parameter.shape)
        parameter.grad = rng.standard_normal(parameter.shape)
    return model


def classifier(**config: Any) -> Any:
    return spread(tiny_peft(dtype=np.float64, **config))


def gpt2() -> Any:
    config = GPT2Config(vocab_size=9, n_positions=6, n_embd=6, n_layer=2, n_head=3, n_inner=7)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    return spread(GPT2LMHeadModel(config, rng=1, dtype=np.float64))  # tied, and trained in full


def llama() -> Any:
    config = LlamaConfig(
        vocab_size=9, hidden_size=6, intermediate_size=5, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4,
    )  # fmt: skip
    model = LlamaForCausalLM(config, rng=1, dtype=np.float64)
    return spread(get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")))


def t5() -> Any:
    config = T5Config(vocab_size=9, d_model=6, d_kv=3, d_ff=7, num_layers=2, num_heads=2, dropout_rate=0.0)
    model = T5ForConditionalGeneration(config, rng=1, dtype=np.float64)
    return spread(get_peft_model(model, LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")))


def gradients(model: Module) -> dict[str, Array]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def agree(model: Module, other: Module, batch: dict[str, Array], **options: Any) -> None:
    """accumulate_gradients on the one, a plain backward on the other."""
    held = {name: gradient.copy() for name, gradient in gradients(other).items()}
    loss, items = accumulate_gradients(model, batch, **options)
    output, backward = other(**batch)
    backward(float(output.num_items))
    assert items == output.num_items
    assert loss == pytest.approx(float(output.loss) * items, rel=1e-12)
    assert gradients(model).keys() == gradients(other).keys()
    moved = 0
    for name, expected in gradients(other).items():
        moved += np.abs(expected - held.get(name, 0)).max() > 1e-6
        np.testing.assert_allclose(gradients(model)[name], expected, rtol=0, atol=1e-11, err_msg=name)
    assert moved > len(held) // 2


@pytest.mark.parametrize("number", [None, 1, 2, 3])
@pytest.mark.parametrize("tokens_at_once", [1, 5, 12])
@pytest.mark.parametrize(
    ("make", "batch"), [(classifier, BATCH), (gpt2, TEXT), (llama, TEXT), (t5, PAIRS)],
    ids=["BERT", "GPT-2", "Llama", "T5"],
)  # fmt: skip
def test_the_gradient_is_the_whole_batchs(
    make: Callable[[], Any], batch: dict[str, Array], tokens_at_once: int, number: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    set_num_threads(number)
    agree(make(), make(), batch, tokens_at_once=tokens_at_once)


@pytest.mark.parametrize("number", [1, 2])
def test_what_changed_between_two_calls_is_seen(number: int) -> None:
    set_num_threads(number)
    pair = model, other = classifier(), classifier()
    agree(*pair, BATCH, tokens_at_once=5)
    for each in pair:
        name, parameter = next(iter(trainable(each).items()))
        parameter.data = parameter.data + 0.5
    agree(*pair, BATCH, tokens_at_once=5)
    for each in pair:
        each.requires_grad_(False)
        each.get_base_model().bert.embeddings.LayerNorm.requires_grad_()
    agree(*pair, BATCH, tokens_at_once=5)
    assert name not in gradients(model)
    for each in pair:
        each.add_adapter("second", LoraConfig(r=3, target_modules=["key"], task_type="SEQ_CLS"))
        each.set_adapter("second")
        spread(each)
    agree(*pair, BATCH, tokens_at_once=5)
    with pytest.raises(ValueError, match="77"):
        accumulate_gradients(model, {**BATCH, "labels": np.array([0, 2, 1, 1, 1, 0, 77])}, tokens_at_once=5)
    model.zero_grad()
    other.zero_grad()
    agree(*pair, BATCH, tokens_at_once=5)


def test_neither_masks_nor_bits_depend_on_the_number_of_threads() -> None:
    results = []
    for number in (1, 2, 3, None, 8):
        set_num_threads(number)
        model = classifier(lora_dropout=0.5).train()
        loss, _ = accumulate_gradients(model, BATCH, np.random.default_rng(3), 5)
        results.append((loss, gradients(model)))
    for loss, found in results[1:]:
        assert loss == results[0][0]
        for name, gradient in found.items():
            assert gradient.tobytes() == results[0][1][name].tobytes()
    model = classifier(lora_dropout=0.5).train()
    rng = np.random.default_rng(3)
    assert accumulate_gradients(model, BATCH, rng, 5)[0] == results[0][0]
    assert accumulate_gradients(model, BATCH, rng, 5)[0] != results[0][0]  # it has moved on


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_gradients_of_one_piece_more_than_there_are_threads_are_held(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the first is: those that are begun and not added yet are counted."""
    set_num_threads(threads)
    model = classifier()
    forward, add = type(model).forward, micro_batches._InOrder.add
    lock, begun, added, most = threading.Lock(), [0], [0], [0]

    def watched(self: Any, **batch: Any) -> Any:
        with lock:
            begun[0] += 1
            first = begun[0] == 1
            most[0] = max(most[0], begun[0] - added[0])
        if first:
            time.sleep(0.2)
        return forward(self, **batch)

    def adding(self: Any, *arguments: Any) -> None:
        add(self, *arguments)
        with lock:
            added[0] = self.following

    monkeypatch.setattr(type(model), "forward", watched)
    monkeypatch.setattr(micro_batches._InOrder, "add", adding)
    accumulate_gradients(model, {name: np.repeat(array, 4, axis=0) for name, array in BATCH.items()}, tokens_at_once=4)
    assert begun == added and begun[0] > 9 and most[0] == (1 if threads == 1 else threads + 1)


def test_each_piece_draws_masks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    forward = type(classifier()).forward

    def watched(self: Any, **batch: Any) -> Any:
        found = forward(self, **batch)
        losses.append(float(found[0].loss))
        return found

    monkeypatch.setattr(type(classifier()), "forward", watched)
    same = {name: np.stack([array[0]] * 4) for name, array in BATCH.items()}
    accumulate_gradients(classifier(lora_dropout=0.5).train(), same, np.random.default_rng(3), 5)
    assert len(losses) == len(set(losses)) == 4


def test_the_pieces_are_the_rows_in_order() -> None:
    for tokens_at_once in range(1, 23):
        pieces = list(cut(ROWS, tokens_at_once))
        for name, array in ROWS.items():
            np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), array)
    assert [len(piece["labels"]) for piece in cut(BATCH, 11)] == [1, 2, 2, 1, 1]  # of 5, 4, 6, 6 and 2 tokens
    assert [len(piece["labels"]) for piece in cut(BATCH, 22)] == [2, 3, 2]  # of 6, 9 and 8
    without = {"input_ids": BATCH["input_ids"], "labels": BATCH["labels"], "position_ids": None}
    assert [len(piece["labels"]) for piece in cut(without, 41)] == [2, 3, 2]  # all 42 count
    lists = {name: array.tolist() for name, array in BATCH.items()}
    assert [len(piece["labels"]) for piece in cut(lists, 11)] == [1, 2, 2, 1, 1]


@pytest.mark.parametrize(("examples", "sizes"), [(8, [2, 4, 2]), (9, [1, 2, 3, 2, 1]), (16, [2, 4, 4, 4, 2])])
def test_the_first_and_the_last_piece_are_halves_and_two_threads_have_as_much_to_do(
    examples: int, sizes: list[int]
) -> None:
    found = [
        len(piece["labels"]) for piece in cut({"input_ids": np.ones((examples, 5)), "labels": np.ones(examples)}, 20)
    ]
    assert found == sizes
    assert sum(found[::2]) - sum(found[1::2]) == examples % 2


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_micro_batchs_backward_has_read_is_freed(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_num_threads(number)
    model, seen = classifier(), []
    forward = type(model).forward
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, **batch: (seen.append(this_thread.backward_once), forward(self, **batch))[1],
    )
    accumulate_gradients(model, BATCH, tokens_at_once=12)
    assert seen == [True] * 3 and not this_thread.backward_once


@pytest.mark.parametrize(
    ("batch", "tokens_at_once"),
    [
        (BATCH, 0), (BATCH, 23), ({"x": LABELS}, 1), ({"input_ids": IDS[:0]}, 1), ({"input_ids": IDS[0]}, 1),
        ({**BATCH, "labels": LABELS}, 1), ({**BATCH, "logits_to_keep": 1}, 1),
    ],
)  # fmt: skip
def test_a_batch_that_is_small_or_has_no_rows_stays_whole(batch: dict[str, Any], tokens_at_once: int) -> None:
    (whole,) = cut(batch, tokens_at_once)
    assert whole.keys() == batch.keys() and all(whole[name] is batch[name] for name in batch)


@pytest.mark.parametrize("number", [1, 2])
def test_the_callers_state_holds_on_all_threads(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_num_threads(number)
    model = classifier()
    seen = []
    monkeypatch.setattr(type(model), "forward", lambda *_, **__: seen.append(np.geterr()["over"]) or 1 / 0)
    with np.errstate(over="call"), pytest.raises(ZeroDivisionError):
        accumulate_gradients(model, BATCH, tokens_at_once=5)
    assert set(seen) == {"call"}
    with no_grad(), pytest.raises(RuntimeError, match="no_grad"):
        accumulate_gradients(model, BATCH, tokens_at_once=5)


def test_as_many_pieces_are_at_work_as_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    set_num_threads(2)
    meeting, seen = threading.Barrier(2), set()

    def forward(*_: Any, **__: Any) -> Any:
        seen.add(threading.get_ident())
        meeting.wait(timeout=60)  # the one waits for the other: one thread alone would never come on
        raise KeyError("seen")

    model = classifier()
    monkeypatch.setattr(type(model), "forward", forward)
    with pytest.raises(KeyError):
        accumulate_gradients(model, BATCH, tokens_at_once=12)
    assert len(seen) == 2


def test_gradients_are_apart_within_their_block_alone() -> None:
    parameter, gradient = Parameter(np.array([1.0, 2.0])), np.array([3.0, 5.0])
    with gradients_apart() as outer:
        parameter.accumulate(gradient)
        with gradients_apart() as inner, pytest.raises(KeyError):
            parameter.accumulate(gradient)
            raise KeyError
        parameter.accumulate(gradient)
    assert parameter.grad is None and gradient.tolist() == [3, 5]
    assert outer[parameter].tolist() == [6, 10] and inner[parameter].tolist() == [3, 5]
    parameter.accumulate(gradient)
    assert parameter.grad is not None and parameter.grad.tolist() == [3, 5]
