"""The starts that are made of data, each computed once more in plain NumPy from what the layers are given."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import PeftModel, Trainer, TrainingArguments, get_peft_model
from npora.lora import (
    CordaConfig,
    EvaConfig,
    LoraGAConfig,
    get_eva_state_dict,
    initialize_lora_eva_weights,
    preprocess_corda,
    preprocess_loraga,
)
from npora.lora.recording import seeing_inputs
from npora.lora.starts import corda
from npora.nn import Parameter
from npora.stored import FORMS
from tests.lora.two_layers import Two, config, data, flat
from tests.tiny import tiny_bert

TARGETS = ["query", "value"]
PREPARE: dict[str, Callable[..., None]] = {"corda": preprocess_corda, "lora_ga": preprocess_loraga}


def texts(number: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(4)
    return [{"input_ids": rng.integers(3, 31, (4, 6)), "labels": rng.integers(0, 3, 4)} for _ in range(number)]


def logits(model: Any) -> bytes:
    return bytes(model(input_ids=np.array([[3, 4, 9]]))[0].logits.tobytes())


def begun(start: str, **fields: Any) -> tuple[Two, dict[str, Any]]:
    """The model as it was, and what its two adapters begin with."""
    plain, model, chosen = Two(), Two(), config(start, **fields)
    PREPARE[start](model, chosen, data())
    return plain, {name: layer.adapters["default"] for name, layer in get_peft_model(model, chosen).lora_layers()}


@pytest.mark.parametrize("method", ["ipm", "kpm"])
def test_corda_cuts_w_beside_the_covariance_of_its_inputs(method: str) -> None:
    plain, found = begun("corda", corda_config={"corda_method": method})
    given = {"first": [batch["x"] for batch in data()], "second": [np.tanh(plain.first(b["x"])[0]) for b in data()]}
    for name, adapter in found.items():
        C = np.mean([X.T @ X / X.max() ** 2 for X in given[name]], axis=0)
        C += 0.01 * np.trace(C) / len(C) * np.eye(len(C))
        W = getattr(plain, name).matrix
        U, S, V = np.linalg.svd(W @ C)
        some = slice(0, 2) if method == "ipm" else slice(len(S) - 2, len(S))
        np.testing.assert_allclose(
            adapter.s * adapter.B.data @ adapter.A.data @ C, U[:, some] * S[some] @ V[some], atol=1e-12
        )
        np.testing.assert_allclose(adapter.s * adapter.B.data.T @ adapter.B.data, np.diag(S[some]), atol=1e-12)


def test_all_directions_of_corda_are_w() -> None:
    model, chosen = Two(), config("corda", r=5, target_modules=["second"])
    preprocess_corda(model, chosen, [{"x": np.full((1, 7), 1.0)}])
    peft = get_peft_model(model, chosen)
    adapter: Any = peft.lora_layers()[0][1].adapters["default"]
    np.testing.assert_allclose(adapter.s * adapter.B.data @ adapter.A.data, Two().second.matrix, atol=1e-11)
    with pytest.raises(ValueError, match="is made of data"):  # which are let go of
        get_peft_model(peft.unload(), chosen)


def test_corda_damps_a_covariance_the_more_the_worse_its_inverse_is(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.outer(np.arange(1.0, 9), np.ones(6)).astype(np.float32)
    C, one, W = X.T @ X, np.eye(6, dtype=np.float32), np.ones((3, 6), np.float32)
    damped = [C + np.float32(0.01 * 2**k) * np.mean(np.diag(C)) * one for k in range(6)]
    errors = [float(np.linalg.norm(D @ np.linalg.inv(D) - one)) for D in damped]
    best = int(np.argmin(errors))
    assert best > 0
    monkeypatch.setattr(importlib.import_module("npora.lora.starts.corda"), "_ERROR", errors[best] * 1.001)
    A, B = corda(C, CordaConfig(), W, 1, 1.0, np.random.default_rng(0))
    taken = next(D for D, error in zip(damped, errors, strict=True) if error < errors[best] * 1.001)
    U, S, V = np.linalg.svd(W @ taken)
    np.testing.assert_allclose(B @ A, U[:, :1] * S[:1] @ V[:1] @ np.linalg.inv(taken), rtol=1e-4)


def test_of_a_layer_whose_output_few_rows_are_read_of_all_inputs_are_seen() -> None:
    model, seen = tiny_bert(), {}
    layer: Any = model.bert.encoder.layer[-1].output.dense
    with seeing_inputs(model, {"dense": layer}, lambda path, x: seen.update({path: x.shape})):
        model(input_ids=np.array([[3, 4, 9], [3, 5, 0]]), attention_mask=np.array([[1, 1, 1], [1, 1, 0]]))
    assert seen == {"dense": (5, layer.in_features)}


@pytest.mark.parametrize(
    ("settings", "J", "K"),
    [({}, [0, 1], [2, 3]), ({"direction": "A2rBr"}, [2, 3], [0, 1]), ({"direction": "ArBr"}, [1, 3], [0, 2])],
    ids=str,
)
@pytest.mark.parametrize("scale", ["stable", "weight_svd", "gd_scale", "unit"])
def test_lora_ga_begins_at_the_singular_vectors_of_the_gradient(
    settings: Any, J: list[int], K: list[int], scale: str
) -> None:
    plain, found = begun("lora_ga", lora_ga_config={**settings, "scale": scale, "stable_gamma": 4})
    G = {"first": np.zeros((6, 7)), "second": np.zeros((5, 6))}
    for batch in data():
        h = np.tanh(plain.first(batch["x"])[0])
        G["second"] += batch["labels"].T @ h / 3
        G["first"] += (batch["labels"] @ plain.second.matrix * (1 - h * h)).T @ batch["x"] / 3
    for name, adapter in found.items():
        U, S, V = np.linalg.svd(G[name])
        W = getattr(plain, name).matrix
        c = {"stable": len(W) ** 0.25 / 2, "weight_svd": np.linalg.norm(W, 2) / S[K[0]], "gd_scale": 1 / adapter.s}
        c_A = 1 / adapter.s if scale == "gd_scale" else 1
        rtol = 1e-3 if scale == "weight_svd" else 1e-9  # whose σ₁ is of a randomised decomposition
        np.testing.assert_allclose(abs(adapter.A.data), c_A * abs(V[J]), atol=1e-9)
        np.testing.assert_allclose(abs(adapter.B.data), c.get(scale, 1) * abs(U[:, K] * S[K]), rtol=rtol, atol=1e-9)


def test_lora_ga_at_random_takes_r_of_the_first_2r_for_both_factors() -> None:
    _, found = begun("lora_ga", lora_ga_config={"direction": "random", "scale": "unit"}, target_modules=["second"])
    h, (adapter,) = [np.tanh(Two().first(batch["x"])[0]) for batch in data()], found.values()
    U, S, V = np.linalg.svd(np.mean([b["labels"].T @ u for b, u in zip(data(), h, strict=True)], axis=0))
    places = np.abs(adapter.A.data @ V.T).argmax(axis=1)
    assert len(set(places)) == 2 and set(places) <= {0, 1, 2, 3}
    np.testing.assert_allclose(adapter.B.data @ adapter.A.data, U[:, places] * S[places] @ V[places], atol=1e-9)


def test_the_gradient_is_the_same_of_a_frozen_model_and_leaves_all_as_it_was() -> None:
    found = []
    for is_frozen in (False, True):
        model, chosen = Two().requires_grad_(not is_frozen), config("lora_ga")
        model.first.weight.grad = mine = None if is_frozen else np.ones((6, 7))
        before = {name: (p.data, p.data.tobytes(), p.requires_grad) for name, p in model.named_parameters()}
        preprocess_loraga(model, chosen, lambda model=model: [model(**batch)[1]() for batch in data()])
        for name, p in model.named_parameters():
            array, value, requires_grad = before[name]
            assert p.data is array and p.data.tobytes() == value and p.requires_grad is requires_grad
        assert model.first.weight.grad is mine and model.second.weight.grad is None and model.first.bias.grad is None
        found.append([p.data for p in get_peft_model(model, chosen).parameters() if p.requires_grad])
    assert len(found[0]) == 4
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("start", PREPARE)
def test_a_base_in_a_form_of_its_own_begins_as_its_floats_do(start: str) -> None:
    found = []
    for is_stored in (False, True):
        model, chosen = Two(np.float32), config(start)
        matrix = FORMS["bfloat16"](model.first.weight.data)
        model.first.weight = Parameter(matrix if is_stored else matrix[:], requires_grad=False)
        PREPARE[start](model, chosen, data(dtype=np.float32))
        assert model.first.weight.grad is None and not model.first.weight.requires_grad
        found.append([p.data for p in get_peft_model(model, chosen).parameters() if p.requires_grad])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("start", ["corda", "lora_ga", "eva"])
def test_a_start_of_data_changes_nothing_at_first_and_its_files_and_runs_go_on(tmp_path: Path, start: str) -> None:
    rows = [{"input_ids": [3, 4, 5 + n], "labels": n % 2} for n in range(8)]

    def made() -> Any:
        base, own = tiny_bert(), config(start, target_modules=TARGETS, task_type="SEQ_CLS")
        if start in PREPARE:
            PREPARE[start](base, own, texts())
        model = get_peft_model(base, own)
        if start == "eva":
            initialize_lora_eva_weights(model, texts())
        return model

    def run(resume: bool) -> Any:
        arguments = TrainingArguments(
            str(tmp_path), max_steps=4, per_device_train_batch_size=2, learning_rate=0.01, save_strategy="steps",
            save_steps=2,
        )  # fmt: skip
        model = made()
        Trainer(model, arguments, train_dataset=rows).train(resume_from_checkpoint=resume)
        return model

    assert logits(made()) == logits(tiny_bert())
    whole = run(False)
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert logits(run(True)) == logits(whole) != logits(tiny_bert())
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path / "checkpoint-4")) == logits(whole)
    written = json.loads((tmp_path / "checkpoint-4" / "adapter_config.json").read_text())
    assert (written["init_lora_weights"], written["corda_config"], written["lora_ga_config"]) == (
        "eva" if start == "eva" else True, None, None,
    )  # fmt: skip
    with whole.disable_adapter():
        assert logits(whole) == logits(tiny_bert())


def test_a_second_adapter_begins_with_what_the_base_is_given_and_dora_with_eva() -> None:
    model = get_peft_model(Two(), config("eva", use_dora=True))
    initialize_lora_eva_weights(model, data())
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3
    second = config("lora_ga")
    preprocess_loraga(model, second, data())
    model.add_adapter("second", second)
    _, expected = begun("lora_ga")
    for name, layer in model.lora_layers():
        assert abs(layer.adapters["second"].A.data).max() > 0.1
        np.testing.assert_allclose(abs(layer.adapters["second"].A.data), abs(expected[name].A.data), atol=1e-12)


def test_what_a_start_cannot_begin_with_is_refused_with_what_to_do() -> None:
    model = get_peft_model(Two(), config("eva"))
    with pytest.raises(RuntimeError, match=r"begins with data: call initialize_lora_eva_weights\(model, batches\)"):
        model(**data()[0])
    with model.disable_adapter():
        model(**data()[0])
    one = get_peft_model(Two(), config("eva", target_modules=["first"]))
    refused: list[tuple[str, Any]] = [
        ("pass batches", lambda: initialize_lora_eva_weights(model)),
        ("there is no batch", lambda: initialize_lora_eva_weights(model, [])),
        ("no matrix that fits first", lambda: initialize_lora_eva_weights(model, eva_state_dict={})),
        (
            "has elsewhere, which is no layer",
            lambda: initialize_lora_eva_weights(model, eva_state_dict={"elsewhere": 1}),
        ),
        ("first have 1 directions, and it would get the rank", lambda: initialize_lora_eva_weights(one, flat(2))),
        ("use larger batches, a lower r", lambda: initialize_lora_eva_weights(model, data(rows=3))),
        ("was not called", lambda: get_eva_state_dict(model, data(), forward_fn=lambda model, batch: None)),
        ("needs the peft_config", lambda: get_eva_state_dict(Two(), data())),
        ("config of another start", lambda: get_eva_state_dict(Two(), data(), config("corda"))),
        ("config of another start", lambda: preprocess_corda(Two(), config("lora_ga"), data())),
        ("config of another start", lambda: preprocess_loraga(Two(), config("eva"), data())),
        ("there are none", lambda: preprocess_corda(Two(), config("corda"), [])),
        ("first was not called", lambda: preprocess_corda(Two(), config("corda"), lambda: None)),
        ("largest of them, which is 0", lambda: preprocess_corda(Two(), config("corda"), [{"x": np.zeros((2, 7))}])),
        ("no gradient reached first", lambda: preprocess_loraga(Two(), config("lora_ga"), lambda: None)),
        ("call preprocess_corda.model, config, batches. before", lambda: get_peft_model(Two(), config("corda"))),
        ("call preprocess_loraga.model, config, batches. before", lambda: get_peft_model(Two(), config("lora_ga"))),
        ("corda_config belongs to init_lora_weights='corda'", lambda: config("eva", corda_config=CordaConfig())),
        ("rho must be at least 1", lambda: EvaConfig(rho=0.5)),
        ("tau is a cosine", lambda: EvaConfig(tau=1.5)),
        ("stable_gamma must be above 0", lambda: LoraGAConfig(stable_gamma=0)),
        ("corda_method must be 'ipm' or 'kpm'", lambda: CordaConfig(corda_method="both")),  # type: ignore[arg-type]
        ("cache_file='x' is not supported", lambda: CordaConfig(cache_file="x")),
        ("eva_config has no row; its fields: rho, tau", lambda: config("eva", eva_config={"row": 1})),
        ("eva_config must be a EvaConfig, or a dict", lambda: config("eva", eva_config=3)),
        ("use_dora=True with init_lora_weights='lora_ga'", lambda: config("lora_ga", use_dora=True)),
    ]
    words = {"target_modules": ["word_embeddings"]}
    refused += [
        (
            "is for linear layers, and .*word_embeddings is a",
            lambda: preprocess_corda(tiny_bert(), config("corda", **words), texts()),
        ),
        (
            "'eva' begins with directions of a matrix, and .*word_embeddings is an",
            lambda: get_peft_model(tiny_bert(), config("eva", **words)),
        ),
    ]
    for message, call in refused:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"takes batches, each a dict .*; got no data"):
        preprocess_corda(Two(), config("corda"))
    with pytest.raises(TypeError, match="got one dict"):
        preprocess_loraga(Two(), config("lora_ga"), data()[0])
    with pytest.raises(TypeError, match=r"no use for|unexpected keyword argument 'hooks'"):
        initialize_lora_eva_weights(model, data(), hooks=1)


def test_a_start_wants_the_directions_and_the_settings_that_were_recorded() -> None:
    for start, message, changes in (
        (
            "lora_ga",
            "first: LoRA-GA takes 2r directions of the gradient, and this one, .* has 6; got the rank 4",
            {"r": 4},
        ),
        (
            "lora_ga",
            "lora_ga_config is another than when the data were recorded",
            {"lora_ga_config": {"scale": "unit"}},
        ),
        ("corda", "takes r directions of W, and first, of shape .*; got the rank 9", {"r": 9}),
    ):
        model = Two()
        PREPARE[start](model, config(start), data())
        with pytest.raises(ValueError, match=message):
            get_peft_model(model, config(start, **changes))
        get_peft_model(model, config(start))  # the data are still there
    model, own = Two(), config("lora_ga")
    preprocess_loraga(model, own, flat(2))
    with pytest.raises(ValueError, match=r"this one, of shape .* has 1; got the rank 2"):
        get_peft_model(model, own)
