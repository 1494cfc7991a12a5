"""npora finetune --method: every method by its name, with the options that mean something to it."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from npora.cli import main
from npora.commands.methods import config_of, names
from npora.lora import AdaLoraConfig, LoraConfig, PeftConfig
from npora.lora.methods import METHODS
from tests.test_cli_tasks import predicted, sentences, table
from tests.tiny_folders import save_folder

OPTIONS = ("r", "lora_alpha", "lora_dropout", "init_lora_weights", "method_options")


def options(method: str, **given: Any) -> Namespace:
    return Namespace(**{"method": method, **dict.fromkeys(OPTIONS), **given})


def test_each_config_has_a_name() -> None:
    assert {kind for kind, _ in names().values()} == {method.config_class for method in METHODS}
    assert names()["dora"] == (LoraConfig, {"use_dora": True})


def arguments(tmp_path: Path, method: str) -> tuple[str, list[str]]:
    model, train = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.tsv", sentences("bad", "good"))
    given = ["--model", model, "--train", train, "--output", str(tmp_path / "out"), "--method", method]
    return model, ["finetune", *given, "--max-steps", "3", "--batch-size", "4"]


OWN = {  # of layers as small as a test's
    "fourierft": ("--method-options", "n_frequency=9"), "road": ("--method-options", "group_size=4", "variant=road_2"),
    "ln_tuning": ("--target-modules", "LayerNorm"), "adalora": ("--r", "2", "--method-options", "tinit=1", "beta1=0.5"),
    "trainable_tokens": ("--method-options", "token_indices=[5, 4]"),
}  # fmt: skip


@pytest.mark.parametrize("method", names())
def test_a_method_learns_and_its_adapter_predicts(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, given = arguments(tmp_path, method)
    has_rank = any(f.name == "r" and f.type == "int" for f in fields(names()[method][0]))
    assert main([*given, *OWN.get(method, ("--r", "2") if has_rank else ())]) == 0
    found: Any = PeftConfig.from_pretrained(tmp_path / "out")
    assert type(found) is names()[method][0]
    if isinstance(found, AdaLoraConfig):
        assert (found.total_step, found.target_r, found.init_r, found.tinit, found.beta1) == (3, 2, 3, 1, 0.5)
        assert found.rank_pattern is not None
    assert len(predicted(capsys, "--model", model, "--adapter", str(tmp_path / "out"), "good film")) == 1


@pytest.mark.parametrize(
    ("method", "own", "message"),
    [
        ("fourierft", (), "has fewer than n_frequency=1000 coefficients: choose ≤ 256"),
        ("adalora", ("tinit=2", "tfinal=1"), "tinit=2 and tfinal=1 leave none of the 3 steps to cut ranks in"),
        ("lokr", ("decompose_factor",), "'decompose_factor' is no FIELD=VALUE of this method; its fields: r, alpha"),
        ("adalora", ("total_step=9",), "'total_step=9' is no FIELD=VALUE of this method"),
        ("lokr", ("mini_r=3",), "'mini_r=3' is no FIELD=VALUE of this method"),
        (
            "lora",
            ("r=4", "--r", "2"),
            "r is said by --method, --r, --lora-alpha, --lora-dropout or --init-lora-weights already",
        ),
        ("dora", ("use_dora=false",), "use_dora is said by --method"),
        ("adalora", ("init_r=4", "--r", "2"), "init_r is said by --method, --r"),
        ("lokr", ("decompose_factor=half",), "decompose_factor must be a whole number; got 'half'"),
    ],
)
def test_what_does_not_go_is_an_error(
    method: str, own: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(tmp_path, method)[1], *(("--method-options", *own) if own else ())]) == 2
    assert message in capsys.readouterr().err


def test_options_are_the_fields_of_the_method() -> None:
    def of(method: str, **given: Any) -> dict[str, Any]:
        config = config_of(options(method, **given), ["query"], "SEQ_CLS")
        return {name: value for name, value in vars(config).items() if value != getattr(type(config), name, None)}

    assert of("lora")["lora_alpha"] == 16 and of("lora")["lora_dropout"] == 0.1
    assert of("dora", r=3)["use_dora"] is True and of("dora", r=3)["r"] == 3
    assert of("lokr", r=3, lora_alpha=5.0).items() >= {"r": 3, "alpha": 5.0}.items()
    assert of("miss", lora_dropout=0.2)["miss_dropout"] == 0.2
    assert of("hira", lora_dropout=0.2)["hira_dropout"] == 0.2
    assert of("adalora", r=4, lora_alpha=3.0).items() >= {"target_r": 4, "init_r": 6, "lora_alpha": 3.0}.items()
    assert set(of("fourierft")) <= {"target_modules", "task_type", "n_frequency_pattern"}


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("ia3", {"r": 4}, "--r says nothing to --method ia3: leave it out"),
        ("miss", {"lora_alpha": 4.0}, "--lora-alpha says nothing to --method miss"),
        ("lokr", {"lora_dropout": 0.1}, "--lora-dropout says nothing to --method lokr"),
        ("fourierft", {"r": 4}, "--r says nothing to --method fourierft"),
    ],
)
def test_an_option_that_says_nothing_to_a_method_is_refused(method: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        config_of(options(method, **given), ["query"], "SEQ_CLS")
    assert message in str(error.value)


def test_adalora_goes_on_for_as_many_steps_as_it_was_begun_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, given = arguments(tmp_path, "adalora")
    assert main([*given, *OWN["adalora"]]) == 0
    assert main([*given, *OWN["adalora"], "--max-steps", "5", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "total_step=3, this one has 5 (AdaLoRA cuts ranks on a schedule of all its steps: ask for as many" in error


@pytest.mark.parametrize("start", ["eva", "corda", "lora_ga"])
def test_a_start_is_made_of_the_first_training_examples_and_a_run_goes_on(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, given = arguments(tmp_path, "lora")
    given += ["--init-lora-weights", start, "--r", "1", "--lora-dropout", "0", "--start-batches", "2"]
    own = {"eva": 'eva_config={"rho": 1}', "corda": 'corda_config={"corda_method": "kpm"}', "lora_ga": "bias=none"}
    given += ["--target-modules", "value"]
    given += ["--method-options", own[start], "--save-strategy", "steps", "--save-steps", "2"]
    assert main(given) == 0
    assert f"{start} begins with 2 batches of the training examples" in capsys.readouterr().err
    whole = (tmp_path / "out" / "adapter" / "adapter_model.safetensors").read_bytes()
    assert main([*given, "--resume"]) == 0
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").read_bytes() == whole
    assert len(predicted(capsys, "--model", model, "--adapter", str(tmp_path / "out"), "good film")) == 1


@pytest.mark.parametrize(
    ("method", "own", "message"),
    [
        ("lora", ("--start-batches", "2"), "--start-batches needs --init-lora-weights eva, corda, lora_ga"),
        ("lora", ("--init-lora-weights", "eva", "--start-batches", "0"), "--start-batches must be at least 1; got 0"),
        ("vera", ("--init-lora-weights", "eva"), "--init-lora-weights says nothing to --method vera: leave it out"),
        ("lora", ("--init-lora-weights", "novel"), "init_lora_weights='novel' is not supported"),
        ("dora", ("--init-lora-weights", "lora_ga"), "use_dora=True with init_lora_weights='lora_ga'"),
    ],
)
def test_a_start_that_cannot_be_is_an_error(
    method: str, own: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(tmp_path, method)[1], *own]) == 2
    assert message in capsys.readouterr().err
