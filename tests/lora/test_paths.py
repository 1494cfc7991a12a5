"""What an adapter that is loaded is on, where one path begins as another does, or modules had other names before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.lora.renamed import with_names_of
from npora.nn import Linear, Module
from npora.nn.module import Array, Pullback


class Heads(Module):
    """What is trained whole has the beginning of the name of what has an adapter."""

    def __init__(self) -> None:
        self.head, self.header = Linear(3, 2, rng=0), Linear(4, 3, rng=1)

    def forward(self, x: Array, rng: Any = None) -> tuple[Array, Pullback]:
        z, back_header = self.header(x, rng)
        y, back_head = self.head(z, rng)
        return y, lambda dy: back_header(back_head(dy))


def test_a_target_is_below_a_saved_module_by_whole_parts_of_its_path(tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["header"], modules_to_save=["head"], init_lora_weights=False)
    model, x = get_peft_model(Heads(), config), np.ones((2, 4), np.float32)
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(PeftModel.from_pretrained(Heads(), tmp_path)(x)[0], model(x)[0])


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_by_former_names_is_refused(field: str) -> None:
    view: Any = SimpleNamespace(renamed={"query.": "q_proj."})
    tensors = {"base_model.model.query.lora_A.weight": np.ones((2, 3))}
    config, found = with_names_of(view, LoraConfig(r=2), dict(tensors))
    assert config.target_modules == ["q_proj"] and list(found) == ["base_model.model.q_proj.lora_A.weight"]
    with pytest.raises(ValueError, match=f"{field} is for modules by names that they had in older versions"):
        with_names_of(view, LoraConfig(r=2, **{field: {"query": 3}}), dict(tensors))
