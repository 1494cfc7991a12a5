"""What T5 computes for the rows that are read: its bias, its last layer, its loss; and its body."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from npora.models import T5Config, T5EncoderModel, T5Model
from npora.models.relative import relative_bias, relative_buckets
from npora.nn import Cache, Embedding, Linear, Packing
from npora.nn.module import Array
from npora.nn.view import View
from tests.models.test_t5 import BATCH, CLASSES, ENDED, KINDS, PROMPT, SIZES, tiny_classifier, tiny_t5

SPARSE = np.array([[4, 1, -100, -100], [-100, -100, -100, 1], [1, -100, -100, -100]])


@pytest.mark.parametrize("past", [None, [0, 2, 1, 5]])
@pytest.mark.parametrize("read", [[0, 4, 7], [2], list(range(8)), []])
def test_the_bias_of_the_rows_that_are_read_is_the_whole_ones_there(read: list[int], past: list[int] | None) -> None:
    packing, table = Packing.of_lengths([3, 0, 1, 4]), Embedding(6, 2, rng=1, dtype=np.float64)
    cache = Cache()
    if past is not None:
        held = Packing.of_lengths(past)
        cache[0].append(np.zeros((8, 1)), np.zeros((8, 1)), held)
    view = View(packing, np.array(read, dtype=int))

    def bias(view: View) -> tuple[Array, Any]:
        return relative_bias(table, lambda r: relative_buckets(r, True, 6, 4), view, cache)

    whole, back_whole = bias(View(packing))
    some, back_some = bias(view)
    dsome, dwhole = np.zeros_like(some), np.zeros_like(whole)
    rng = np.random.default_rng(0)
    sequences, places = packing.sequences[read], packing.places[read]
    for sequence, t, place in zip(sequences, view.queries.places, places, strict=True):
        at, of_whole = (sequence if len(x) > 1 else 0 for x in (some, whole))
        assert some[at, :, t].tobytes() == whole[of_whole, :, place].tobytes()
        d = rng.standard_normal(some[at, :, t].shape)
        dsome[at, :, t] += d
        dwhole[of_whole, :, place] += d
    found = []
    for back, dbias in ((back_some, dsome), (back_whole, dwhole)):
        table.zero_grad()
        back(dbias)
        found.append(table.weight.grad)
    np.testing.assert_allclose(*found, rtol=0, atol=1e-13)
    assert view.read is not None or some.tobytes() == whole.tobytes()


@pytest.mark.parametrize("layers", [1, 3])
def test_a_loss_of_some_rows_is_that_of_all_logits_in_value_and_gradients(layers: int) -> None:
    for kind in KINDS:
        model, found = tiny_t5(kind, num_decoder_layers=layers), []
        for all_logits in (False, True):
            model.zero_grad()
            output, backward = model(**BATCH, all_logits=all_logits)
            backward()
            found.append((output, [parameter.grad for parameter in model.parameters()]))
        (some, gradients_of_some), (every, gradients_of_all) = found
        np.testing.assert_allclose(some.loss, every.loss, rtol=0, atol=1e-13)
        np.testing.assert_allclose(some.logits, every.logits, rtol=0, atol=1e-12)
        assert some.num_items == every.num_items == 6
        for one, other in zip(gradients_of_some, gradients_of_all, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_a_batch_without_any_label_has_no_loss_and_no_gradient() -> None:
    model = tiny_t5()
    given = {"decoder_input_ids": BATCH["labels"] * 0 + 3, "labels": np.full((3, 4), -100)}
    output, backward = model(**PROMPT, **given)
    backward()
    assert output.loss == 0 and output.num_items == 0
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("make", "given", "asked"),
    [
        (tiny_t5, {"labels": SPARSE}, (7, 4)),
        (tiny_t5, {"labels": SPARSE, "all_logits": True}, (7, 7)),
        (tiny_t5, {"decoder_input_ids": np.full((3, 4), 5)}, (12, 12)),
        (tiny_classifier, {"labels": CLASSES, "input_ids": ENDED}, (8, 3)),
        (tiny_classifier, {"input_ids": ENDED}, (8, 3)),
    ],
)
def test_the_last_layer_multiplies_keys_and_values_of_all_rows_and_the_rest_of_those_that_are_read(
    make: Any, given: dict[str, Any], asked: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward; what a row costs does not depend on the others."""
    model, forward = make(), Linear.forward
    paths, seen = {id(module): path for path, module in model.named_modules()}, {}
    rows, read = asked

    def counting(self: Linear, x: Any, rng: Any = None) -> Any:
        y, backward = forward(self, x, rng)
        counts = seen.setdefault(paths[id(self)], [len(x)])
        return y, lambda dy: (counts.append(len(dy)), backward(dy))[1]

    monkeypatch.setattr(Linear, "forward", counting)
    output, backward = model(**{**PROMPT, **given})
    backward(*([] if "labels" in given else [np.ones_like(output.logits)]))
    of_decoder = {path: counts for path, counts in seen.items() if "decoder.block." in path}
    assert len(of_decoder) == 3 * 10
    for path, counts in of_decoder.items():
        if path.endswith(("EncDecAttention.k", "EncDecAttention.v")):
            assert counts == [9, 9], path
        elif "block.2." not in path or path.endswith(("SelfAttention.k", "SelfAttention.v")):
            assert counts == [rows, rows], path
        else:
            assert counts == [read, read], path


def test_a_body_reads_a_source_and_says_which_inputs_it_has() -> None:
    config = T5Config(**SIZES)
    whole, body = tiny_t5(), T5Model(config, rng=0, dtype=np.float64)
    body.load_state_dict(whole.state_dict())
    ids = np.array([[3, 4, 5, 6]] * 3)
    given = {**PROMPT, "decoder_input_ids": ids, "decoder_attention_mask": ids < [[5], [9], [4]]}
    output, backward = body(**given)
    logits = output.last_hidden_state * whole.scale @ body.shared.weight.data.T
    np.testing.assert_allclose(logits, whole(**given)[0].logits, rtol=0, atol=1e-12)
    assert not output.last_hidden_state[0, 2:].any()
    backward(np.random.default_rng(0).standard_normal((3, 4, 6)))
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in body.parameters())
    tokens = body.tokens(ids)
    with pytest.raises(ValueError, match="T5Model reads tokens that have a source"):
        body.rows(tokens)
    memory, _ = body.memory(body.tokens(**PROMPT))
    encoded, read = dataclasses.replace(tokens, source=memory), np.array([1, 5, 11])
    np.testing.assert_allclose(body.rows(encoded, read=read)[0], body.rows(encoded)[0][read], rtol=0, atol=1e-12)
    for model in (tiny_classifier(), T5EncoderModel(config)):
        with pytest.raises(TypeError, match="has no token_type_ids: it takes input_ids, attention_mask"):
            model(ENDED, token_type_ids=ENDED)
    assert tiny_t5().inputs == ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "labels")
    assert tiny_classifier().inputs == ("input_ids", "attention_mask", "labels")
