"""Whatever is done to an adapted model, in whatever order, the frozen bytes stay as they were."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from npora import LoraConfig
from npora.nn import checkpoint
from npora.optim import SGD, Adam, AdamW, clip_grad_norm
from tests.properties.strategies import normal
from tests.tiny import tiny_bert, tiny_peft

IDS = np.array([[3, 5, 7, 2], [4, 6, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
LABELS = np.array([2, 0])


class Lifecycle(RuleBasedStateMachine):
    """An adapted BERT under drawn operations. An operation that is not allowed must raise and change nothing."""

    @initialize(bias=st.sampled_from(["none", "all", "lora_only"]), dropout=st.sampled_from([0.0, 0.3]))
    def adapt(self, bias: str, dropout: float) -> None:
        base = tiny_bert()
        self.expected = base(IDS, MASK)[0].logits.tobytes()
        self.model = tiny_peft(bias=bias, lora_dropout=dropout)
        self.several = bias == "none"  # an adapter that trains the base's biases does not share it
        self.digest = self.frozen()
        self.merged = False
        self.folder = Path(tempfile.mkdtemp())
        self.saved: dict[str, bytes] = {}  # the values of each saved adapter

    def teardown(self) -> None:
        shutil.rmtree(getattr(self, "folder", ""), ignore_errors=True)

    def base_arrays(self) -> dict[str, Any]:
        return self.model.base_state()

    def frozen(self) -> str:
        sha = hashlib.sha256()
        for name, array in sorted(self.base_arrays().items()):
            sha.update(name.encode() + array.tobytes())
        return sha.hexdigest()

    def values(self, name: str) -> bytes:
        return b"".join(p.data.tobytes() for _, p in sorted(self.model.adapter_parameters(name).items()))

    @invariant()
    def the_frozen_bytes_are_what_they_were(self) -> None:
        if hasattr(self, "model"):
            assert self.frozen() == self.digest

    @invariant()
    def disabled_it_is_the_base_bit_for_bit(self) -> None:
        if hasattr(self, "model"):
            with self.model.disable_adapter():
                assert self.model(IDS, MASK)[0].logits.tobytes() == self.expected

    @rule(seed=st.integers(0, 99), recompute=st.booleans())
    def forward_and_backward(self, seed: int, recompute: bool) -> None:
        rng = np.random.default_rng(seed)
        call = checkpoint if recompute else lambda model, *inputs, **keywords: model(*inputs, **keywords)
        output, backward = call(self.model, IDS, MASK, labels=LABELS, rng=rng)
        assert np.isfinite(output.loss)
        if self.merged:
            with pytest.raises(RuntimeError, match="cannot be trained"):
                backward()
            self.model.zero_grad()
        else:
            backward()
        assert all(p.grad is None for p in self.model.parameters() if not p.requires_grad)

    @rule(kind=st.sampled_from([SGD, Adam, AdamW]), seed=st.integers(0, 99))
    def optimise(self, kind: Any, seed: int) -> None:
        """Over all parameters, frozen ones too, with gradients where backward gives them, and a decay."""
        if not self.merged:
            self.model.zero_grad()
            _, backward = self.model(IDS, MASK, labels=LABELS, rng=np.random.default_rng(seed))
            backward()
        parameters = list(self.model.parameters())
        optimizer = kind(parameters, lr=0.01, weight_decay=0.1)
        clip_grad_norm(parameters, 1.0)
        optimizer.step()
        trainable = {number for number, p in enumerate(parameters) if p.requires_grad}
        assert set(optimizer.state) <= trainable
        self.model.zero_grad()
        if self.merged:  # what was merged is a picture of then: drop it
            self.unmerge()

    @rule()
    def merge(self) -> None:
        if self.merged:
            with pytest.raises(RuntimeError, match="merged already"):
                self.model.merge_adapter()
        else:
            before = self.model(IDS, MASK)[0].logits
            self.model.merge_adapter()
            # float32 through two layers whose norms blow roundings up by some tens
            np.testing.assert_allclose(self.model(IDS, MASK)[0].logits, before, rtol=0, atol=1e-3)
            self.merged = True

    @rule()
    def unmerge(self) -> None:
        if self.merged:
            self.model.unmerge_adapter()
            self.merged = False
        else:
            with pytest.raises(RuntimeError, match="no adapter is merged"):
                self.model.unmerge_adapter()

    @rule()
    def save(self) -> None:
        self.model.save_pretrained(self.folder)
        self.saved = {name: self.values(name) for name in self.model.peft_config}

    @precondition(lambda self: getattr(self, "saved", None))
    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.saved)))
        directory = self.folder if name == "default" else self.folder / name
        if self.merged and name == self.model.active_adapter:
            with pytest.raises(RuntimeError, match=r"call unmerge_adapter\(\) first"):
                self.model.load_adapter(directory, name, is_trainable=True)
            return
        self.model.load_adapter(directory, name, is_trainable=True)
        assert self.values(name) == self.saved[name]

    @precondition(lambda self: getattr(self, "saved", None))
    @rule(position=st.integers(0, 10**6))
    def load_what_is_damaged(self, position: int) -> None:
        damaged = self.folder / "damaged"
        shutil.copytree(self.folder, damaged, ignore=lambda *_: ["damaged", "second"])
        path = damaged / "adapter_model.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[: position % len(content)])
        before = self.values("default")
        with pytest.raises((ValueError, RuntimeError)):
            self.model.load_adapter(damaged)
        shutil.rmtree(damaged)
        assert self.values("default") == before

    @rule()
    def add_or_switch(self) -> None:
        name = "second" if self.model.active_adapter == "default" else "default"
        if not self.several:
            with pytest.raises(ValueError, match="cannot share the model"):
                self.model.add_adapter("second", LoraConfig(target_modules=["key"]))
            return
        if name not in self.model.peft_config:
            self.model.add_adapter(name, LoraConfig(r=1, target_modules=["key", "query"], task_type="SEQ_CLS"))
            for number, parameter in enumerate(self.model.adapter_parameters(name).values()):
                parameter.data = normal(number, *parameter.shape).astype(np.float32)
        if self.merged:
            with pytest.raises(RuntimeError, match="is merged"):
                self.model.set_adapter(name)
        else:
            self.model.set_adapter(name)
            trained = [n for n, p in self.model.named_parameters() if p.requires_grad]
            assert trained and all(f".{name}." in n for n in trained)

    @rule()
    def write_to_a_frozen_weight(self) -> None:
        for array in self.base_arrays().values():
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0

    @rule(how=st.sampled_from([copy.copy, copy.deepcopy, lambda parameter: pickle.loads(pickle.dumps(parameter))]))
    def write_to_a_copy(self, how: Any) -> None:
        """What is frozen, adapters that are not on among it, is frozen in it too; what is not can be written to."""
        found = [how(parameter) for parameter in self.model.parameters()]
        for parameter, original in zip(found, self.model.parameters(), strict=True):
            assert parameter.requires_grad == original.requires_grad
            assert parameter.data.tobytes() == original.data.tobytes()
            if not parameter.requires_grad:
                with pytest.raises(ValueError, match="read-only"):
                    parameter.data[...] = 0
            elif how is not copy.copy:
                parameter.data[...] = 0

    @precondition(lambda self: hasattr(os, "fork"))
    @rule()
    def write_in_a_fork_and_in_a_thread(self) -> None:
        def write() -> bool:
            refused = 0
            for array in self.base_arrays().values():
                try:
                    array[...] = 0
                except ValueError:
                    refused += 1
            return refused == len(self.base_arrays())

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(write).result()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if write() else 1
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @rule()
    def fail_in_the_middle_of_a_step(self) -> None:
        class Broken(SGD):
            def update(self, theta: Any, g: Any, state: Any, group: Any) -> None:
                super().update(theta, g, state, group)
                raise OSError("the power is gone")

        if not self.merged:
            self.model(IDS, MASK, labels=LABELS)[1]()
            with pytest.raises(OSError, match="power"):
                Broken(self.model.parameters(), lr=0.01).step()
            self.model.zero_grad()


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
