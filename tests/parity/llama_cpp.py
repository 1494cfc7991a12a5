"""llama.cpp itself, by the package xllamacpp: what it says of ids or of a text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_LETTER = 60  # a token with a text of its own: of an end nothing is said


@contextmanager
def server(path: Path, adapter: Path | None = None, embedding: bool = False) -> Iterator[Any]:
    xllamacpp = pytest.importorskip("xllamacpp", reason="needs the extra `parity`")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup = 64, 1, 0, False
    params.cpuparams.n_threads, params.verbosity, params.embedding = 1, -1, embedding
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32  # else keys and values are rounded
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # it tells a great deal
    try:
        yield xllamacpp.Server(params)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def log_probabilities(server: Any, prompt: Any, vocabulary: int) -> Any:
    """Of the token after a prompt, ids or a text, before any is chosen.    →  [vocabulary]"""
    found = _completed(server, prompt, n_predict=1, n_probs=vocabulary, logit_bias=[[_LETTER, 1000.0]])
    result = np.full(vocabulary, np.nan)
    for entry in found["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        result[entry["id"]] = entry["logprob"]
    return result


def greedy(server: Any, prompt: Any, count: int) -> list[int]:
    """The likeliest ids after a prompt."""
    found = _completed(server, prompt, n_predict=count, n_probs=1)
    return [entry["id"] for entry in found["choices"][0]["logprobs"]["content"]]


def embedded(server: Any, prompt: Any) -> Any:
    """The mean of the last rows of ids or of a text, of length 1.    →  [m]"""
    answer = server.handle_embeddings({"input": prompt})
    assert "data" in answer, answer
    return np.array(answer["data"][0]["embedding"])


def tokens_of(server: Any, text: str) -> int:
    """How many ids it makes of a text."""
    return int(_completed(server, text, n_predict=1)["usage"]["prompt_tokens"])


def _completed(server: Any, prompt: Any, **options: Any) -> Any:
    answer = server.handle_completions(
        {"prompt": prompt, "cache_prompt": False, "temperature": 0.0, "samplers": ["temperature"], **options}
    )
    assert "choices" in answer, answer
    return answer
