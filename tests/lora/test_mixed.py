"""Different adapters for different rows of one batch: each row is what its adapter alone makes of it."""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig, LoraConfig, PeftModel, get_peft_model
from npora.lora.by_rows import Rows, together
from npora.lora.mixed import UnknownRows, joined, only, texts_joined
from npora.models.outputs import SequenceClassifierOutput
from npora.nn import Packing
from npora.nn.evaluating import watching
from tests.lora.cases import METHODS, Method, adapted
from tests.lora.test_several import without_heads
from tests.lora.test_two_adapters import Net, both, values
from tests.models.test_t5 import tiny_t5
from tests.properties.strategies import normal
from tests.tiny import tiny_bert
from tests.tiny_decoders import tiny_decoder

NAMES = ["second", "__base__", "first", "second", "third", "__base__"]
X = values(7, 6, 5)
IDS = np.random.default_rng(0).integers(2, 13, (6, 5))
MASK = np.array([[1] * 5, [1, 1, 0, 0, 0], [1] * 5, [1, 1, 1, 0, 0], [1] * 5, [1, 1, 1, 1, 0]])


def alone(model: PeftModel, name: str, call: Any) -> Any:
    if name == "__base__":
        with model.disable_adapter():
            return call()
    active = model.active_adapters
    model.set_adapter(name)
    try:
        return call()
    finally:
        model.set_adapter(active)


def test_each_row_is_what_its_adapter_alone_makes_of_it() -> None:
    model = without_heads()
    before = [parameter.requires_grad for parameter in model.parameters()]
    y, _ = model(X, adapter_names=NAMES)
    for row, name in enumerate(NAMES):
        expected = alone(model, name, lambda row=row: model(X[row : row + 1])[0])
        np.testing.assert_allclose(y[row : row + 1], expected, rtol=0, atol=1e-13)
    assert model.active_adapters == ["first"] and before == [p.requires_grad for p in model.parameters()]
    assert model(X)[0].tobytes() == model(X, adapter_names=["first"] * 6)[0].tobytes()
    model.set_adapter(["first", "second"])
    assert model(X, adapter_names=NAMES)[0].tobytes() == y.tobytes()
    with model.disable_adapter():
        np.testing.assert_allclose(model(X, adapter_names=NAMES)[0], Net()(X)[0], rtol=0, atol=1e-13)


def of_bert() -> PeftModel:
    model = get_peft_model(
        tiny_bert(dtype=np.float64), LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS"), "first"
    )
    model.add_adapter("second", HiraConfig(r=2, target_modules=["key"], modules_to_save=["classifier"]))
    model.add_adapter("third", LoraConfig(r=2, use_dora=True, target_modules=["value", "pooler.dense"]))
    for name in model.peft_config:
        for number, parameter in enumerate(model.adapter_parameters(name).values()):
            parameter.data = parameter.data + 0.4 * normal(number + len(name), *parameter.shape)
    return model


def test_a_models_outputs_are_put_together_loss_and_hidden_states_too() -> None:
    model, labels = of_bert(), np.array([0, 1, 2, 1, 0, 2])
    found, _ = model(IDS, MASK, labels=labels, adapter_names=NAMES, output_hidden_states=True)
    rows = [
        alone(model, name, lambda at=slice(row, row + 1): model(
            IDS[at], attention_mask=MASK[at], labels=labels[at], output_hidden_states=True)[0])
        for row, name in enumerate(NAMES)
    ]  # fmt: skip
    np.testing.assert_allclose(found.logits, np.concatenate([row.logits for row in rows]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.loss, np.mean([row.loss for row in rows]), rtol=0, atol=1e-12)
    assert found.num_items == 6 and len(found.hidden_states) == 3
    for number, states in enumerate(found.hidden_states):
        expected = np.concatenate([row.hidden_states[number] for row in rows])
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-12)
    listed, _ = model(IDS.tolist(), attention_mask=MASK.tolist(), adapter_names=NAMES)
    np.testing.assert_allclose(listed.logits, found.logits, rtol=0, atol=1e-12)
    assert listed.loss is None and listed.num_items == 0


def decoder() -> PeftModel:
    model = get_peft_model(tiny_decoder("llama"), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]), "first")
    model.add_adapter("second", LoraConfig(r=3, target_modules=["up_proj"]))
    for name in model.peft_config:
        for number, parameter in enumerate(model.adapter_parameters(name).values()):
            parameter.data = parameter.data + normal(number, *parameter.shape)
    return model


@pytest.mark.parametrize("options", [{}, {"num_beams": 2, "num_return_sequences": 2}])
def test_each_prompt_is_continued_by_its_adapter_alone(options: dict[str, Any]) -> None:
    model, names, ids = decoder(), ["second", "first", "__base__", "second"], IDS[:4]
    options = {"max_new_tokens": 5, "pad_token_id": 0, **options}
    found = model.generate(ids, adapter_names=names, **options)
    each = options.get("num_return_sequences", 1)
    for row, name in enumerate(names):
        expected = alone(model, name, lambda row=row: model.generate(ids[row : row + 1], **options))
        mine = found[row * each : (row + 1) * each]
        assert (mine[:, : expected.shape[1]] == expected).all() and not mine[:, expected.shape[1] :].any()
    labels = ids.copy()
    output, _ = model(ids, labels=labels, adapter_names=names)
    assert output.logits.shape[:2] == ids.shape and np.isfinite(output.loss)


def test_options_that_are_lists_are_the_same_for_every_prompt() -> None:
    model, names, ids = decoder(), ["second", "first"], IDS[:2]
    plain = model.generate(ids, adapter_names=names, max_new_tokens=4, pad_token_id=0)
    suppressed = plain[:, 5].tolist()
    assert suppressed[0] != suppressed[1]
    options: list[dict[str, Any]] = [
        {"suppress_tokens": suppressed}, {"bad_words_ids": [[token] for token in suppressed]},
        {"eos_token_id": suppressed[::-1]},
    ]  # fmt: skip
    for option in options:
        options_now = {"max_new_tokens": 4, "pad_token_id": 0, **option}
        found = model.generate(input_ids=ids, adapter_names=names, **options_now)
        for row, name in enumerate(names):
            expected = alone(model, name, partial(model.generate, ids[row : row + 1], **options_now))[0]
            assert found[row, : len(expected)].tolist() == expected.tolist() and not found[row, len(expected) :].any()
    for name in ("prefix_allowed_tokens_fn", "streamer"):
        with pytest.raises(ValueError, match=f"{name} goes by the places of prompts"):
            model.generate(ids, adapter_names=names, **{name: print})


def test_shorter_texts_are_filled_up_in_their_places() -> None:
    short, long = np.array([[1, 2], [3, 4]]), np.array([[5, 6, 7], [8, 9, 9]])
    rows = [np.array([1]), np.array([0])]
    assert texts_joined([short, long], rows, 0).tolist() == [[5, 6, 7], [8, 9, 9], [1, 2, 0], [3, 4, 0]]
    with pytest.raises(ValueError, match="pass pad_token_id"):
        texts_joined([short, long], rows, None)


def test_what_acts_in_a_thread_acts_in_no_other_and_no_longer_than_its_block() -> None:
    model, found = without_heads(), []
    expected = {name: alone(model, name, lambda: model(X)[0].tobytes()) for name in ("first", "second")}
    with only("second"):
        with only("__base__"):
            assert model(X)[0].tobytes() == Net()(X)[0].tobytes()
        thread = Thread(target=lambda: found.append(model(X)[0].tobytes()))
        thread.start()
        thread.join()
        assert model(X)[0].tobytes() == expected["second"]
    assert found == [expected["first"]] and model(X)[0].tobytes() == expected["first"]


def test_what_has_no_meaning_is_refused() -> None:
    model = without_heads()
    for name in ("__base__", 3, None):
        with pytest.raises(ValueError, match=r"give the adapter another name|is made of letters"):
            model.rename_adapter("third", name)  # type: ignore[arg-type]
    for names, error in ((["first"], "6 rows, 1 names"), ([], "6 rows, 0 names"), (["x"] * 6, "no adapter 'x'")):
        with pytest.raises(ValueError, match=error):
            model(X, adapter_names=names)
    with pytest.raises(TypeError, match="must be a list of names"):
        model(X, adapter_names="second")
    with pytest.raises(RuntimeError, match="is for inference"):
        model(X, adapter_names=NAMES)[1](values(1, 6, 3))
    with pytest.raises(ValueError, match="are for inference"):
        model(X, rng=np.random.default_rng(0), adapter_names=NAMES)
    with pytest.raises(ValueError, match="are for inference"):
        model.train()(X, adapter_names=NAMES)
    model.eval().merge_adapter()
    with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\) first"):
        model(X, adapter_names=NAMES)
    biased = get_peft_model(Net(), LoraConfig(target_modules=["lower"], bias="all"))
    with pytest.raises(ValueError, match="has no rows of its own beside an adapter that trains biases"):
        biased(X, adapter_names=["default", "__base__"] * 3)
    assert both()(X, adapter_names=["other"] * 6)[0].shape == (6, 3)


def calls_of(model: PeftModel, path: str, call: Any) -> int:
    """How often a module of the base is called meanwhile."""
    seen: list[str] = []
    with watching(model.get_base_model(), lambda one: seen.append(one.path)):
        call()
    return seen.count(path)


def test_the_batch_goes_through_the_model_once() -> None:
    for model, path in ((of_bert(), "bert.embeddings"), (decoder(), "model.embed_tokens")):
        names = NAMES if "third" in model.peft_config else [name.replace("third", "first") for name in NAMES]
        assert calls_of(model, path, partial(model, IDS, MASK, adapter_names=names)) == 1


def test_a_loss_of_some_rows_is_that_of_each_adapter_alone() -> None:
    model, names = decoder(), ["second", "first", "__base__", "second", "first", "first"]
    labels = np.where((np.random.default_rng(1).random(IDS.shape) < 0.4) | (MASK == 0), -100, IDS)
    labels[2] = -100  # a row without a label
    found, _ = model(IDS, MASK, labels=labels, adapter_names=names)
    rows = [
        alone(
            model, name, partial(loss_and_logits, model, IDS[row : row + 1], MASK[row : row + 1], labels[row : row + 1])
        )
        for row, name in enumerate(names)
    ]
    losses, logits = zip(*rows, strict=True)
    numbers = (labels[:, 1:] != -100).sum(axis=1)
    np.testing.assert_allclose(found.loss, numbers @ np.nan_to_num(losses) / numbers.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.logits, np.concatenate(logits), rtol=0, atol=1e-11)


def loss_and_logits(model: PeftModel, ids: Any, mask: Any, labels: Any) -> tuple[Any, Any]:
    output, _ = model(ids, mask, labels=labels)
    return output.loss, output.logits  # which are computed when they are asked for


def test_where_a_layer_cannot_tell_whose_its_rows_are_each_adapter_has_a_forward_of_its_own() -> None:
    model = get_peft_model(tiny_t5(), LoraConfig(r=2, target_modules=["k", "q", "wo"]), "first")
    model.add_adapter("second", LoraConfig(r=1, target_modules=["v", "o"]))
    for name in model.peft_config:
        for number, parameter in enumerate(model.adapter_parameters(name).values()):
            parameter.data = parameter.data + normal(number, *parameter.shape)
    ids, mask = IDS[:2], np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    names = ["second", "first"]
    for other, times in ((mask[:, :3], 1), (mask[::-1, :3], 2)):  # as many rows each, of other sequences
        given = {"decoder_input_ids": ids[:, :3], "decoder_attention_mask": other}
        call = partial(model, ids, mask, **given, adapter_names=names)
        assert calls_of(model, "encoder", call) == times
        logits = call()[0].logits
        for row, name in enumerate(names):
            some = {key: value[row : row + 1] for key, value in given.items()}
            expected, _ = alone(model, name, partial(model, ids[row : row + 1], mask[row : row + 1], **some))
            np.testing.assert_allclose(logits[row : row + 1], expected.logits, rtol=0, atol=1e-11)


def test_a_loss_put_together_is_the_mean_over_all_labels() -> None:
    parts = [SequenceClassifierOutput(loss, np.zeros((n, 2)), n) for loss, n in ((1.0, 3), (5.0, 1))]
    found = joined(parts, [np.array([0, 2, 3]), np.array([1])])
    assert (found.loss, found.num_items) == (2.0, 4)


def test_rows_are_known_by_the_packings_that_were_made() -> None:
    rows = Rows(["a", "b", "a"])
    of = {name: places.tolist() for name, places in rows.of(np.zeros((3, 2))).items()}
    assert of == {"a": [0, 2], "b": [1]}
    rows.learn(Packing.of_lengths([2, 0, 3]))
    assert {name: places.tolist() for name, places in rows.of(np.zeros((5, 2))).items()} == {"a": [0, 1, 2, 3, 4]}
    assert {name: places.tolist() for name, places in rows.of(np.zeros((3, 5, 2))).items()} == of
    rows.learn(Packing.of_lengths([1, 1]))  # of another batch
    rows.learn(Packing.of_lengths([2, 1, 2]))
    for x in (np.zeros((5, 2)), np.zeros((2, 2)), [1, 2, 3], np.zeros(())):
        with pytest.raises(UnknownRows):
            rows.of(x)


def test_rows_of_nobody_are_no_adapters() -> None:
    rows = Rows(["a", "b"])
    rows.learn(Packing.spaced([1, 2], 3))
    with pytest.raises(UnknownRows):
        rows.of(np.zeros((6, 2)))


@pytest.mark.parametrize("case", METHODS, ids=lambda case: case.name)
def test_a_layer_gives_each_row_its_adapter_of_any_method(case: Method) -> None:
    layer, names = adapted(case, 5, 4), ["default", "__base__", "default"]
    x = normal(3, 3, 5)
    y = together(names, lambda: layer(x)[0])
    expected = [layer(x[:1])[0], layer.base_layer(x[1:2])[0], layer(x[2:])[0]]
    np.testing.assert_allclose(y, np.concatenate(expected), rtol=0, atol=1e-12 * max(1, abs(y).max()))
    assert together(["default"], lambda: layer(x[:1])[0]).tobytes() == expected[0].tobytes()
