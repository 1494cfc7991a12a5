"""What every decoder of Llama's kind must agree on with transformers and PEFT, in float64: a suite that a family's file
inherits."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import npora
from npora import LoraConfig, PeftModel, get_peft_model
from npora.models.auto import tasks_of
from npora.nn import Cache, Packing
from tests.parity.reference import assert_close, tensors, torch, transformers, widen

peft = pytest.importorskip("peft", reason="needs the extra `parity`")
PEFT_DEFAULTS = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

# Lengths 7, 1 and 4, of which the first two tokens are no targets.
MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]])
IDS = np.array([[7, 3, 44, 9, 12, 3, 28], [31, 0, 0, 0, 0, 0, 0], [5, 5, 49, 17, 0, 0, 0]])
LABELS = np.where((MASK == 1) & (np.arange(7) > 1), IDS, -100)
CLASSES = np.array([2, 0, 1])
RIGHT: dict[str, Any] = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
LEFT = {name: np.stack([np.roll(row, 7 - n) for row, n in zip(value, MASK.sum(1), strict=True)])
        for name, value in RIGHT.items()}  # fmt: skip
SIDES = {"right": RIGHT, "left": LEFT}
SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 35,
    "num_hidden_layers": 3, "vocab_size": 50, "num_labels": 3, "pad_token_id": 0, "max_position_embeddings": 19,
}  # fmt: skip
# Values of size about 1 pass through three layers, at most 60 terms in a sum: 2¹³ roundings of 2⁻⁵³ are 1e-12.
LOGITS, LOSS, GRADIENT = 1e-11, 1e-12, 1e-9
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
    "original_max_position_embeddings": 40,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.5}


def logits_of(output: Any) -> Any:
    """transformers', which has those of question answering apart."""
    return torch.stack((output.start_logits, output.end_logits), -1) if "start_logits" in output else output.logits


class Decoder:
    """A family writes: `family`, its model_type; `variants`, fields of configs; `sizes`, where they are others."""

    family: ClassVar[str]
    sizes: ClassVar[dict[str, Any]] = SIZES
    variants: ClassVar[dict[str, dict[str, Any]]] = {"plain": {}}
    layer: ClassVar[int] = 9  # the least number of its parameters
    targets: ClassVar[list[str]] = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]  # of adapters
    centre: ClassVar[float] = 1.0  # around which the weights of norms are drawn

    def pytest_generate_tests(self, metafunc: Any) -> None:
        cases = {"changes": self.variants, "side": {name: name for name in SIDES},
                 "task": {name: name for name in tasks_of(self.family)}}  # fmt: skip
        for name in cases.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(name, cases[name].values(), ids=cases[name].keys())

    @pytest.fixture(autouse=True)
    def in_float64(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        file = self.family.removesuffix("_text")
        widen(monkeypatch, importlib.import_module(f"transformers.models.{file}.modeling_{file}"))
        torch.set_default_dtype(torch.float64)  # of what is a plain number there
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the models are tiny
        yield
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)

    def reference(self, directory: Path, task: str = "CausalLM", **changes: Any) -> Any:
        """A model of transformers in float64 with every parameter drawn anew, saved there too."""
        config = transformers.AutoConfig.for_model(self.family, **copy.deepcopy({**self.sizes, **changes}))
        model = getattr(transformers, f"AutoModelFor{task}").from_config(config).double().eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_((self.centre if "norm" in name else 0.0) + 0.3 * drawn)
        model.save_pretrained(directory)
        return model

    def load(self, directory: Path, task: str = "CausalLM", **keywords: Any) -> Any:
        model = getattr(npora, f"AutoModelFor{task}").from_pretrained(directory, dtype=np.float64, **keywords)
        assert type(model) is tasks_of(self.family)[task]
        return model

    def labelled(self, task: str, side: str) -> dict[str, Any]:
        """A batch with labels of the task."""
        if task == "QuestionAnswering":  # whose softmax of transformers goes over padding too: there is none
            return {"input_ids": IDS[:1] + np.array([[0], [3]]), "attention_mask": np.ones((2, 7), int),
                    "start_positions": np.array([2, 8]), "end_positions": np.array([4, 8])}  # fmt: skip
        labels = SIDES[side]["labels"]
        if task != "CausalLM":
            labels = CLASSES if task == "SequenceClassification" else np.where(labels >= 0, labels % 3, labels)
        return {**SIDES[side], "labels": labels}

    def assert_same(self, ours: Any, theirs: Any, batch: dict[str, Any]) -> int:
        """Logits, loss and every gradient; returns how many of these there are."""
        output, backward = ours(**batch)
        expected = theirs(**tensors(batch))
        logits = logits_of(expected)
        real = batch["attention_mask"].astype(bool) if logits.ndim == 3 else slice(None)
        assert_close(output.logits[real], logits[real], LOGITS)
        assert_close(output.loss, expected.loss, LOSS * max(1, abs(expected.loss.item())))
        for model in (ours, theirs):
            model.zero_grad()
        backward()
        expected.loss.backward()
        return assert_same_gradients(ours, theirs)

    def test_the_defaults_are_those_of_transformers(self) -> None:
        ours = tasks_of(self.family)["CausalLM"].config_class().to_dict()
        theirs = json.loads(transformers.AutoConfig.for_model(self.family).to_json_string(use_diff=False))
        assert {"head_dim", "rms_norm_eps", "rope_parameters", "tie_word_embeddings"} - theirs.keys() <= {"head_dim"}
        shared = ours.keys() & theirs.keys()
        assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
        assert ours.keys() - theirs.keys() <= {
            "head_dim",
            "rope_theta",
            "rope_local_base_freq",
            "sliding_window_pattern",
            "partial_rotary_factor",
        }

    def test_logits_loss_and_every_gradient_agree(self, tmp_path: Path, changes: dict[str, Any], side: str) -> None:
        theirs = self.reference(tmp_path, **changes)
        assert self.assert_same(self.load(tmp_path), theirs, SIDES[side]) >= 3 * self.layer + 2

    def test_every_task_of_transformers_agrees(self, tmp_path: Path, task: str, side: str) -> None:
        theirs = self.reference(tmp_path, task)
        assert self.assert_same(self.load(tmp_path, task), theirs, self.labelled(task, side)) >= 3 * self.layer + 2

    def test_npora_has_each_task_that_transformers_has(self) -> None:
        known = transformers.models.auto.modeling_auto
        names = {"CausalLM": "CAUSAL_LM", "SequenceClassification": "SEQUENCE_CLASSIFICATION",
                 "TokenClassification": "TOKEN_CLASSIFICATION", "MaskedLM": "MASKED_LM",
                 "Seq2SeqLM": "SEQ_TO_SEQ_CAUSAL_LM", "QuestionAnswering": "QUESTION_ANSWERING"}  # fmt: skip
        theirs = {
            task: getattr(known, f"MODEL_FOR_{name}_MAPPING_NAMES").get(self.family) for task, name in names.items()
        }
        assert {task: kind.__name__ for task, kind in tasks_of(self.family).items()} == {
            task: name for task, name in theirs.items() if name
        }

    def test_what_npora_writes_is_read_by_transformers(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        config = self.reference(tmp_path / "theirs", **changes).config.to_dict()
        ours = self.load(tmp_path / "theirs")
        for number, parameter in enumerate(ours.parameters()):
            parameter.data = parameter.data + 0.1 * np.random.default_rng(number).standard_normal(parameter.shape)
        ours.save_pretrained(tmp_path / "ours")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float64).eval()
        self.assert_same(ours, theirs, RIGHT)
        again = theirs.config.to_dict()
        assert {k: v for k, v in again.items() if k != "_name_or_path"} == {
            k: v for k, v in config.items() if k != "_name_or_path"
        }

    def test_a_fresh_model_is_read_by_transformers(self, tmp_path: Path, task: str) -> None:
        kind: Any = tasks_of(self.family)[task]
        known = {key: value for key, value in self.sizes.items() if kind.config_class.knows(key)}
        ours = kind(kind.config_class(**known), rng=3, dtype=np.float64)
        ours.save_pretrained(tmp_path)
        auto = getattr(transformers, f"AutoModelFor{task}")
        self.assert_same(ours, auto.from_pretrained(tmp_path, dtype=torch.float64).eval(), self.labelled(task, "left"))

    def test_new_weights_start_where_those_of_transformers_start(self, tmp_path: Path) -> None:
        theirs = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(self.family, **self.sizes)
        )
        theirs.save_pretrained(tmp_path)
        ours = tasks_of(self.family)["CausalLM"](self.load(tmp_path).config, rng=0)  # type: ignore[call-arg]
        constant = {name: p.flatten()[0].item() for name, p in theirs.named_parameters() if (p == p.flatten()[0]).all()}
        assert len(constant) >= 3 * 2 + 1
        for name, parameter in ours.named_parameters():
            assert (parameter.data == constant[name]).all() if name in constant else parameter.data.std() > 0.01, name

    def test_adapters_go_to_peft_and_back(self, tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Outputs, gradients, names, counts; and what PEFT merges."""
        kind = {"CausalLM": "CAUSAL_LM", "SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS",
                "QuestionAnswering": "QUESTION_ANS"}[task]  # fmt: skip
        batch = self.labelled(task, "left")
        # With TOKEN_CLS and QUESTION_ANS PEFT takes the head for a target of all-linear, and fails to save it whole.
        every = self.targets if kind in ("TOKEN_CLS", "QUESTION_ANS") else "all-linear"
        for number, targets in enumerate((None, every, [self.targets[1], "o_proj", "down_proj"])):
            base, fields = tmp_path / f"base{number}", {"r": 3, "lora_alpha": 5, "target_modules": targets}
            theirs = self.reference(base, task)
            ours = get_peft_model(self.load(base, task), LoraConfig(**fields, task_type=kind))
            if targets is None and self.family not in PEFT_DEFAULTS:
                fields["target_modules"] = [*ours.base_model.model.default_target_modules]
            theirs = peft.get_peft_model(theirs, peft.LoraConfig(**fields, task_type=kind)).eval()
            shapes = {name: (tuple(p.shape), p.requires_grad) for name, p in ours.named_parameters()}
            assert shapes == {name: (tuple(p.shape), p.requires_grad) for name, p in theirs.named_parameters()}
            theirs.print_trainable_parameters()
            expected = capsys.readouterr().out
            ours.print_trainable_parameters()
            assert capsys.readouterr().out == expected
            rng = np.random.default_rng(1)
            for parameter in ours.parameters():
                if parameter.requires_grad:  # B's away from zero, so that A has a gradient
                    parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
            ours.save_pretrained(base / "ours")
            theirs = peft.PeftModel.from_pretrained(theirs.unload(), base / "ours", is_trainable=True).eval()
            assert self.assert_same(ours, theirs, batch) >= 6
            theirs.save_pretrained(base / "theirs")
            again = PeftModel.from_pretrained(self.load(base, task), base / "theirs", is_trainable=True)
            self.assert_same(again, theirs, batch)
            merged, expected = again.merge_and_unload(), theirs.merge_and_unload()
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            assert_close(merged(**inputs)[0].logits[0, -1], logits_of(expected(**tensors(inputs)))[0, -1], LOGITS)

    def test_generation_takes_the_same_tokens(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        """Prompts of 7, 1 and 4 tokens and 12 more, which a narrow window does not reach back from."""
        theirs, ours = self.reference(tmp_path, **changes), self.load(tmp_path)
        found = self.assert_same_tokens(ours, theirs)
        np.testing.assert_array_equal(ours.generate(**self.prompts, **self.said, use_cache=False), found)

    def test_next_logits_with_a_cache_are_those_of_the_whole(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        theirs, ours, cache = self.reference(tmp_path, **changes), self.load(tmp_path), Cache()
        rows = [ids[:length].tolist() for ids, length in zip(IDS, MASK.sum(axis=1), strict=True)]
        new, packing = np.concatenate(rows), Packing.of_lengths([len(row) for row in rows])
        found, more = [], np.random.default_rng(4).integers(1, 50, (3, 8))
        for chunk in (2, 1, 1, 4):
            found.append((ours.next_logits(new, packing, cache), [len(row) - 1 for row in rows]))
            new, packing, more = more[:, :chunk].ravel(), Packing.dense(3, chunk), more[:, chunk:]
            rows = [[*row, *further] for row, further in zip(rows, new.reshape(3, chunk).tolist(), strict=True)]
        for row, ids in enumerate(rows):
            expected = theirs(torch.tensor([ids])).logits[0]
            for logits, places in found:
                assert_close(logits[row], expected[places[row]], LOGITS)

    def test_beam_search_takes_the_same_tokens(self, tmp_path: Path) -> None:
        theirs = self.reference(tmp_path)
        self.assert_same_tokens(self.load(tmp_path), theirs, num_beams=3)

    prompts: ClassVar = {name: LEFT[name] for name in ("input_ids", "attention_mask")}
    said: ClassVar = {"max_new_tokens": 12, "eos_token_id": 49, "pad_token_id": 48, "do_sample": False}

    def assert_same_tokens(self, ours: Any, theirs: Any, **options: Any) -> Any:
        found = ours.generate(**self.prompts, **self.said, **options)
        expected = theirs.generate(**tensors(self.prompts), **self.said, **options)
        np.testing.assert_array_equal(found, expected.numpy())
        return found

    def test_positions_that_are_given_agree(self, tmp_path: Path) -> None:
        theirs, ours = self.reference(tmp_path), self.load(tmp_path)
        given = {**RIGHT, "position_ids": np.array([[3, 0, 8, 1, 4, 2, 2]] * 3)}
        self.assert_same(ours, theirs, given)


def assert_same_gradients(ours: Any, theirs: Any) -> int:
    """The gradient of every trainable parameter, by name; returns how many there are."""
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    found = {name: p.grad for name, p in ours.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    idle = {f"{path}.{name}".removeprefix(".") for path, module in ours.named_modules()
            for name in getattr(module, "idle_parameters", dict)()}  # fmt: skip
    for name, gradient in found.items():
        is_idle = name.replace(".modules_to_save.default", "") in idle
        assert (np.abs(expected[name].numpy()).max() > 1e-6) != is_idle, f"nothing to compare in {name}"
        assert_close(gradient, expected[name], GRADIENT)
    return len(found)
