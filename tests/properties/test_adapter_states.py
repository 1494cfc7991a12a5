"""Whatever is switched, merged, loaded, added and deleted, in whatever order and in whatever blocks: what the model
computes is the base, or the base with the active adapter in it, and it is never anything else."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from npora import LoraConfig, PeftModel, get_peft_model
from npora.nn.module import Array
from tests.properties.strategies import normal
from tests.tiny import tiny_bert

IDS = np.array([[3, 5, 7, 2], [4, 6, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
PREFIX = "base_model.model."
TOKENS = [7, 2]
CONFIGS: dict[str, dict[str, Any]] = {
    "default": {
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["query", "value", "word_embeddings"],
        "task_type": "SEQ_CLS",
    },
    "second": {
        "r": 3,
        "lora_alpha": 3,
        "target_modules": ["key", "value", "pooler.dense", "word_embeddings"],
    },  # and so not beside the third,
    "third": {
        "r": 1,
        "lora_alpha": 5,
        "target_modules": ["query"],
        "modules_to_save": ["pooler", "classifier"],
        "trainable_token_indices": TOKENS,
    },
}
BROKEN = RuntimeError("in the middle of a block")


def logits(model: Any) -> Array:
    return np.asarray(model(IDS, MASK)[0].logits)


class States(RuleBasedStateMachine):
    """The model, and beside it what each adapter holds, by the names in its file."""

    @initialize(bias=st.sampled_from(["none", "none", "all", "lora_only"]))
    def adapt(self, bias: str) -> None:
        self.base_logits = logits(tiny_bert(dtype=np.float64)).tobytes()
        self.base = {name: array.tobytes() for name, array in tiny_bert(dtype=np.float64).state_dict().items()}
        self.model: PeftModel = get_peft_model(tiny_bert(dtype=np.float64), LoraConfig(**CONFIGS["default"], bias=bias))
        self.several = bias == "none"
        self.held = {"default": self.values("default")}
        self.saved: dict[str, dict[str, Array]] = {}
        self.active, self.merged, self.changes = "default", list[str](), 0
        self.blocks: list[AbstractContextManager[None]] = []
        self.folder = Path(tempfile.mkdtemp())
        self.draw(0, "default")

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        shutil.rmtree(self.folder)
        seed, number = len(self.held), len(self.blocks)
        if seed % 2:
            self.merged += [self.active] * (self.active not in self.merged)
            merged = self.model.merge_and_unload(safe_merge=True)
            np.testing.assert_allclose(logits(merged), logits(self.expected()), rtol=0, atol=1e-9)
        else:
            assert logits(self.model.unload()).tobytes() == self.base_logits
        while self.blocks:
            self.leave(with_an_error=number % 2 == 1)

    def values(self, name: str) -> dict[str, Array]:
        return {key: parameter.data.copy() for key, parameter in self.model.adapter_parameters(name).items()}

    def expected(self) -> Any:
        """The base with heads and biases of the active adapter written into its parameters, and W + Σ s B A: of the
        adapters that are merged, or of the active one where none of those is on a layer."""
        base = tiny_bert(dtype=np.float64)
        parameters, changed = dict(base.named_parameters()), set[str]()
        for adapter in dict.fromkeys((*self.merged, self.active)):
            s, held = CONFIGS[adapter]["lora_alpha"] / CONFIGS[adapter]["r"], self.held[adapter]
            for name, value in held.items():
                path, plain = name.removeprefix(PREFIX), name.removeprefix(PREFIX).replace(".base_layer.", ".")
                of_adapter = ".lora_" in name or ".token_adapter." in name
                layer = path.partition(".lora_")[0].partition(".token_adapter.")[0]
                if of_adapter and "_B" not in name and (adapter in self.merged or layer not in changed):
                    weight = parameters[f"{layer}.weight"]
                    if ".token_adapter." in name:
                        new = weight.data.copy()
                        new[TOKENS] = value
                        weight.data = new
                    else:
                        update = s * held[name.replace("_A", "_B")] @ value
                        weight.data = weight.data + (update.T if name.endswith(".lora_embedding_A") else update)
                    changed.add(layer)
                elif not of_adapter and adapter == self.active:
                    parameters[plain].data = value
        return base

    @invariant()
    def it_is_the_base_or_the_base_with_the_active_adapter(self) -> None:
        if not hasattr(self, "model"):
            return
        if self.blocks:
            assert logits(self.model).tobytes() == self.base_logits
        else:
            np.testing.assert_allclose(logits(self.model), logits(self.expected()), rtol=0, atol=1e-9)

    @invariant()
    def the_frozen_bytes_are_what_they_were(self) -> None:
        if hasattr(self, "model"):
            assert {name: array.tobytes() for name, array in self.model.base_state().items()} == self.base

    @rule()
    def enter(self) -> None:
        if len(self.blocks) < 3:
            block = self.model.disable_adapter()
            block.__enter__()
            self.blocks.append(block)

    @precondition(lambda self: getattr(self, "blocks", None))
    @rule(with_an_error=st.booleans())
    def leave(self, with_an_error: bool) -> None:
        block = self.blocks.pop()
        if with_an_error:
            assert not block.__exit__(RuntimeError, BROKEN, None)
        else:
            block.__exit__(None, None, None)

    @precondition(lambda self: len(getattr(self, "blocks", [])) > 1)
    @rule()
    def leave_the_outer_one_first(self) -> None:
        """As two threads would."""
        self.blocks.pop(0).__exit__(None, None, None)

    @rule(seed=st.integers(0, 99), name=st.sampled_from(sorted(CONFIGS)))
    def draw(self, seed: int, name: str) -> None:
        """New values, as a loader assigns them; a file saves a bias's from within a block too."""
        if name not in self.held or (self.blocks and not self.several) or name in self.merged:
            return
        for number, parameter in enumerate(self.model.adapter_parameters(name).values()):
            parameter.data = 0.5 * normal(seed + number, *parameter.shape)
        self.held[name] = self.values(name)

    @rule(safe=st.booleans(), names=st.lists(st.sampled_from(sorted(CONFIGS)), min_size=1, unique=True))
    def merge(self, safe: bool, names: list[str]) -> None:
        names = [name for name in names if name in self.held] or [self.active]
        if self.merged:
            with pytest.raises(RuntimeError, match="merged already"):
                self.model.merge_adapter(names, safe_merge=safe)
        else:
            self.model.merge_adapter(None if names == [self.active] else names, safe_merge=safe)
            self.merged = names

    @rule()
    def unmerge(self) -> None:
        if self.merged:
            self.model.unmerge_adapter()
            self.merged = []

    @precondition(lambda self: getattr(self, "merged", []))
    @rule()
    def change_what_is_merged(self) -> None:
        """What was merged is no longer the adapter: that is an error, and no result of then."""
        name, self.changes = self.merged[-1], self.changes + 1
        for number, (key, parameter) in enumerate(self.model.adapter_parameters(name).items()):
            if ".lora_" in key and not self.blocks:
                parameter.data = 0.5 * normal(1000 * self.changes + number, *parameter.shape)
        if not self.blocks:
            for use in (logits, PeftModel.merge_and_unload):
                with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\)"):
                    use(self.model)
            self.unmerge()
            self.held[name] = self.values(name)

    @rule(name=st.sampled_from(sorted(CONFIGS)))
    def add_or_activate(self, name: str) -> None:
        if name not in self.held:
            config = LoraConfig(**CONFIGS[name])
            if not self.several:
                with pytest.raises(ValueError, match="cannot share the model"):
                    self.model.add_adapter(name, config)
                return
            if {"second", "third"} <= {name, *self.held}:
                with pytest.raises(ValueError, match="another adapter of this model trains"):
                    self.model.add_adapter(name, config)
                return
            self.model.add_adapter(name, config)
            self.held[name] = self.values(name)
        elif self.merged:
            with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\) first"):
                self.model.set_adapter(name)
        else:
            self.model.set_adapter(name)
            self.active = name

    @rule(name=st.sampled_from(sorted(CONFIGS)))
    def delete(self, name: str) -> None:
        if name not in self.held or name == self.active or name in self.merged:
            with pytest.raises((ValueError, RuntimeError), match="adapter"):
                self.model.delete_adapter(name)
        else:
            self.model.delete_adapter(name)
            del self.held[name]

    @rule()
    def save(self) -> None:
        self.model.save_pretrained(self.folder)
        self.saved = {**self.saved, **{name: self.held[name] for name in self.held}}

    @rule(name=st.sampled_from(sorted(CONFIGS)), is_trainable=st.booleans())
    def load(self, name: str, is_trainable: bool) -> None:
        if name not in self.saved or (name not in self.held and {"second", "third"} <= {name, *self.held}):
            return
        directory = self.folder if name == "default" else self.folder / name
        if name in self.merged:
            with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\) first"):
                self.model.load_adapter(directory, name, is_trainable)
        else:
            self.model.load_adapter(directory, name, is_trainable)
            self.held[name] = self.saved[name]

    @rule(name=st.sampled_from(sorted(CONFIGS)))
    def fail_to_load(self, name: str) -> None:
        if name in self.saved:
            broken = self.folder / "broken"
            broken.mkdir(exist_ok=True)
            directory = self.folder if name == "default" else self.folder / name
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                content = (directory / file).read_bytes()
                (broken / file).write_bytes(content[:-5] if file.endswith("safetensors") else content)
            names = [key for key, _ in self.model.named_parameters()]
            with pytest.raises((ValueError, RuntimeError)):
                self.model.load_adapter(broken, name)
            with pytest.raises(ValueError):
                self.model.load_adapter(broken, "fourth")
            assert [key for key, _ in self.model.named_parameters()] == names

    @rule()
    def load_a_state(self) -> None:
        state = {key: value.copy() for key, value in self.model.state_dict().items()}
        if self.merged:
            with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\) first"):
                self.model.load_state_dict(state)


TestStates = States.TestCase
TestStates.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
