"""npora inspect says what an adapter does to each layer, alone, beside its base, and beside another adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification, HiraConfig, LNTuningConfig, LoraConfig, get_peft_model
from npora.cli import main
from tests.properties.strategies import normal
from tests.tiny import tiny_bert


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A base, and adapters on it: two of LoRA, and one whose ΔW depends on W."""
    tiny_bert().save_pretrained(tmp_path / "base")
    configs: dict[str, Any] = {
        "one": LoraConfig(r=3, target_modules=["query", "value"], task_type="SEQ_CLS"),
        "two": LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"),
        "hira": HiraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"),
        "norms": LNTuningConfig(target_modules=["LayerNorm"], task_type="SEQ_CLS"),
    }
    for name, config in configs.items():
        model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(tmp_path / "base"), config)
        for number, parameter in enumerate(model.adapter_parameters("default").values()):
            moved = parameter.data + 0.3 * normal(number + len(name), *parameter.shape)
            parameter.data = moved.astype(parameter.dtype)
        model.save_pretrained(tmp_path / name)
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[list[str]]:
    assert main(["inspect", *map(str, arguments)]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_an_adapter_of_lora_is_measured_alone_and_beside_its_base(saved: Path, capsys: Any) -> None:
    head, *alone = lines(capsys, saved / "one")
    assert head == ["layer", "rank", "effective", "‖ΔW‖", "σ"] and len(alone) == 4
    head, *beside = lines(capsys, saved / "one", "--base", saved / "base")
    assert head == ["layer", "rank", "effective", "‖ΔW‖", "‖ΔW‖/‖W‖", "overlap", "chance", "amplified", "σ"]
    model = get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(saved / "base"), LoraConfig(target_modules=["query"])
    )
    for short, long in zip(alone, beside, strict=True):
        assert short[:4] == long[:4] and short[4:] == long[8:] and short[1] == "3" and len(short) == 7
        W = dict(model.get_base_model().named_modules()).get(short[0])
        W = W.base_layer if hasattr(W, "base_layer") else W
        assert abs(float(long[4]) - float(long[3]) / np.linalg.norm(W.matrix)) < 2e-2 * float(long[4])
        assert 0 <= float(long[5]) <= 1 and float(long[6]) == pytest.approx(3 / W.in_features, abs=1e-3)


def test_two_adapters_are_compared_where_both_are(saved: Path, capsys: Any) -> None:
    for more in ((), ("--base", saved / "base")):
        found = lines(capsys, saved / "one", "--with", saved / "two", *more)
        at = found.index(["layer", "similar", "chance"])
        assert [example[0].rsplit(".", 1)[1] for example in found[at + 1 :]] == ["query", "query"]
        same = lines(capsys, saved / "one", "--with", saved / "one", *more)
        assert [example[1] for example in same[same.index(["layer", "similar", "chance"]) + 1 :]] == ["1.000"] * 4


def test_what_depends_on_the_base_needs_it_and_what_has_nothing_in_common_says_so(saved: Path, capsys: Any) -> None:
    assert main(["inspect", str(saved / "hira")]) == 2
    assert "depends on the base's weights: pass --base" in capsys.readouterr().err
    assert len(lines(capsys, saved / "hira", "--base", saved / "base")) == 3
    assert main(["inspect", str(saved / "nowhere")]) == 2
    capsys.readouterr()


def test_of_a_norm_its_scale_is_measured_and_biases_are_told(saved: Path, capsys: Any) -> None:
    found = lines(capsys, saved / "norms", "--base", saved / "base")
    at = found.index(["layer", "‖b′", "−", "b‖/‖b‖"])
    paths = [line[0] for line in found[1 : at - 1]]
    assert len(paths) == 5 and all(path.endswith("LayerNorm") for path in paths)
    assert {line[1] for line in found[1 : at - 1]} == {"6"}
    assert [line[0] for line in found[at + 1 :]] == paths and all(float(line[1]) > 0 for line in found[at + 1 :])
    assert ["layer", "‖b′", "−", "b‖/‖b‖"] not in lines(capsys, saved / "hira", "--base", saved / "base")


def test_singular_values_are_drawn(saved: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    lines(capsys, saved / "one", "--plot", saved / "sigma.svg")
    text = (saved / "sigma.svg").read_text(encoding="utf-8")
    assert text.startswith("<?xml") and len(text) > 5000
    assert main(["inspect", str(saved / "one"), "--plot", str(saved / "sigma.xyz")]) == 2
    assert "a picture's name ends in one of" in capsys.readouterr().err
