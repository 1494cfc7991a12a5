"""The starts of LoRA: what A and B begin as, and the plain LoRA of rank 2r that the file of a kept start holds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, Trainer, TrainingArguments, get_peft_model
from npora.files import load_file, save_file
from npora.lora.starts import STARTS, Start, begun, start_of
from npora.lora.starts.orthogonal import orthogonal
from npora.lora.starts.pissa import randomised_svd
from npora.machine import blas
from npora.nn import Conv1D, Linear
from tests.lora.cases import Method, adapted
from tests.tiny import tiny_bert

KEPT = ["pissa", "pissa_niter_9", "olora"]
WEIGHTS = "adapter_model.safetensors"
RANKS: dict[str, Any] = {"rank_pattern": {"value": 4}, "alpha_pattern": {"query": 7}}


def config(start: str, **fields: Any) -> LoraConfig:
    return LoraConfig(r=2, lora_alpha=3, target_modules=["query", "value"], init_lora_weights=start, **fields)


def logits(model: Any) -> bytes:
    return bytes(model(input_ids=np.array([[3, 4, 9]]))[0].logits.tobytes())


def trained(model: Any) -> Any:
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + rng.standard_normal(parameter.shape).astype(parameter.dtype)
    return model


def fresh(start: str, base: type[Linear] = Linear, i: int = 7, o: int = 5, **fields: Any) -> tuple[Any, Any, float]:
    """A new adapter's W, and what it begins with."""
    layer = adapted(Method(start, LoraConfig(init_lora_weights=start, **fields)), i, o, conv=base is Conv1D)
    W = np.asarray(layer.base_layer.matrix)
    again = type(layer.adapters["default"])(
        layer.base_layer, LoraConfig(init_lora_weights=start, **fields), np.random.default_rng(1), "dense", {}
    )
    return W, again, again.s


@pytest.mark.parametrize("base", [Linear, Conv1D])
def test_pissa_begins_at_the_best_approximation_of_w(base: type[Linear]) -> None:
    for start in ("pissa", "pissa_niter_200"):
        W, adapter, s = fresh(start, base, r=2, lora_alpha=6)
        values, vectors = np.linalg.eigh(W.T @ W)  # of W's rows, from the least to the greatest
        best = W @ vectors[:, -2:] @ vectors[:, -2:].T
        np.testing.assert_allclose(s * adapter.B.data @ adapter.A.data, best, rtol=0, atol=1e-12)
        np.testing.assert_allclose(s * adapter.B.data.T @ adapter.B.data, np.diag(np.sqrt(values[:-3:-1])), atol=1e-12)
        np.testing.assert_allclose(s * adapter.A.data @ adapter.A.data.T, np.diag(np.sqrt(values[:-3:-1])), atol=1e-12)


def test_a_randomised_decomposition_is_better_with_each_turn_and_no_better_than_the_best() -> None:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((90, 70))
    best = np.sqrt((np.linalg.svd(W)[1][4:] ** 2).sum())
    errors = []
    for turns in (0, 1, 4, 40):
        U, S, V = randomised_svd(W, 4, turns, np.random.default_rng(1))
        np.testing.assert_allclose(U.T @ U, np.eye(4), atol=1e-13)
        np.testing.assert_allclose(V @ V.T, np.eye(4), atol=1e-13)
        errors.append(np.linalg.norm(W - U @ np.diag(S) @ V) / best)
    assert errors[0] > errors[1] > errors[2] > errors[3] >= 1 and errors[3] < 1 + 1e-4


@pytest.mark.parametrize("base", [Linear, Conv1D])
def test_olora_begins_at_the_first_columns_of_w(base: type[Linear]) -> None:
    W, adapter, _ = fresh("olora", base, r=3, lora_alpha=6)
    A, B = adapter.A.data, adapter.B.data
    np.testing.assert_allclose(B.T @ B, np.eye(3), atol=1e-13)
    np.testing.assert_allclose((B @ A)[:, :3], W[:, :3], atol=1e-13)
    np.testing.assert_allclose(B @ A, B @ B.T @ W, atol=1e-13)


def test_the_orthogonal_start_is_zero_though_neither_factor_is() -> None:
    _, adapter, _ = fresh("orthogonal", r=4)
    A, B = adapter.A.data, adapter.B.data
    assert abs(A).max() > 0.05 and abs(B).max() > 0.05 and abs(B @ A).max() < 1e-16
    A, B = orthogonal(np.zeros((300, 500)), 6, 1.0, np.random.default_rng(0))
    for factor in (
        A,
        B,
    ):  # of orthonormal rows and normal numbers: r/2 directions, each number of variance r/2 / r / 100
        assert np.linalg.matrix_rank(factor) == 3 and abs(factor.std() - np.sqrt(0.5) / 10) < 0.003


@pytest.mark.parametrize("start", KEPT)
@pytest.mark.parametrize("fields", [{}, {"use_rslora": True}, {**RANKS, "use_rslora": True}, RANKS], ids=str)
def test_a_kept_start_changes_nothing_at_first_and_its_file_is_plain_lora_of_twice_the_rank(
    tmp_path: Path, start: str, fields: dict[str, Any]
) -> None:
    base = tiny_bert()
    plain, before = logits(base), {name: p.data.tobytes() for name, p in base.named_parameters()}
    model = get_peft_model(base, config(start, **fields))
    assert logits(model) == plain
    trained(model)
    assert logits(model) != plain
    with model.disable_adapter():
        assert logits(model) == plain
    assert {name: p.data.tobytes() for name, p in model.unload().named_parameters()} == before

    model = trained(get_peft_model(tiny_bert(), config(start, **fields)))
    model.save_pretrained(tmp_path)
    assert model.active_peft_config.r == 2  # as it was
    written, tensors = json.loads((tmp_path / "adapter_config.json").read_text()), load_file(tmp_path / WEIGHTS)
    assert written["r"] == 4 and written["init_lora_weights"] is True
    assert {name.rpartition("lora_")[2] for name in tensors} == {"A.weight", "B.weight"}
    again = PeftModel.from_pretrained(tiny_bert(), tmp_path, is_trainable=True)
    assert logits(again) == logits(model) and again.active_peft_config.init_lora_weights == start
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / WEIGHTS).read_bytes()
    get_peft_model(tiny_bert(), config(start, **fields)).load_adapter(tmp_path)  # over one that is there

    save_file({name: np.array(value) for name, value in tensors.items()}, tmp_path / WEIGHTS, {"format": "pt"})
    as_lora = PeftModel.from_pretrained(tiny_bert(), tmp_path)  # as any program reads it
    assert as_lora.active_peft_config.r == 4 and as_lora.active_peft_config.init_lora_weights is True
    found, expected = (np.frombuffer(logits(m), np.float32) for m in (as_lora, model))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # of float32, over two layers


def test_what_was_saved_of_a_started_adapter_is_not_read_under_another_rank(tmp_path: Path) -> None:
    trained(get_peft_model(tiny_bert(), config("pissa"))).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 7}))
    with pytest.raises(ValueError, match="differ in the rank or the scale: the two files do not belong together"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)
    for record in ({"start": "novel"}, {"start": "pissa"}, {"start": 3}):
        tensors = {name: np.array(value) for name, value in load_file(tmp_path / WEIGHTS).items()}
        save_file(tensors, tmp_path / WEIGHTS, {"npora": json.dumps(record)})
        with pytest.raises(ValueError, match="start"):
            PeftModel.from_pretrained(tiny_bert(), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init_lora_weights": "pissa", "use_dora": True}, "leave one of the two out"),
        ({"init_lora_weights": "orthogonal", "r": 3}, "needs even ranks; got 3"),
        ({"init_lora_weights": "orthogonal", "rank_pattern": {"query": 5}}, "needs even ranks; got 8, 5"),
        (
            {"init_lora_weights": "mica"},
            "'mica' is not supported: use True, False or one of 'gaussian', 'orthogonal'",
        ),
        ({"init_lora_weights": "pissa_niter_"}, "'pissa_niter_' is not supported"),
        ({"init_lora_weights": "PiSSA"}, "'PiSSA' is not supported"),
    ],
)
def test_a_start_without_meaning_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**fields)


@pytest.mark.parametrize("start", KEPT)
def test_a_rank_above_the_matrixs_is_refused_with_the_layers_name(start: str) -> None:
    with pytest.raises(ValueError, match=r"takes r directions of W, and \S*query, of shape .*; got the rank 99"):
        get_peft_model(tiny_bert(), replace(config(start), r=99))


def test_a_start_decomposes_on_one_thread_so_that_its_bits_are_those_of_any_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library, seen = blas._functions(), []
    if library is None:
        pytest.skip("needs a NumPy on OpenBLAS: of another library the threads are not known")

    def begin(W: Any, r: int, s: float, rng: Any) -> Any:
        seen.append(library[0]())
        return W, W

    monkeypatch.setitem(STARTS, "olora", Start(begin, False))
    begun(LoraConfig(init_lora_weights="olora"), Linear(2, 2), 2, 1.0, np.random.default_rng(0), "")
    assert seen == [1]


def test_there_is_a_start_for_each_name_and_for_no_other() -> None:
    assert all(start_of(name) for name in (*KEPT, "orthogonal"))
    assert not any(start_of(name) for name in (True, False, "gaussian", "pissa_niter_1234", "pissa_niter_-1", None))


@pytest.mark.parametrize("start", [*KEPT, "orthogonal"])
def test_a_training_that_is_resumed_is_the_unbroken_one(tmp_path: Path, start: str) -> None:
    rows = [{"input_ids": [3, 4, 5 + n], "labels": n % 2} for n in range(8)]

    def run(folder: Path, resume: bool) -> Any:
        model = get_peft_model(tiny_bert(), config(start, task_type="SEQ_CLS"))
        arguments = TrainingArguments(
            str(folder), max_steps=4, per_device_train_batch_size=2, learning_rate=0.01, save_strategy="steps",
            save_steps=2,
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=rows).train(resume_from_checkpoint=resume)
        return model

    whole = run(tmp_path, False)
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert logits(run(tmp_path, True)) == logits(whole)
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path / "checkpoint-4")) == logits(whole)


@pytest.mark.parametrize("combination, rank", [("cat", 6), ("svd", 4), ("linear", None)])
def test_adapters_with_kept_starts_are_combined_as_what_they_change(combination: str, rank: int | None) -> None:
    """A kept start is a plain LoRA of rank 2r; only one of the same rank can be added to it, factor by factor."""
    model = trained(get_peft_model(tiny_bert(dtype=np.float64), config("pissa")))
    model.add_adapter("plain", LoraConfig(r=2 if rank else 3, target_modules=["query", "value"]))
    for name, parameter in model.adapter_parameters("plain").items():
        parameter.data = np.random.default_rng(len(name)).standard_normal(parameter.shape)
    if rank is None:
        with pytest.raises(ValueError, match="combines adapters of one rank; got 4, 3"):
            model.add_weighted_adapter(["default", "plain"], [0.5, 2.0], "sum", combination_type=combination)
        return
    model.add_weighted_adapter(["default", "plain"], [0.5, 2.0], "sum", combination_type=combination)
    assert model.peft_config["sum"].r == rank
    for _, layer in model.lora_layers():
        expected = 0.5 * layer.get_delta_weight("default") + 2 * layer.get_delta_weight("plain")
        U, S, V = np.linalg.svd(expected)
        best = (U[:, :rank] * S[:rank]) @ V[:rank]
        np.testing.assert_allclose(layer.get_delta_weight("sum"), best, rtol=0, atol=1e-11)
