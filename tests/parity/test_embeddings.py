"""Sentence embeddings beside transformers and torch: pooling, losses, gradients, and adapters that PEFT reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSentenceEmbedding, EmbeddingTrainer, LoraConfig, TrainingArguments, get_peft_model
from tests.parity.reference import assert_close, torch
from tests.tiny_folders import save_folder

peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
t = torch.nn.functional

TEXTS = [[[2, 9, 4, 3], [2, 5, 3], [2, 8, 3]], [[2, 6, 7, 11, 3], [2, 12, 3], [2, 13, 9, 3]],
         [[2, 4, 3], [2, 10, 11, 3], [2, 5, 3]]]  # fmt: skip
LABELS = [0.9, 0.1, 0.5]


def pooled(h: Any, mask: Any, pooling: str, normalize: bool) -> Any:
    """sentence_transformers.models.Pooling and Normalize."""
    lengths = mask.sum(dim=1)
    y = {
        "mean": (h * mask[..., None]).sum(dim=1) / lengths[:, None], "cls": h[:, 0],
        "lasttoken": h[torch.arange(len(h)), lengths - 1],
    }[pooling]  # fmt: skip
    return t.normalize(y, p=2, dim=1) if normalize else y


def loss_of(name: str, e: list[Any], labels: Any) -> Any:
    """sentence_transformers.losses'."""
    if name == "multiple-negatives-ranking":
        scores = t.cosine_similarity(e[0][:, None], torch.cat(e[1:])[None], dim=-1) * 20.0
        return t.cross_entropy(scores, torch.arange(len(scores)))
    if name == "triplet":
        near, far = (torch.linalg.vector_norm(e[0] - other, dim=1) for other in e[1:])
        return t.relu(near - far + 5.0).mean()
    c = t.cosine_similarity(e[0], e[1])
    if name == "cosine":
        return t.mse_loss(c, labels)
    z = c * 20.0
    z = z[:, None] - z[None, :]
    z = z - (1 - (labels[:, None] < labels[None, :]).double()) * 1e12
    return torch.logsumexp(torch.cat((torch.zeros(1).double(), z.view(-1))), dim=0)


@pytest.mark.usefixtures("t5_norm_in_float64")
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "modernbert"])
@pytest.mark.parametrize(
    "loss, pooling, normalize",
    [
        ("multiple-negatives-ranking", "mean", True), ("triplet", "cls", False), ("cosine", "lasttoken", False),
        ("cosent", "mean", False),
    ],
)  # fmt: skip
def test_losses_and_gradients_agree_through_an_adapter_that_peft_reads(
    family: str, loss: str, pooling: str, normalize: bool, tmp_path: Path
) -> None:
    folder = save_folder(tmp_path / family, family)
    base = AutoModelForSentenceEmbedding.from_pretrained(folder, dtype="float64", pooling=pooling, normalize=normalize)
    model = get_peft_model(base, LoraConfig(r=2, task_type="FEATURE_EXTRACTION"))
    rng = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * rng.standard_normal(parameter.shape)
    model.save_pretrained(tmp_path / "adapter")
    kind = transformers.T5EncoderModel if family == "t5" else transformers.AutoModel
    body = kind.from_pretrained(folder, dtype=torch.float64)
    theirs = peft.PeftModel.from_pretrained(body.eval(), str(tmp_path / "adapter"), is_trainable=True).double()
    assert type(theirs).__name__ == "PeftModelForFeatureExtraction"

    number = 2 if loss.startswith("cos") else 3
    e = []
    for own in zip(*(texts[:number] for texts in TEXTS), strict=True):
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(text) for text in own], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(text)).long() for text in own], batch_first=True)
        e.append(pooled(theirs(input_ids=ids, attention_mask=mask).last_hidden_state, mask, pooling, normalize))
    labels = torch.tensor(LABELS, dtype=torch.float64)
    expected = loss_of(loss, e, labels)
    expected.backward()

    data = [
        {"input_ids": [i for text in texts[:number] for i in text], "lengths": [len(text) for text in texts[:number]],
         "label": label, "is_scored": int(number == 2)}
        for texts, label in zip(TEXTS, LABELS, strict=True)
    ]  # fmt: skip
    trainer = EmbeddingTrainer(model, TrainingArguments(str(tmp_path / "run")), data, data, loss=loss)
    output, backward = trainer.objective()(**trainer._batches.of(data, range(3)))
    assert_close(output.logits, torch.stack(e, dim=1), 1e-9)
    assert_close(output.loss, expected, 1e-9)
    backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    assert gradients
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert_close(parameter.grad, gradients.pop(name), 1e-9)
    assert not gradients
