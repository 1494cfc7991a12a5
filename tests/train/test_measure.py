"""What a summary of a run reports."""

from __future__ import annotations

import hashlib
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npora import TrainingArguments
from npora.nn import Linear
from npora.train import measure
from npora.train.measure import frozen_sha256, peak_memory


def test_a_digest_is_of_names_and_bytes_of_what_is_frozen() -> None:
    layer = Linear(2, 3)
    layer.bias.data = np.arange(3, dtype=np.float32)
    layer.weight.requires_grad, layer.bias.requires_grad = True, False
    assert frozen_sha256(layer) == hashlib.sha256(b"bias" + np.arange(3, dtype="<f4").tobytes()).hexdigest()


@pytest.mark.parametrize("system, expected", [("linux", 3072), ("darwin", 3)])
def test_the_most_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch, system: str, expected: int) -> None:
    resource: Any = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=3))
    monkeypatch.setitem(sys.modules, "resource", resource)
    monkeypatch.setattr(measure, "sys", SimpleNamespace(platform=system))
    assert peak_memory() == expected


def test_where_the_system_does_not_say_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # an import of it fails
    assert peak_memory() == 0


def test_a_micro_batch_has_about_512_tokens_unless_another_number_is_asked_for() -> None:
    assert TrainingArguments().tokens_at_once == 512
