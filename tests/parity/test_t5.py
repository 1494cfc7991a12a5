"""T5 against transformers', in float64: T5 1.0 (relu, tied, scaled) and 1.1 (gated GELU, a head of its own)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.files import load_file, save_file
from npora.lora import LoraConfig, PeftModel, get_peft_model
from npora.models import AutoModelForSeq2SeqLM, T5Config, T5EncoderModel, T5ForConditionalGeneration
from npora.models.relative import relative_buckets
from npora.nn import Cache, Packing
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch, transformers

peft = pytest.importorskip("peft", reason="needs the extra `parity`")
pytestmark = pytest.mark.usefixtures("t5_norm_in_float64")

# Sequences of 5, 1 and 3 tokens that write 2, 4 and 1; distances beyond the buckets' middle and end.
BATCH: dict[str, Any] = {
    "input_ids": np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 5, 49, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]),
    "labels": np.array([[4, 1, -100, -100], [8, 44, -100, 1], [1, -100, -100, -100]]),
}
LEARNT = np.arange(4) < np.array([[2], [4], [1]])  # up to each sequence's last label
SIZES = {
    "vocab_size": 50, "d_model": 24, "d_kv": 5, "num_heads": 3, "d_ff": 20, "num_layers": 2, "num_decoder_layers": 3,
    "relative_attention_num_buckets": 6, "relative_attention_max_distance": 4, "dropout_rate": 0.0,
    "decoder_start_token_id": 2,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "1.0": {"feed_forward_proj": "relu"},
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
# Values of size about 1 pass through five layers, at most 24 terms in a sum: 2¹⁵ roundings of 2⁻⁵³ are 4e-12.
FORWARD, LOSS, BACKWARD = 1e-11, 1e-12, 1e-9


def reference_t5(directory: Path, kind: str, **changes: Any) -> Any:
    """A T5ForConditionalGeneration of transformers in float64 with every parameter drawn anew, saved there too."""
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**{**SIZES, **KINDS[kind], **changes}))
    if kind == "1.1":
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    model = model.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((1.0 if "layer_norm" in name else 0.0) + 0.3 * drawn)
    model.save_pretrained(directory)
    return model


def npora_t5(directory: Path, **keywords: Any) -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=np.float64, **keywords)


def randomized(model: Any) -> Any:
    """B's away from zero, so that A has a gradient."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (6, 4), (20, 50), (64, 1000)])
def test_the_buckets_are_those_of_transformers(bidirectional: bool, buckets: int, max_distance: int) -> None:
    distance = np.arange(-3000, 3001)
    attention = transformers.models.t5.modeling_t5.T5Attention
    theirs = attention._relative_position_bucket(torch.tensor(distance), bidirectional, buckets, max_distance)
    assert (relative_buckets(distance, bidirectional, buckets, max_distance) == theirs.numpy()).all()


def test_the_defaults_of_a_config_are_those_of_transformers() -> None:
    ours, theirs = T5Config().to_dict(), transformers.T5Config().to_dict()
    own = {"decoder_start_token_id", "initializer_range", "num_decoder_layers", "bos_token_id"}
    for key in ours.keys() - own:
        assert theirs[key] == ours[key] or key in ("id2label", "label2id"), key


@every_kind
def test_outputs_and_every_gradient_agree(tmp_path: Path, kind: str) -> None:
    theirs, ours = reference_t5(tmp_path, kind), npora_t5(tmp_path)
    output, backward = ours(**BATCH)
    expected = theirs(**tensors(BATCH))
    assert_close(output.logits[LEARNT], expected.logits[torch.tensor(LEARNT)], FORWARD)
    assert not output.logits[~LEARNT].any()
    assert_close(output.loss, expected.loss, LOSS)
    assert output.num_items == 6
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, BACKWARD) == {"1.0": 60, "1.1": 66}[kind]


@every_kind
def test_lora_gradients_agree_on_every_projection(tmp_path: Path, kind: str) -> None:
    targets = ["q", "k", "v", "o", "wo", "wi" if kind == "1.0" else "wi_1"]
    config = {"r": 2, "lora_alpha": 3, "target_modules": targets, "task_type": "SEQ_2_SEQ_LM"}
    theirs = randomized(peft.get_peft_model(reference_t5(tmp_path / "base", kind), peft.LoraConfig(**config)))
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_t5(tmp_path / "base"), tmp_path / "adapter", is_trainable=True)
    output, backward = ours(**BATCH)
    expected = theirs(**tensors(BATCH))
    assert_close(output.loss, expected.loss, LOSS)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, BACKWARD) == 2 * (2 * 6 + 3 * 10)


@every_kind
def test_an_adapter_of_npora_loads_in_peft_with_the_same_outputs_and_counts(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, config = reference_t5(tmp_path / "base", kind), {"r": 2, "lora_alpha": 3, "task_type": "SEQ_2_SEQ_LM"}
    ours = get_peft_model(npora_t5(tmp_path / "base"), LoraConfig(**config))  # the default targets, q and v
    rng = np.random.default_rng(2)
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True).eval()
    assert_close(ours(**BATCH)[0].logits[LEARNT], theirs(**tensors(BATCH)).logits[torch.tensor(LEARNT)], FORWARD)
    ours.print_trainable_parameters()
    printed = capsys.readouterr().out
    theirs.print_trainable_parameters()
    assert capsys.readouterr().out == printed
    fresh = peft.get_peft_model(reference_t5(tmp_path / "again", kind), peft.LoraConfig(**config))
    names = {name for name, parameter in fresh.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in ours.named_parameters() if parameter.requires_grad} == names


@pytest.mark.parametrize("left", [False, True])
def test_given_decoder_inputs_and_their_mask_agree(tmp_path: Path, left: bool) -> None:
    theirs, ours = reference_t5(tmp_path, "1.0"), npora_t5(tmp_path)
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
    ids = np.array([[2, 9, 0, 0], [2, 8, 44, 30], [2, 2, 6, 0]])
    labels = np.where(mask == 1, np.roll(ids, -1, axis=1), -100)
    batch = {
        "input_ids": BATCH["input_ids"], "attention_mask": BATCH["attention_mask"], "labels": labels,
        "decoder_input_ids": ids, "decoder_attention_mask": mask,
    }  # fmt: skip
    if left:
        batch = {key: value[:, ::-1].copy() for key, value in batch.items()}
    real = batch["decoder_attention_mask"] == 1
    output, backward = ours(**batch)
    expected = theirs(**tensors(batch))
    assert_close(output.logits[real], expected.logits[torch.tensor(real)], FORWARD)
    assert_close(output.loss, expected.loss, LOSS)
    del batch["labels"]
    output, backward = ours(**batch)
    dlogits = np.random.default_rng(0).standard_normal(output.logits.shape) * real[..., None]
    backward(dlogits)
    (theirs(**tensors(batch)).logits * torch.tensor(dlogits)).sum().backward()
    assert_same_gradients(ours, theirs, BACKWARD)


@every_kind
def test_the_encoder_alone_agrees_and_passes_over_the_decoder(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    reference_t5(tmp_path, kind)
    theirs = transformers.T5EncoderModel.from_pretrained(tmp_path, dtype=torch.float64).eval()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "npora"):
        ours = T5EncoderModel.from_pretrained(tmp_path, dtype=np.float64)
    assert not caplog.records
    batch = {key: BATCH[key] for key in ("input_ids", "attention_mask")}
    output, backward = ours(**batch)
    expected = theirs(**tensors(batch)).last_hidden_state
    real = batch["attention_mask"] == 1
    assert_close(output.last_hidden_state[real], expected[torch.tensor(real)], FORWARD)
    assert not output.last_hidden_state[~real].any()
    dhidden = np.random.default_rng(0).standard_normal(expected.shape) * real[..., None]
    backward(dhidden)
    (expected * torch.tensor(dhidden)).sum().backward()
    assert_same_gradients(ours, theirs, BACKWARD)


def test_what_npora_saves_transformers_reads(tmp_path: Path) -> None:
    for kind in KINDS:
        expected = reference_t5(tmp_path / kind, kind)(**tensors(BATCH)).logits
        npora_t5(tmp_path / kind).save_pretrained(tmp_path / "ours" / kind)
        again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours" / kind, dtype=torch.float64)
        torch.testing.assert_close(again.eval()(**tensors(BATCH)).logits, expected, rtol=0, atol=0)
        assert_close(npora_t5(tmp_path / "ours" / kind)(**BATCH)[0].loss, again(**tensors(BATCH)).loss, LOSS)


def rewrite(directory: Path, config: dict[str, Any], tensors: dict[str, Any], without: tuple[str, ...] = ()) -> None:
    """Other keys in the files of a checkpoint."""
    values = json.loads((directory / "config.json").read_text())
    kept = {key: value for key, value in {**values, **config}.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(kept))
    path = directory / "model.safetensors"
    state = {name: np.array(value) for name, value in load_file(path).items()}
    save_file({key: value for key, value in {**state, **tensors}.items() if key not in without}, path)


@pytest.mark.parametrize("tie", [True, False, None])
def test_a_stored_head_that_differs_is_used_whatever_the_config_says_of_tying(tmp_path: Path, tie: bool | None) -> None:
    expected = reference_t5(tmp_path, "1.1")(**tensors(BATCH)).logits
    rewrite(tmp_path, {"tie_word_embeddings": tie}, {})
    ours = npora_t5(tmp_path)
    assert ours.lm_head.weight is not ours.shared.weight
    assert_close(ours(**BATCH)[0].logits[LEARNT], expected[torch.tensor(LEARNT)], FORWARD)


def test_older_configs_say_by_tying_whether_the_decoder_is_scaled(tmp_path: Path) -> None:
    for kind, tie in (("1.0", None), ("1.0", True), ("1.1", False)):
        expected = reference_t5(tmp_path / kind, kind)(**tensors(BATCH)).logits
        rewrite(tmp_path / kind, {"tie_word_embeddings": tie, "scale_decoder_outputs": None}, {})
        assert_close(npora_t5(tmp_path / kind)(**BATCH)[0].logits[LEARNT], expected[torch.tensor(LEARNT)], FORWARD)


def test_a_file_with_the_embedding_under_its_other_names_loads_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = reference_t5(tmp_path, "1.0")(**tensors(BATCH)).logits[torch.tensor(LEARNT)]
    caplog.clear()
    shared = np.array(load_file(tmp_path / "model.safetensors")["shared.weight"])
    names = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    unused = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": np.zeros((6, 3))}
    for number in range(1, 4):
        rewrite(tmp_path, {}, {**unused, **dict.fromkeys(names[:number], shared)})
        ours = npora_t5(tmp_path)
        assert ours.lm_head.weight is ours.shared.weight is ours.decoder.embed_tokens.weight
        assert_close(ours(**BATCH)[0].logits[LEARNT], expected, FORWARD)
    rewrite(tmp_path, {}, {}, without=("shared.weight",))
    assert_close(npora_t5(tmp_path)(**BATCH)[0].logits[LEARNT], expected, FORWARD)
    assert not caplog.records


@every_kind
def test_greedy_tokens_with_a_cache_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    theirs, ours = reference_t5(tmp_path, kind), npora_t5(tmp_path)
    prompt = {key: BATCH[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():  # its own cache has no place for a decoder deeper than the encoder
        expected = theirs.generate(
            **tensors(prompt), max_new_tokens=9, do_sample=False, eos_token_id=None, use_cache=False
        )
    cache, memory, ids = Cache(), ours.encode(**prompt), np.full((3, 1), 2)
    for _ in range(9):
        logits = ours.next_logits(ids[:, -1], Packing.dense(3, 1), cache, memory)
        ids = np.concatenate([ids, logits.argmax(axis=1)[:, None]], axis=1)
    assert ids.tolist() == expected.tolist()
    assert isinstance(ours, T5ForConditionalGeneration) and ours.is_encoder_decoder


@every_kind
def test_logits_with_a_cache_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    theirs, ours = reference_t5(tmp_path, kind), npora_t5(tmp_path)
    prompt = {key: BATCH[key] for key in ("input_ids", "attention_mask")}
    ids = np.random.default_rng(0).integers(0, 50, (3, 7))
    expected = theirs(**tensors(prompt), decoder_input_ids=torch.tensor(ids)).logits
    cache, memory, start = Cache(), ours.encode(**prompt), 0
    for end in (1, 2, 5, 7):
        packing = Packing.dense(3, end - start)
        logits = ours.next_logits(ids[:, start:end].ravel(), packing, cache, memory)
        assert_close(logits, expected[:, end - 1], FORWARD)
        start = end
