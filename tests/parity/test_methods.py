"""Every method's adapters against PEFT's: names, counts, starts, outputs, gradients, merging, and files both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import PeftModel, get_peft_model
from npora.files import load_file
from npora.lora import EvaConfig, FourierFTConfig, LoKrConfig, LoraGAConfig, MissConfig, PeftConfig
from npora.lora.torch_words import TorchWords
from npora.nn import Conv1D, Linear
from tests.lora.cases import METHODS, Method, adapter_of, goes_on
from tests.parity import reference, reference_gpt2
from tests.parity.both import moved
from tests.parity.reference import assert_close, assert_same_gradients, npora_bert, reference_bert, tensors, torch
from tests.parity.test_gpt2_peft import pair
from tests.parity.test_peft import peft, randomize

# LoRA's own tests are in the files beside this one; so are those of methods whose configs name more than targets.
CASES = [case for case in METHODS if case.config.peft_type not in ("LORA", "IA3", "VERA")]
CASES += [  # of the sizes of these bases
    Method("lokr, of a given factor", LoKrConfig(r=2, alpha=3, decompose_factor=4, init_weights="lycoris")),
    Method("miss, a shard that is not full", MissConfig(r=5)),
    Method("miss, mini", MissConfig(r=3, init_weights="mini", mini_r=4)),
    Method("miss, bat", MissConfig(r=4, init_weights="bat")),
    Method("fourierft, of N(0, 1)", FourierFTConfig(n_frequency=300, random_loc_seed=-9)),
]
BASES = {"bert": ["query", "intermediate.dense"], "gpt2": ["c_attn", "mlp.c_fc"]}
LABELS = {"bert": reference.LABELS, "gpt2": np.array([2, 0, 3])}
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
both = pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CASES for name in BASES if name == "bert" or goes_on(case, Conv1D)],
    ids=lambda part: part if isinstance(part, str) else part.name.replace(" ", "-"),
)


@pytest.fixture(autouse=True)
def in_double(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """FourierFT of PEFT transforms in float32 whatever the dtype: for comparison it is told that float is double."""
    if "fourierft" not in request.node.name:
        yield
        return
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def config_of(case: Method, name: str) -> PeftConfig:
    return replace(case.config, target_modules=BASES[name], task_type="SEQ_CLS")


def pefts(config: PeftConfig) -> Any:
    kind = getattr(peft, type(config).__name__)
    known = {f.name for f in fields(kind)}
    return kind(**{key: value for key, value in config.to_dict().items() if key in known - {"peft_type"}})


def peft_model(base: Any, config: PeftConfig) -> Any:
    """PEFT's model. That of AdaLoRA has its ranks at the beginning, which it divides by, among what is trained, though
    it means not to, and no file has them: here they stay what they are."""
    model = peft.get_peft_model(base, pefts(config))
    for parameter_name, parameter in model.named_parameters():
        if ".ranknum." in parameter_name:
            parameter.requires_grad = False
    return model


def bases(name: str, directory: Path) -> tuple[Any, Any]:
    """transformers' base and npora's."""
    return (reference_bert(directory), npora_bert(directory)) if name == "bert" else pair(directory, "SEQ_CLS")


def batch(name: str) -> dict[str, Any]:
    return reference.BATCH if name == "bert" else reference_gpt2.BATCH


def assert_same(ours: Any, theirs: Any, name: str) -> None:
    assert_close(ours(**batch(name))[0].logits, theirs(**tensors(batch(name))).logits, 1e-11)


@both
def test_an_adapter_of_peft_loads_with_the_same_outputs_and_gradients(tmp_path: Path, case: Method, name: str) -> None:
    theirs, base = bases(name, tmp_path / "base")
    theirs = randomize(peft_model(theirs, config_of(case, name))).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert_same(ours, theirs, name)
    ours(**batch(name), labels=LABELS[name])[1]()
    ours.penalty()
    theirs(**tensors(batch(name)), labels=torch.tensor(LABELS[name])).loss.backward()
    assert assert_same_gradients(ours, theirs, 1e-10) > 4
    with ours.disable_adapter(), theirs.disable_adapter():
        assert_same(ours, theirs, name)
    assert_same(ours.merge_and_unload(), theirs.merge_and_unload(), name)


@both
def test_an_adapter_of_npora_loads_in_peft_with_the_same_outputs(tmp_path: Path, case: Method, name: str) -> None:
    theirs, base = bases(name, tmp_path / "base")
    ours = moved(get_peft_model(base, config_of(case, name)))
    ours.save_pretrained(tmp_path / "adapter")
    assert_same(ours, peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval(), name)


@both
def test_names_counts_and_files_are_pefts(
    tmp_path: Path, case: Method, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = bases(name, tmp_path / "base")
    theirs = peft_model(theirs, config_of(case, name))
    ours = get_peft_model(ours, config_of(case, name))
    shapes = {name: (tuple(p.shape), p.requires_grad) for name, p in ours.named_parameters()}
    assert shapes == {name: (tuple(p.shape), p.requires_grad) for name, p in theirs.named_parameters()}
    theirs.print_trainable_parameters()
    expected = capsys.readouterr().out
    ours.print_trainable_parameters()
    assert capsys.readouterr().out == expected
    files, configs = [], []
    for model, who in ((ours, "ours"), (theirs, "theirs")):
        model.save_pretrained(tmp_path / who)
        files.append({key: x.shape for key, x in load_file(tmp_path / who / "adapter_model.safetensors").items()})
        configs.append(json.loads((tmp_path / who / "adapter_config.json").read_text()))
    assert files[0] == files[1]
    of_the_base = {"auto_mapping", "base_model_name_or_path", "peft_version", "modules_to_save", "fan_in_fan_out"}
    said = [{key: sorted(v) if isinstance(v, list) else v for key, v in config.items()} for config in configs]
    assert {key: said[0][key] for key in said[1]} | dict.fromkeys(of_the_base) == said[1] | dict.fromkeys(of_the_base)


@both
def test_two_adapters_merge_as_pefts_do(tmp_path: Path, case: Method, name: str) -> None:
    theirs, base = bases(name, tmp_path / "base")
    ours = get_peft_model(base, config_of(case, name))
    ours.add_adapter("second", config_of(case, name), seed=7)
    for adapter in ("default", "second"):
        ours.set_adapter(adapter)
        moved(ours)
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    theirs.load_adapter(tmp_path / "adapter" / "second", "second")
    theirs.set_adapter("second")
    assert_same(ours, theirs, name)
    before = ours(**batch(name))[0].logits
    ours.merge_adapter(["default", "second"])
    theirs.merge_adapter(["default", "second"])
    assert_same(ours, theirs, name)
    ours.unmerge_adapter()
    assert ours(**batch(name))[0].logits.tobytes() == before.tobytes()


@pytest.mark.parametrize("case", [case for case in CASES if not goes_on(case, Conv1D)], ids=lambda case: case.name)
def test_what_peft_puts_on_no_conv1d_is_refused_there(tmp_path: Path, case: Method) -> None:
    theirs, ours = bases("gpt2", tmp_path / "base")
    with pytest.raises((TypeError, ValueError), match="not supported"):
        peft.get_peft_model(theirs, pefts(config_of(case, "gpt2")))
    with pytest.raises(ValueError, match=r"'\S*c_attn' is a Conv1D; .* goes on Linear modules"):
        get_peft_model(ours, config_of(case, "gpt2"))


@cases
def test_what_a_new_adapter_begins_with_is_drawn_as_peft_draws_it(case: Method) -> None:
    """Each tensor's mean and spread: 4.5 standard errors of some 1500 numbers."""
    i, o, config = 500, 300, replace(case.config, target_modules=["dense"])
    holder = torch.nn.Module()
    holder.dense = torch.nn.Linear(i, o).double()
    theirs = peft_model(holder, config).base_model.model
    adapter = adapter_of(replace(case, config=config), Linear(i, o, dtype=np.float64), np.random.default_rng(0))
    for tensor, ours in adapter.named():
        expected = theirs.get_parameter(f"dense.{tensor.live_name('default')}").detach().numpy()
        assert ours.shape == expected.shape
        assert (np.ptp(ours.data) == 0) == (np.ptp(expected) == 0)
        error = 4.5 * expected.std() / np.sqrt(expected.size / 2)
        np.testing.assert_allclose(ours.data.std(), expected.std(), rtol=0, atol=error)
        np.testing.assert_allclose(ours.data.mean(), expected.mean(), rtol=0, atol=error)
        fourth = [np.mean((x / max(x.std(), 1e-9)) ** 4) for x in (ours.data, expected)]
        assert expected.size < 500 or abs(fourth[0] - fourth[1]) < 0.8  # 1.8 of uniform numbers, 3 of normal ones


@pytest.mark.parametrize("seed", [0, 777, 2**40 + 3, -1])
@pytest.mark.parametrize("n", [1, 2, 30, 700, 100_003])
def test_torchs_random_order_is_drawn_number_by_number(n: int, seed: int) -> None:
    expected = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    for k in {n, (n + 1) // 2, 1}:
        assert TorchWords(seed).permutation(n, k).tolist() == expected[:k]


@pytest.mark.parametrize("kind", [*PeftConfig.kinds.values(), EvaConfig, LoraGAConfig])
def test_the_defaults_are_pefts(kind: Any) -> None:
    theirs = {field.name: field.default for field in fields(getattr(peft, kind.__name__))}
    ours = {field.name: field.default for field in fields(kind) if isinstance(field.default, int | float | str)}
    for name, value in ours.items():
        own = ("peft_type", "peft_version", *getattr(kind, "own", ()))
        assert name in own or theirs[name] == value, name
