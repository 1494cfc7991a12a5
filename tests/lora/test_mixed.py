"""Different adapters for different rows of one batch: each row is what its adapter alone makes of it."""

from __future__ import annotations

from threading import Thread
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig, LoraConfig, PeftModel, get_peft_model
from npora.lora.mixed import only, texts_joined
from tests.lora.test_several import without_heads
from tests.lora.test_two_adapters import Net, both, values
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
