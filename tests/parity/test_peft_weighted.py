"""add_weighted_adapter against PEFT's: the same A and B where it draws nothing, and the same products of the two where
singular vectors have a sign to choose."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import PeftModel
from tests.parity.reference import BATCH, assert_close, npora_bert, reference_bert, tensors, torch
from tests.parity.test_peft import peft
from tests.parity.test_peft_merging import pair

FIRST: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"]}
SECOND: dict[str, Any] = {"r": 4, "lora_alpha": 4, "target_modules": ["value", "key"]}
OTHER: dict[str, Any] = {**SECOND, "r": 2}
WEIGHTS = [0.125, -2.25]  # PEFT holds these, and the roots of w s, in float32, where they are exact
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("linear", {}, SECOND),
    ("cat", {}, SECOND),
    ("cat", {}, OTHER),
    ("svd", {}, OTHER),
    ("svd", {"svd_rank": 5}, OTHER),
    ("svd", {"svd_rank": 2}, SECOND),
    *[(kind, {"density": density, "majority_sign_method": way}, SECOND)
      for kind in ("ties", "ties_svd") for density in (0.3, 0.8) for way in ("total", "frequency")],
    ("magnitude_prune", {"density": 0.5}, SECOND),
    ("magnitude_prune_svd", {"density": 0.5}, OTHER),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("base")


@pytest.fixture(scope="module")
def base(folder: Path) -> Any:
    return reference_bert(folder)


def deltas(model: Any, name: str) -> dict[str, Any]:
    found = {}
    for path, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and name in module.lora_A:
            delta = module.get_delta_weight(name)
            found[path] = delta.detach().numpy() if isinstance(delta, torch.Tensor) else delta
    return found


@pytest.mark.parametrize(("kind", "options", "second"), CASES, ids=lambda part: str(part))
def test_what_draws_nothing_is_as_in_peft(
    base: Any, folder: Path, tmp_path: Path, kind: str, options: dict[str, Any], second: dict[str, Any]
) -> None:
    theirs, ours = pair(base, folder, "default", FIRST, second)
    for model in (theirs, ours):
        model.add_weighted_adapter(["default", "second"], WEIGHTS, "new", kind, **options)
    mine, expected = ours.peft_config["new"], theirs.peft_config["new"]
    assert (mine.r, mine.lora_alpha, set(mine.target_modules)) == (
        expected.r, expected.lora_alpha, set(expected.target_modules)
    )  # fmt: skip
    found, wanted = deltas(ours, "new"), deltas(theirs, "new")
    assert found.keys() == wanted.keys() and len(found) == 6
    for path, delta in wanted.items():
        np.testing.assert_allclose(found[path], delta, rtol=0, atol=1e-10, err_msg=path)
    if not kind.endswith("svd"):
        parameters = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            if ".new." in name:
                assert_close(parameter.data, parameters[name], 1e-12)
    for model in (theirs, ours):
        model.set_adapter("new")
    assert_close(ours(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-10)
    ours.save_pretrained(tmp_path, selected_adapters=["new"])
    again = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "new").eval()
    assert_close(ours(**BATCH)[0].logits, again(**tensors(BATCH)).logits, 1e-10)
    theirs.save_pretrained(tmp_path / "theirs", selected_adapters=["new"])
    mine = PeftModel.from_pretrained(npora_bert(folder), tmp_path / "theirs" / "new")
    assert_close(mine(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-10)


def test_clamping_goes_by_pefts_quantile() -> None:
    from npora.lora.combine import Factors, clamped

    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((7, 3)), rng.standard_normal((3, 5))
    most = torch.quantile(torch.cat([torch.tensor(U).flatten(), torch.tensor(V).flatten()]), 0.83)
    held = clamped(Factors(1.0, U, V), 0.83)
    assert_close(held.B, torch.tensor(U).clamp(-most, most), 1e-15)
    assert_close(held.A, torch.tensor(V).clamp(-most, most), 1e-15)


@pytest.mark.parametrize("kind", ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"])
def test_with_nothing_dropped_what_draws_is_as_in_peft(base: Any, folder: Path, kind: str) -> None:
    theirs, ours = pair(base, folder, "default", FIRST, SECOND)
    with pytest.warns(UserWarning, match="no pruning will be performed"):
        theirs.add_weighted_adapter(["default", "second"], WEIGHTS, "new", kind, density=1.0)
    ours.add_weighted_adapter(["default", "second"], WEIGHTS, "new", kind, density=1.0)
    found, wanted = deltas(ours, "new"), deltas(theirs, "new")
    for path, delta in wanted.items():
        np.testing.assert_allclose(found[path], delta, rtol=0, atol=1e-10, err_msg=path)
