"""Which of the seam's offers each method that PEFT knows needs, so that none of them will need another seam.

A method that npora has uses just those that its row names; a row of one that it has not says what its file will use.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import npora
import npora.lora
from npora.lora import PeftType
from npora.lora.adapter import Adapter
from npora.lora.inject import adapted_layer
from npora.lora.methods import METHODS, method_of
from npora.nn import Conv1D, Embedding, LayerNorm, Linear

OFFERS = {
    "forward": "a quicker order of products than forming W′",
    "matrix": "reads W, for a start or in forward",
    "shared": "arrays of the whole model, made once",
    "constants": "tensors that are not trained, such as norms of W",
    "bias": "changes b",
    "held": "a value of forward that the gradient treats as a constant",
    "start": "a start that PEFT makes by altering W: A₀ and B₀ are kept instead",
    "saved": "files whose form is not the live one",
    "after_step": "work after an optimiser's step, or a penalty once a step",
    "layers": "goes on more than Linear",
    "adds": "several that are merged add up, each with the ΔW that it makes of the base's own W",
}
NEEDED: dict[str, set[str]] = {
    "LoRA": {"forward"}, "LoRAEmbedding": {"forward", "layers"},
    "BiasedLoRA": {"forward", "bias"}, "DoRAEmbedding": {"forward", "layers", "matrix", "held"},
    "StartedLoRA": {"forward", "constants", "start"},
    "LoRA-FA": {"forward"}, "LoRA+": {"forward"}, "PiSSA": {"start", "matrix"},
    "OLoRA": {"start", "matrix"}, "CorDA": {"start", "matrix"}, "LoRA-GA": {"start", "matrix"}, "EVA": set(),
    "MiCA": {"matrix", "constants"}, "LoftQ": {"matrix"}, "DoRA": {"forward", "matrix", "held"},
    "DoRANorm": {"forward", "matrix"},
    "aLoRA": {"forward"}, "VeLoRA": {"forward", "held"}, "KaSA": {"start", "matrix", "after_step"},
    "BD-LoRA": {"forward"}, "AdaLoRA": {"forward", "constants", "saved", "after_step"}, "VeRA": {"forward", "shared"},
    "PVeRA": {"forward", "shared"}, "RandLoRA": {"forward", "shared"}, "LoHa": set(), "LoKr": {"forward"},
    "HiRA": {"matrix", "adds"},
    "GraLoRA": {"forward"}, "GLoRA": {"forward", "matrix", "bias"}, "DeLoRA": {"matrix", "constants"},
    "VB-LoRA": {"forward", "shared", "saved"}, "UniLoRA": {"forward", "shared"}, "TinyLoRA": {"matrix", "constants"},
    "PSOFT": {"matrix", "constants"}, "C3A": {"forward"}, "FourierFT": set(), "WaveFT": {"constants"},
    "SHiRA": {"constants"}, "Supertuning": {"matrix", "constants"}, "MiSS": {"forward"}, "MiSSBat": set(),
    "OFT": {"forward"}, "BOFT": {"forward", "bias"}, "HRA": {"forward"}, "RoAd": {"forward", "bias"},
    "IA3": {"forward", "bias"}, "TrainableTokens": {"forward", "layers"}, "LNTuning": {"forward", "bias", "layers"},
}  # fmt: skip
REFUSED = {
    "LILY": "looks at all rows of a batch, so that a row's output depends on its neighbours",
    "X-LoRA": "a gate over adapters", "Poly": "a router over adapters", "Arrow": "a router over adapters",
    "MonteCLoRA": "draws in training what merging ignores", "QA-LoRA": "needs GPTQ's groups",
    "AdaMSS": "clusters with scikit-learn", "OSF": "projects the gradients of W",
    "Shadow": "a network beside the model",
    "PEANuT": "a small network over W's rows", "FRoD": "decomposes W jointly for all layers", "DEFT": "projects W away",
}  # fmt: skip


def test_every_row_names_offers_that_there_are() -> None:
    assert not set(NEEDED) & set(REFUSED)
    for name, needed in NEEDED.items():
        assert needed <= set(OFFERS), name


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_uses_the_offers_of_its_row(method: type[Adapter]) -> None:
    needed, source = NEEDED[method.__name__], inspect.getsource(method)
    assert ("forward" in vars(method)) == ("forward" in needed)
    assert ("shared" in vars(method)) == ("shared" in needed)
    assert any(tensor.shared for tensor in method.tensors.values()) == ("shared" in needed)
    assert any(not (tensor.trained or tensor.shared) for tensor in method.tensors.values()) == ("constants" in needed)
    assert changes_bias(method) == ("bias" in needed)
    assert ("held(" in source) == ("held" in needed)
    assert (not set(method.adapts) <= {Linear, Conv1D}) == ("layers" in needed)
    assert ("saved" in vars(method)) == ("recorded" in vars(method)) == ("saved" in needed)
    assert ("after_step" in vars(method) or "penalty" in vars(method)) == ("after_step" in needed)
    assert ("state" in vars(method)) == ("load_state" in vars(method)) == ("after_step" in vars(method))
    assert method.adds == ("adds" in needed)


def base_of(method: type[Adapter]) -> Any:
    return next(base for base in (Linear(3, 4), LayerNorm(4), Embedding(3, 4)) if type(base) in method.adapts)


def changes_bias(method: type[Adapter]) -> bool:
    """Whether the b′ of one of its samples is another array than b."""
    found = []
    for fields in method.samples.values():
        layer = adapted_layer(base_of(method), method.config_class(**fields), np.random.default_rng(0), "dense")
        adapter, b = layer.adapters["default"], np.ones(4, np.float32)
        found.append(adapter.merged(layer.base_layer.matrix, b, *adapter.theta)[1] is not b)
    return any(found)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_is_found_by_the_names_that_it_has_in_peft(method: type[Adapter]) -> None:
    config = method.config_class
    assert config.__name__ in npora.__all__ and config.__name__ in npora.lora.__all__
    assert PeftType(config.peft_type).value == config.peft_type


def test_each_sample_of_a_method_means_that_method_and_has_a_name_of_its_own() -> None:
    names = [name for method in METHODS for name in method.samples]
    assert all(method.samples for method in METHODS) and len(set(names)) == len(names)
    for method in METHODS:
        for fields in method.samples.values():
            assert method_of(method.config_class(**fields), base_of(method)) is method
