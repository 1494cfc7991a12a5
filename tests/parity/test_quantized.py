"""Quantised matrices against those who know the formats: ggml's Q8_0 as `gguf` has it, and LoftQ's formula in PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.lora.starts.loftq import loftq
from npora.models.quantized import quantize_model
from npora.nn import Linear
from npora.stored import Q8_0

torch = pytest.importorskip("torch", reason="needs the extra `parity`")


def drawn(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_int8_has_the_bytes_and_the_numbers_of_ggmls_q8_0() -> None:
    gguf = pytest.importorskip("gguf", reason="needs the extra `parity`")
    kind, x = gguf.GGMLQuantizationType.Q8_0, drawn(60, 256)
    ours, theirs = Q8_0.quantized(x), gguf.quants.quantize(x, kind)
    np.testing.assert_array_equal(gguf.quants.dequantize(ours.bits, kind), ours, strict=True)
    np.testing.assert_array_equal(np.asarray(Q8_0(theirs, x.shape)), gguf.quants.dequantize(theirs, kind), strict=True)
    # Theirs divides by the step before that is rounded to float16: some numbers between two go the other way.
    steps, others = (bits.reshape(60, -1, 34)[..., :2] for bits in (ours.bits, theirs))
    assert (steps == others).all() and (ours.bits != theirs).mean() < 0.02


def test_loftq_is_pefts_where_s_is_one(tmp_path: Path) -> None:
    decompose = pytest.importorskip("peft.utils.loftq_utils", reason="needs the extra `parity`")._low_rank_decomposition
    layer = Linear(24, 17, rng=1).requires_grad_(False)
    path, W0 = tmp_path / "w", np.array(layer.weight.data)
    W0.tofile(path)
    layer.weight.data = np.memmap(path, np.float32, "r", shape=W0.shape)
    quantize_model(layer, "nf4")
    A, B = loftq(layer.matrix, 4, 1.0, np.random.default_rng(0))
    theirs = decompose(torch.tensor(W0 - np.asarray(layer.matrix)), reduced_rank=4)
    np.testing.assert_allclose(B @ A, (theirs["L"] @ theirs["R"]).numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.abs(A), theirs["R"].abs().numpy(), rtol=0, atol=1e-5)  # to the sign of each direction
