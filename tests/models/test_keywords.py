"""from_pretrained's keywords: each has its meaning, or is an error that names it; none is passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import AutoModelForSequenceClassification
from npora.files import load_file, save_file
from npora.models import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTokenClassification,
    BertForSequenceClassification,
    BertModel,
    T5ForConditionalGeneration,
)
from tests.models.test_generation_families import FAMILIES
from tests.tiny import SIZES, tiny_bert
from tests.tiny_encoders import tiny_encoder

IDS = np.array([[3, 5, 7], [2, 4, 1]])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bert")
    tiny_bert().save_pretrained(directory)
    return directory


def load(directory: Path, **keywords: Any) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(directory, **keywords)


LOADERS: dict[Any, str] = {
    AutoModelForSequenceClassification: "bert", AutoModelForTokenClassification: "bert", AutoModelForMaskedLM: "bert",
    AutoModelForCausalLM: "gpt2", AutoModelForSeq2SeqLM: "t5", BertForSequenceClassification: "bert",
    BertModel: "bert", T5ForConditionalGeneration: "t5",
}  # fmt: skip


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
def test_an_unknown_keyword_is_an_error_that_lists_near_names(loader: Any, tmp_path: Path) -> None:
    model = (
        FAMILIES[LOADERS[loader]]() if LOADERS[loader] in FAMILIES else tiny_encoder("bert", "SequenceClassification")
    )
    model.save_pretrained(tmp_path)
    for name, near in (
        ("nmu_labels", "num_labels"), ("foo", None), ("torch_dtyp", "torch_dtype"), ("revison", "revision"),
        ("kept", None), ("id2labels", "id2label"), ("devicemap", "device_map"), ("vocab_sizes", "vocab_size"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=f"from_pretrained.. got an unexpected keyword argument '{name}'") as error:
            loader.from_pretrained(tmp_path, **{name: 3})
        assert near is None or near in str(error.value)


@given(st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1))
def test_whatever_name_is_none_of_the_known_is_an_error(bert: Path, name: str) -> None:
    if BertForSequenceClassification.config_class.knows(name) or name in ("seed", "dtype", "cls"):
        return
    with pytest.raises((TypeError, ValueError), match=name):
        BertForSequenceClassification.from_pretrained(bert, **{name: object()})


@pytest.mark.parametrize(
    ("keywords", "hint"),
    [
        ({"device_map": "cuda"}, "computes on the processor"),
        ({"device_map": {"": 0}}, "computes on the processor"),
        ({"attn_implementation": "flash_attention_2"}, "one attention"),
        ({"load_in_8bit": True}, "pass quantize='int8'"),
        ({"use_safetensors": False}, "safetensors alone"),
        ({"use_auth_token": "hf_x"}, "its name is token"),
        ({"subfolder": "unet"}, "pass the directory itself"),
        ({"variant": "fp16"}, "model.safetensors"),
        ({"output_hidden_states": True}, "ask for them in the call"),
        ({"config": SIZES}, "as keywords"),
    ],
)
def test_what_has_no_meaning_here_is_named(bert: Path, keywords: dict[str, Any], hint: str) -> None:
    (name,) = keywords
    with pytest.raises(ValueError, match=f"{name}=.* has no meaning in npora") as error:
        load(bert, **keywords)
    assert hint in str(error.value)


def test_what_asks_for_nothing_is_accepted(bert: Path) -> None:
    expected = load(bert)(IDS)[0].logits.tobytes()
    model = load(
        bert, device_map="auto", attn_implementation="sdpa", low_cpu_mem_usage=True, trust_remote_code=True, token=None,
        use_safetensors=True, return_dict=True, output_attentions=False, load_in_4bit=False, use_cache=False,
    )  # fmt: skip
    assert model(IDS)[0].logits.tobytes() == expected
    assert model.config.use_cache is False


class Torch:
    """What torch's dtypes look like from outside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, np.float32),
        ({"dtype": None}, np.float32),
        ({"dtype": "float64"}, np.float64),
        ({"dtype": Torch("float64")}, np.float64),
        ({"torch_dtype": "torch.float64"}, np.float64),
        ({"torch_dtype": np.dtype("f8")}, np.float64),
        ({"torch_dtype": np.float32}, np.float32),
        ({"torch_dtype": "float"}, np.float32),
        ({"dtype": float}, np.float64),
        ({"torch_dtype": "auto"}, np.float32),
        ({"dtype": "float64", "torch_dtype": Torch("float64")}, np.float64),
    ],
    ids=str,
)
def test_a_dtype_has_any_of_its_names(bert: Path, keywords: dict[str, Any], expected: Any) -> None:
    assert load(bert, **keywords)(IDS)[0].logits.dtype == expected


def test_auto_is_float64_where_the_weights_are(tmp_path: Path) -> None:
    tiny_bert(dtype=np.float64).save_pretrained(tmp_path)
    assert load(tmp_path, torch_dtype="auto")(IDS)[0].logits.dtype == np.float64
    assert load(tmp_path)(IDS)[0].logits.dtype == np.float32


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"dtype": Torch("float8_e5m2")}, "must be float32, float64, bfloat16 or float16; got float8_e5m2"),
        ({"dtype": np.int8}, "must be float32, float64, bfloat16 or float16; got int8"),
        ({"dtype": "flaot32"}, "must be float32, float64, bfloat16 or float16; got flaot32"),
        ({"dtype": "float32", "torch_dtype": "float64"}, "ask for different ones"),
    ],
    ids=str,
)
def test_another_dtype_is_refused_by_name(bert: Path, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        load(bert, **keywords)
    assert message in str(error.value)


@pytest.mark.parametrize("loader", [AutoModelForSequenceClassification, BertForSequenceClassification])
def test_what_is_the_hubs_reaches_the_hub(
    bert: Path, loader: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = pytest.importorskip("huggingface_hub", reason="needs the extra `hf`")
    asked: list[dict[str, Any]] = []

    def snapshot_download(name: str, **keywords: Any) -> str:
        asked.append({"name": name, **keywords})
        return str(bert)

    monkeypatch.setattr(package, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    wanted = {"revision": "v2", "cache_dir": "somewhere", "local_files_only": True, "token": "hf_x"}
    model = loader.from_pretrained("org/tiny", **wanted)
    assert len(asked) == 1 and asked[0]["name"] == model.name_or_path == "org/tiny"
    assert {name: asked[0][name] for name in wanted} == wanted


def test_a_revision_of_a_directory_is_said_to_mean_nothing(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(bert, revision="main")
    assert not caplog.records
    load(bert, revision="v2")
    assert "is a directory, which has no revision 'v2'" in caplog.text


def test_fields_of_the_config_are_replaced_under_any_of_their_names(tmp_path: Path) -> None:
    model = load(_saved(tmp_path / "b"), hidden_dropout_prob=0.25, problem_type="regression")
    assert (model.config.hidden_dropout_prob, model.config.problem_type) == (0.25, "regression")
    FAMILIES["gpt2"]().save_pretrained(tmp_path / "g")
    deeper = AutoModelForCausalLM.from_pretrained(tmp_path / "g", num_hidden_layers=1)
    assert deeper.config.n_layer == deeper.config.num_hidden_layers == 1
    with pytest.raises(ValueError, match="is_decoder=True is not supported"):
        load(tmp_path / "b", is_decoder=True)
    with pytest.raises(ValueError, match=r"problem_type must be one of regression.*got 'multi_label'"):
        load(tmp_path / "b", problem_type="multi_label")
    with pytest.raises(ValueError, match="needs at least two classes"):
        load(tmp_path / "b", num_labels=1, problem_type="single_label_classification", ignore_mismatched_sizes=True)


def _saved(directory: Path, **changes: Any) -> Path:
    model = tiny_bert()
    model.config.id2label = {0: "no", 1: "perhaps", 2: "yes"}
    model.config.label2id = {"no": 0, "perhaps": 1, "yes": 2}
    model.save_pretrained(directory)
    return directory


def test_names_of_classes_are_read_chosen_and_written(tmp_path: Path) -> None:
    directory = _saved(tmp_path / "m")
    for keywords, names in (
        ({}, ["no", "perhaps", "yes"]),
        ({"num_labels": 3}, ["no", "perhaps", "yes"]),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, ["a", "b", "c"]),
        ({"label2id": {"c": 2, "a": 0, "b": 1}}, ["a", "b", "c"]),
        ({"num_labels": 2, "ignore_mismatched_sizes": True}, ["LABEL_0", "LABEL_1"]),
        ({"id2label": {1: "y", 0: "x"}, "label2id": {"x": 0, "y": 1}, "ignore_mismatched_sizes": True}, ["x", "y"]),
    ):  # fmt: skip
        model = load(directory, **keywords)
        model.save_pretrained(tmp_path / "again")
        for config in (model.config, load(tmp_path / "again").config):
            assert config.id2label == dict(enumerate(names)) and config.num_labels == len(names)
            assert config.label2id == {name: i for i, name in enumerate(names)}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_labels": 2, "id2label": {0: "a", 1: "b", 2: "c"}}, "expected num_labels=2 of them"),
        ({"id2label": {1: "a", 2: "b", 3: "c"}}, "numbered 1, 2, 3; expected num_labels=3 of them, numbered from 0"),
        ({"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 1, "b": 0, "c": 2}}, "is not the inverse of"),
        ({"id2label": ["a", "b", "c"]}, "must map 0, 1, … to names"),
        ({"num_labels": "3"}, "num_labels must be a positive whole number; got '3'"),
        ({"num_labels": True}, "num_labels must be a positive whole number; got True"),
    ],
    ids=str,
)
def test_classes_that_contradict_each_other_are_an_error(bert: Path, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        load(bert, **keywords)
    assert message in str(error.value)


def test_names_that_were_assigned_and_do_not_fit_are_not_written(tmp_path: Path) -> None:
    model = tiny_bert()
    model.config.id2label = {0: "a", 1: "b"}
    with pytest.raises(ValueError, match="id2label names 2 classes, numbered 0, 1; expected num_labels=3"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("classes", [1, 2])
def test_a_head_of_another_size_is_drawn_anew_where_that_is_asked_for(
    tmp_path: Path, family: str, head: str, classes: int, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_encoder(family, head).save_pretrained(tmp_path)
    auto = {"S": AutoModelForSequenceClassification, "T": AutoModelForTokenClassification}[head[0]]
    with pytest.raises(ValueError, match=r"has shape \(3, 6\), expected .*ignore_mismatched_sizes=True draws"):
        auto.from_pretrained(tmp_path, num_labels=classes)
    model: Any = auto.from_pretrained(tmp_path, num_labels=classes, ignore_mismatched_sizes=True)
    name = "classifier.out_proj" if (family, head[0]) == ("roberta", "S") else "classifier"
    assert model.newly_initialized == (f"{name}.weight", f"{name}.bias")
    assert model.newly_initialized_modules() == (name,)
    assert model(IDS)[0].logits.shape[-1] == classes
    assert f"newly initialised, since the checkpoint has none that fits: {name}.weight" in caplog.text
    seeds = [
        auto.from_pretrained(tmp_path, classes, seed=seed, ignore_mismatched_sizes=True).state_dict()
        for seed in (1, 1, 2)
    ]
    heads = [state[f"{name}.weight"].tobytes() for state in seeds]
    assert heads[0] == heads[1] != heads[2]
    body = {k: v.tobytes() for k, v in load_file(tmp_path / "model.safetensors").items() if not k.startswith(name)}
    assert {k: seeds[0][k].tobytes() for k in body} == body


def test_whole_numbers_in_the_place_of_weights_are_refused(tmp_path: Path) -> None:
    tiny_bert().save_pretrained(tmp_path)
    state = {k: np.array(v) for k, v in load_file(tmp_path / "model.safetensors").items()}
    for kind in (np.int8, np.uint8, np.int64, bool):
        name = "bert.encoder.layer.0.attention.self.query.weight"
        save_file({**state, name: np.full((6, 6), 127).astype(kind)}, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=rf"{name} is {np.dtype(kind)}: .*does not read quantized weights"):
            load(tmp_path)
