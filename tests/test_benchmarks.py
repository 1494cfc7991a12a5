"""Each workload of the benchmarks runs, at toy sizes, and what is printed about it is what was measured."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npora.data.gguf_vocabulary import gguf_vocabulary
from npora.models.gguf.writing import write_gguf
from tests.benchmarks import (
    NAMES,
    bridged,
    busy,
    compare,
    floor,
    generation,
    gradcheckers,
    process,
    report,
    scaling,
    start,
    stored,
    toy,
    with_npora,
    workloads,
)
from tests.made_tokenizers import as_llama_cpp_has_it as made_tokenizer
from tests.shared_data import data
from tests.tiny_gguf import VOCABULARY, tiny_gguf


@pytest.mark.parametrize("name", NAMES)
def test_nporas_side_of_a_workload_runs(tmp_path: Path, name: str) -> None:
    workload = toy(name)
    check, step = start(workload, with_npora, tmp_path)
    first, second = workloads.load_batches(workload, tmp_path)
    for what, array in check(first).items():
        assert np.isfinite(array).all() and np.any(array), f"nothing to compare in {what}"
    loss, again = step(first), step(first)
    assert step(second) is not None
    if workload.kind in ("train", "start"):
        assert again != loss, "a step changes nothing"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "f"])
def test_the_floor_of_a_workload_runs(tmp_path: Path, name: str) -> None:
    workload = toy(name)
    _, step = start(workload, floor, tmp_path)
    for batch in workloads.load_batches(workload, tmp_path):
        step(batch)


def test_the_floor_is_the_products_that_are_read() -> None:
    def linear(n: int, train: bool = True, **keywords: bool) -> list[tuple[int, ...]]:
        products = floor.Products(r, train)
        products.linear(n, i, o, **keywords)
        assert products[0] == (1, n, i, o)  # x Wᵀ
        return list(products[1:])

    i, o, r = 5, 3, 2
    assert linear(7, train=False) == [] and linear(7) == [(1, 7, o, i)]  # dy W
    assert linear(7, dx=False, dW=True) == [(1, o, 7, i)]  # dyᵀ x
    gradients = [(1, 4, o, r), (1, o, 4, r), (1, r, 4, i)]  # du, dB, dA
    assert linear(4, dx=False, lora=True) == [(1, 4, i, r), (1, 4, r, o), *gradients]  # u and u Bᵀ: 24 < B A's 30
    assert linear(4, lora=True) == [(1, 4, o, i), (1, o, r, i), (1, 4, i, r), *gradients]  # 30 < u Bᵀ and du A's 64


def test_products_with_a_large_vocabulary_go_by_blocks_of_rows() -> None:
    products = floor.Products(1, True)
    products.matrix(1000, 4, 50257)
    assert len(products) > 1 and sum(m for _, m, _, _ in products) == 1000
    assert all(m * n <= floor.LARGEST_OUTPUT for _, m, _, n in products)


def test_what_a_process_found_is_compared_by_name_and_by_its_largest_element(tmp_path: Path) -> None:
    workload = toy("a")
    np.savez(process.found_by("npora", workload, tmp_path), loss=1.0, A=np.array([1.0, -4.0]))
    np.savez(process.found_by("PEFT", workload, tmp_path), loss=1.0, A=np.array([1.5, -4.0]))
    assert compare.difference(workload, "PEFT", tmp_path) == ("A", 0.125)
    np.savez(process.found_by("PEFT", workload, tmp_path), loss=1.0, A=np.array([np.nan, -4.0]))
    assert not compare.difference(workload, "PEFT", tmp_path)[1] <= workload.tolerance
    np.savez(process.found_by("PEFT", workload, tmp_path), loss=1.0)
    with pytest.raises(compare.Failed, match="do not both have A"):
        compare.difference(workload, "PEFT", tmp_path)


def fake_process(losing: str) -> Any:
    """In place of a process: it finds a loss of 1, but the one side a loss of 2."""

    def process_(workload: Any, side: str, folder: Path, steps: int, limit: float) -> dict[str, Any]:
        np.savez(process.found_by(side, workload, folder), loss=2.0 if side == losing else 1.0)
        return {"seconds": [1.0], "bytes": 1, "loss": None, "tokens": 0}

    return process_


def test_sides_that_disagree_stop_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SimpleNamespace(sides=["npora", "PEFT", "floor"], steps=1, limit=9, rounds=2)
    monkeypatch.setattr(compare, "process", fake_process("floor"))
    sides = compare.measure(toy("a"), tmp_path, options)["sides"]
    assert [len(side["runs"]) for side in sides.values()] == [2, 2, 2]
    monkeypatch.setattr(compare, "process", fake_process("PEFT"))
    with pytest.raises(SystemExit, match=r"\(a\) npora and PEFT disagree: loss by 5.0e-01"):
        compare.measure(toy("a"), tmp_path, options)


def run_compare(monkeypatch: pytest.MonkeyPatch, failing: dict[str, Exception], arguments: str) -> int:
    """compare.py's exit code where the processes of these sides fail so."""
    works = fake_process("nobody")

    def process_(workload: Any, side: str, *rest: Any) -> dict[str, Any]:
        if side in failing:
            raise failing[side]
        return works(workload, side, *rest)

    monkeypatch.setattr(compare, "process", process_)
    return compare.main(["--toy", "--rounds", "1", *arguments.split()])


@pytest.mark.parametrize(
    ("failing", "sides", "code"),
    [
        ({}, "", 0),
        ({"JAX": compare.Missing("jax is not installed")}, "", 0),  # said, and no error
        ({"JAX": compare.Missing("jax is not installed")}, "--sides npora,JAX", 1),
        ({"PEFT": compare.Failed("it took more than 9 s")}, "", 1),
        ({"floor": compare.Failed("exit code 1")}, "", 1),
        ({"npora": compare.Failed("npora.models has no such family")}, "", 1),
        ({"prepare": compare.Failed("ModuleNotFoundError: No module named 'npora'")}, "", 1),
    ],
)
def test_what_was_not_measured_is_said_and_is_an_error_unless_it_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: Any, sides: str, code: int
) -> None:
    assert run_compare(monkeypatch, failing, f"--only a {sides}") == code
    errors = capsys.readouterr().err
    for side, why in failing.items():
        assert f"not measured: (a) {side.replace('prepare', 'npora')}: {why}" in errors
    assert ("not measured" in errors) == bool(failing)


def test_without_npora_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    found = compare.importlib.util.find_spec
    monkeypatch.setattr(
        compare.importlib.util, "find_spec", lambda name, *rest: None if name == "npora" else found(name, *rest)
    )
    with pytest.raises(SystemExit, match="nothing was measured: npora is not installed for ") as stop:
        run_compare(monkeypatch, {"prepare": AssertionError("begun")}, "--only a")
    assert stop.value.code != 0


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        (compare, "--only a,zz", "there is no 'zz' among a, a-1024"),
        (compare, "--sides npora,torch", "there is no 'torch' among npora, PEFT"),
        (compare, "--json nowhere/x.json", "nowhere/x.json"),
        (compare, "--plot nowhere/x.png", "nowhere/x.png|matplotlib"),
        (scaling, "--only tokens,width", "there is no 'width' among tokens"),
        (scaling, "--json nowhere/x.json", "nowhere/x.json"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: Any, arguments: str,
    said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        program.main(["--toy", *arguments.split()])
    assert stop.value.code != 0
    assert re.search(said, f"{capsys.readouterr().err} {stop.value.code}")


def test_a_checker_that_breaks_down_gives_no_verdict() -> None:
    case = gradcheckers.Case("tanh", lambda x: 1 / 0, (np.ones(2),), True)
    assert gradcheckers.judged(gradcheckers.by_npora, case) == gradcheckers.ERROR


def test_the_museum_is_for_every_checker(capsys: pytest.CaptureFixture[str]) -> None:
    exhibits = gradcheckers.museum()
    gradcheckers.seen(exhibits[:2], {"npora": gradcheckers.by_npora, "blind": lambda case: ""})
    lines = capsys.readouterr().out.splitlines()
    assert len(exhibits) >= 30 and not any(case.right for case in exhibits)
    assert [line.split()[-2:] for line in lines[1:]] == [["FAIL", "MISSED"]] * 2 + [["2", "0"]]


def test_each_framework_gets_the_same_errors_once_for_each_function_and_size() -> None:
    found = {name: (forward, backward, inputs) for name, forward, backward, inputs in bridged.cases()}
    assert len(found) == 33 and sum(name.endswith("right") for name in found) == 6
    for name, (forward, backward, inputs) in found.items():
        pair = gradcheckers.Case(
            name, lambda *x, f=forward, b=backward: (f(np, *x), lambda dy: b(np, dy, *x)), inputs, 0
        )
        if name.startswith("linear"):
            assert (gradcheckers.by_npora(pair) == "") is name.endswith("right"), name


def test_shares_are_medians_over_the_rounds() -> None:
    def side(*medians: float) -> dict[str, Any]:
        runs = [{"seconds": [m / 2, m, 3 * m], "bytes": 1e6 * m, "loss": None, "tokens": 8} for m in medians]
        return {"runs": runs}

    sides = {
        "npora": side(1, 2, 4),
        "PEFT": {**side(4, 4, 5), "differs": 1e-6},
        "JAX": {"runs": [], "failed": "no jax"},
        "floor": side(1, 1, 3),
    }
    lines = report.table({"name": "a", "title": "title", "sides": sides}).splitlines()
    columns = {line.split("  ")[0]: line.split() for line in lines[3:]}
    assert columns["npora"] == ["npora", "2", "(1–4)", "0.75", "(0.50–1.00)", "2", "4"]
    shares = ["4", "(4–5)", "0.50", "(0.25–0.80)", "0.25", "(0.25–0.60)", "4", "0.50", "2", "1e-06"]
    assert columns["PEFT"] == ["PEFT", *shares]
    assert columns["floor"] == ["floor", "1", "(1–3)"]
    assert lines[5] == "JAX                 left out: no jax"


def test_the_command_measures_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    compare.main(f"--toy --only a --sides npora,floor --rounds 1 --steps 1 --json {file}".split())
    printed = capsys.readouterr().out
    assert "machine: " in printed and "versions: Python " in printed and "\nnpora " in printed and "\nfloor " in printed
    workload, *_ = json.loads(file.read_text(encoding="utf-8"))["workloads"]  # and its variants
    (run,) = workload["sides"]["npora"]["runs"]
    assert len(run["seconds"]) == 1 and run["bytes"] > 1e7 and run["tokens"] == 27


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(compare.Failed, match="FileNotFoundError"):  # nothing was prepared
        compare.process(toy("a"), "npora", tmp_path, steps=1, limit=60)


def test_sentences_come_from_a_file_where_one_is_given(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    options = compare.parser().parse_args(["--only", "b-longest", "--data", str(data("sst2").parent)])
    (workload,) = compare.chosen(options)
    assert workload.checkpoint == str(data("checkpoints", "minilm-l6"))
    workloads.prepare(workload, tmp_path, 2)
    first, second = workloads.load_batches(workload, tmp_path)
    assert len(first["labels"]) == 16 and set(first["labels"]) == {0, 1}
    for batch in (first, second):
        assert (batch["input_ids"][:, 0] == 101).all(), "[CLS]"
        assert batch["attention_mask"].sum(axis=1).max() == batch["input_ids"].shape[1]


def test_an_exponent_is_a_slope_between_logarithms() -> None:
    sizes = [1, 2, 4, 8]
    assert scaling.exponents(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx((1.5, 1.5))
    assert scaling.exponents(sizes, [1, 1, 1, 2])[1] == pytest.approx(1)


@pytest.mark.parametrize("axis", list(scaling.AXES))
def test_a_point_of_each_axis_is_measured(tmp_path: Path, axis: str) -> None:
    (small, workload), (large, _), *_ = scaling.points(axis, toy=True)
    assert small < large
    workloads.prepare(workload, tmp_path, 1)
    found = scaling.measure(workload, tmp_path, steps=1)
    assert found["seconds"] > 0 and found["bytes"] >= 0


def test_what_is_measured_is_bound_to_no_older_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    found = process.free_to_run()
    assert "OPENBLAS_CORETYPE" not in found and found["PATH"]
    assert found["OPENBLAS_NUM_THREADS"] == found["OMP_NUM_THREADS"] == str(os.cpu_count())


def test_a_base_in_each_form_is_measured_beside_the_same_losses(tmp_path: Path) -> None:
    sizes = {"hidden_size": 12, "intermediate_size": 20, "num_attention_heads": 2, "num_key_value_heads": 1}
    sizes = {**stored.SIZES["small"], **sizes, "vocab_size": 40, "num_hidden_layers": 1}
    stored.prepare(tmp_path, sizes)
    ids = np.arange(10).reshape(2, 5)
    found = {way: stored.Way(tmp_path, way).memory(ids) for way in stored.WAYS}
    losses = [measured["loss"] for measured in found.values()]
    np.testing.assert_allclose(losses[:3], losses[0], rtol=1e-5)  # the same numbers, and then such as are near
    np.testing.assert_allclose(losses[3:], losses[0], rtol=1e-3)
    assert found["bfloat16"]["base"] == found["float16"]["base"] < 0.52 * found["float32"]["base"]
    seconds = stored.times(tmp_path, 1, ids)
    for way in stored.WAYS:
        for what in ("step", "tokens"):
            assert len(seconds[way][what]) == 1 and stored.ratio(seconds[way][what], seconds["float32"][what])


def test_a_prompt_and_what_is_written_are_timed_apart(tmp_path: Path) -> None:
    model = tiny_gguf("llama")
    write_gguf(model, tmp_path / "model.gguf", "F32", gguf_vocabulary(made_tokenizer("byte-level"), VOCABULARY))
    found = generation.measure("npora as it is", tmp_path, [3, 5, 7], 4)
    expected = model.generate(np.array([[3, 5, 7]]), max_new_tokens=5, eos_token_id=[])[0, 3:]
    assert found["written"] == expected.tolist() and found["bytes"] > 1e7
    assert [len(found[when]) for when in ("idle", "busy")] == [generation.RUNS] * 2
    runs = [{"idle": [(0.5, 0.1), (0.2, 0.3), (0.2, 0.3)]}, {"idle": [(0.1, 0.5)]}]
    assert generation.speeds(runs, "idle", 0, 10) == "75 (50–100)"  # 10 tokens in 0.2 s, and in 0.1 s
    assert generation.speeds(runs, "idle", 1, 3) == "8 (6–10)"
    one, other = (
        {"npora float32": [{"written": [1, 2]}], "transformers float32": [{"written": w}]} for w in ([1, 2], [1, 3])
    )
    generation.check_same(one)
    with pytest.raises(SystemExit, match="1 of 2 are the same"):
        generation.check_same(other)


def test_a_busy_machines_share_is_measured_for_each_piece_of_work(capsys: pytest.CaptureFixture[str]) -> None:
    busy.main(["--toy", "--rounds", "1"])
    *_, step, predict, decode = capsys.readouterr().out.splitlines()
    for line, title in ((step, "training step"), (predict, "predicted"), (decode, "32 tokens")):
        idle, beside, ratio = line[50:].replace("s", "").split()
        assert title in line and min(float(idle), float(beside), float(ratio)) > 0
    with pytest.raises(SystemExit):
        busy.main(["--only", "sleep"])
