"""Which modules a config means; a name that matches nothing is an error of its own."""

from __future__ import annotations

from typing import Any

import pytest

from npora import LoraConfig
from npora.lora.match import saved_paths, target_paths
from npora.lora.names import names_match
from tests.tiny import tiny_bert

SELF = "bert.encoder.layer.{}.attention.self.{}"


def targets(**config: Any) -> list[str]:
    model, made = tiny_bert(), LoraConfig(**config)
    made.complete(model)
    return target_paths(model, made)


def test_names_match_on_whole_components() -> None:
    assert names_match("query", "layer.0.query") and names_match("query", "query")
    assert names_match("self.query", "layer.0.self.query")
    assert not names_match("query", "layer.0.my_query") and not names_match("elf.query", "layer.0.self.query")


def test_targets_are_names_a_pattern_or_everything_linear() -> None:
    both = [SELF.format(n, name) for n in (0, 1) for name in ("query", "value")]
    assert targets() == targets(target_modules=["value", "query"]) == both
    assert targets(target_modules=r"bert\.encoder.*\.query") == both[::2]
    assert targets(target_modules="query") == both[::2]
    everything = targets(target_modules="all-linear", task_type="SEQ_CLS")
    assert len(everything) == 2 * 6 + 1 and "bert.pooler.dense" in everything and "classifier" not in everything
    assert targets(target_modules=["query", "value"], exclude_modules=["layer.0.attention.self.query"]) == both[1:]
    assert targets(target_modules=["query", "value"], layers_to_transform=1) == both[2:]
    assert targets(target_modules=["query"], layers_to_transform=[1], layers_pattern="layer") == [both[2]]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"target_modules": ["query", "valeu"]}, "target_modules: 'valeu' matches no module; near names: value"),
        ({"target_modules": ["uery"]}, "target_modules: 'uery' matches no module; near names: query"),
        ({"target_modules": r"gpt\..*"}, "matches no module"),
        (
            {"target_modules": ["LayerNorm"]},
            "LayerNorm; an adapter of a LoraConfig goes on Linear, Conv1D or Embedding",
        ),
        (
            {"target_modules": ["LayerNorm"], "use_dora": True},
            "an adapter of a LoraConfig goes on Linear, Conv1D or Embedding",
        ),
        ({"target_modules": ["query"], "layers_to_transform": [0, 7]}, "there is no layer 7 among the targets"),
        ({"target_modules": ["query"], "rank_pattern": {"value": 3}}, "rank_pattern: 'value' matches none of the 2"),
        ({"target_modules": ["query"], "alpha_pattern": {"q": 3}}, "alpha_pattern: 'q' matches none"),
        ({"target_modules": ["query"], "exclude_modules": ["query"]}, "no module is left to adapt"),
        ({"modules_to_save": ["pooller"]}, "modules_to_save: 'pooller' matches no module; near names: pooler"),
        ({"task_type": "QUESTION_ANS"}, "trains a head named qa_outputs"),
    ],
)
def test_what_matches_nothing_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        targets(**config)
    assert message in str(error.value)


def test_a_classification_task_saves_its_head() -> None:
    model = tiny_bert()
    assert saved_paths(model, LoraConfig(task_type="SEQ_CLS")) == ["classifier"]
    assert saved_paths(model, LoraConfig(task_type="SEQ_CLS", modules_to_save=["pooler"])) == [
        "bert.pooler", "classifier",
    ]  # fmt: skip
    assert saved_paths(model, LoraConfig()) == []


def test_the_first_pattern_that_fits_decides_rank_and_alpha() -> None:
    config = LoraConfig(r=8, lora_alpha=8, rank_pattern={"0.*query": 2, "query": 3}, alpha_pattern={"value": 5})
    assert config.rank_and_scaling(SELF.format(0, "query")) == (2, 8 / 2)
    assert config.rank_and_scaling(SELF.format(1, "query")) == (3, 8 / 3)
    assert config.rank_and_scaling(SELF.format(1, "value")) == (8, 5 / 8)
