"""What a config's None for target_modules means: of every method and kind of model that of PEFT, where it has one."""

from __future__ import annotations

from typing import Any

import pytest

from npora.lora import AdaLoraConfig, PeftConfig
from tests.models.test_gpt2 import tiny as tiny_gpt2
from tests.models.test_t5 import tiny_t5
from tests.parity.test_peft import peft
from tests.tiny_decoders import FAMILIES, tiny_decoder
from tests.tiny_encoders import SIZES, tiny_encoder

KINDS = {kind: tuner for kind, tuner in peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING.items() if kind in PeftConfig.kinds}


def made(family: str) -> Any:
    if family in FAMILIES:
        return tiny_decoder(family)
    return {"gpt2": tiny_gpt2, "t5": tiny_t5}[family]() if family not in SIZES else tiny_encoder(family, "MaskedLM")


@pytest.mark.parametrize("family", [*SIZES, *FAMILIES, "gpt2", "t5"])
def test_every_methods_default_is_pefts(family: str) -> None:
    model = made(family)
    seen = 0
    for kind, tuner in KINDS.items():
        theirs = getattr(tuner, "target_module_mapping", {}).get(family)
        if theirs is None:
            continue
        required = {"total_step": 9} if kind == "ADALORA" else {}
        config = PeftConfig.kinds[kind](**required)
        config.complete(model)
        there = [name for name in theirs if any(f".{path}".endswith(f".{name}") for path, _ in model.named_modules())]
        assert sorted(config.target_modules or []) == sorted(there), kind
        seen += 1
    assert seen > 8 or family in ("modernbert", "mpnet", "distilbert", "phi3", "olmo2", "smollm3")


def test_a_gated_t5_has_no_wi_and_its_other_layers_are_adapted() -> None:
    config = AdaLoraConfig(total_step=9)
    config.complete(tiny_t5("1.1"))
    assert config.target_modules == ["k", "o", "q", "v", "wo"]
