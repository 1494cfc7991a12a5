"""What the benchmarks compare is the same work: every peer finds npora's loss and gradients; and torch counts as many
multiplications as the floor."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import NAMES, floor, start, toy, with_npora, workloads

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
pytest.importorskip("peft", reason="needs the extra `parity`")
flop_counter = import_module("torch.utils.flop_counter")
with_peft = import_module("with_peft")


def assert_same(workload: Any, side: Any, folder: Path) -> None:
    ours, theirs = start(workload, with_npora, folder), side.start(workload, folder)
    first, second = workloads.load_batches(workload, folder)
    expected = {workloads.plain(name): array for name, array in theirs[0](first).items()}
    found = {workloads.plain(name): np.asarray(array) for name, array in ours[0](first).items()}
    assert found.keys() == expected.keys()
    for name, array in found.items():
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-4 * size, err_msg=name)
    if workload.kind == "train" and not workload.dropout:
        ours[1](first), theirs[1](first)
        assert ours[1](second) == pytest.approx(theirs[1](second), rel=1e-4)  # after a step of AdamW


@pytest.mark.parametrize("name", [name for name in NAMES if name != "f"])
def test_peft_does_the_same_work(tmp_path: Path, name: str) -> None:
    assert_same(toy(name), with_peft, tmp_path)


@pytest.mark.skipif(find_spec("jax") is None, reason="needs jax")
def test_jax_does_the_same_work(tmp_path: Path) -> None:
    """In a process of its own, for JAX warns at every fork after it, and other tests fork."""
    work = "import sys; from tests.parity.test_benchmarks import *; assert_same(toy('a'), jax(), Path(sys.argv[1]))"
    run = subprocess.run(
        [sys.executable, "-c", work, tmp_path], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "jax" not in sys.modules


def jax() -> Any:
    return import_module("with_jax")


@pytest.mark.parametrize("name, depth", [("a", "num_hidden_layers"), ("c", "n_layer"), ("d", "num_layers"),
                                         ("h", "num_hidden_layers")])  # fmt: skip
def test_a_layer_more_costs_the_floor_what_it_costs_torch(
    tmp_path: Path, name: str, depth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch computes causal scores in full, so here the floor does too; with few rows both have LoRA beside W. What
    else the floor leaves out is in the first layer or the last, and a causal batch's last token: it is given one more.
    """
    attention = floor.Products.attention
    monkeypatch.setattr(
        floor.Products, "attention", lambda self, *sizes, causal=False, **read: attention(self, *sizes, **read)
    )
    counts = []
    for layers in (2, 3):
        workload = toy(name)
        config = {**workload.config, depth: layers}
        workload = replace(workload, batch=1, length=3, target=min(workload.target, 2), rank=1, config=config)
        model, batch = loaded(workload, tmp_path)
        with flop_counter.FlopCounterMode(display=False) as counter:
            with_peft.training(model, model, workload)[0](batch)
        if name in "ch":
            batch = {"input_ids": np.zeros((1, 4))}
        counts.append((counter.get_total_flops() / 2, floor.multiplications(floor.products(workload, batch))))
    (torchs, floors), (torchs_more, floors_more) = counts
    assert floors_more - floors == torchs_more - torchs > 0


def loaded(workload: Any, folder: Path) -> tuple[Any, Any]:
    try:
        workloads.prepare(workload, folder, 1)
    except LookupError as why:
        pytest.skip(str(why))
    model = with_peft.load(workload, folder)
    model.base_model.model.set_attn_implementation("eager")  # whose products torch counts
    return model, workloads.load_batches(workload, folder)[0]
