"""A command whose data teach nothing fails, and says why: no perplexity of 1.0000."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npora.cli import main
from npora.models import GPT2Config, GPT2LMHeadModel

WORDS = ["</s>", "<unk>", "red", "green", "apple"]


@pytest.mark.parametrize("masked", ["train", "eval"])
def test_finetune_fails_where_no_label_counts(tmp_path: Path, capsys: Any, masked: str) -> None:
    """A text of one token: no token is before another."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    words = tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
    backend = tokenizers.Tokenizer(words)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    config = GPT2Config(vocab_size=5, n_positions=8, n_embd=6, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=0)
    GPT2LMHeadModel(config, rng=0).save_pretrained(tmp_path / "model")
    backend.save(str(tmp_path / "model" / "tokenizer.json"))
    for name in ("train", "eval"):
        text = "" if name == masked else "red apple"  # an empty text is the token that ends it
        (tmp_path / f"{name}.jsonl").write_text(2 * (json.dumps({"text": text}) + "\n"))
    code = main(
        ["finetune", "--task", "causal-lm", "--model", str(tmp_path / "model"),
         "--train", str(tmp_path / "train.jsonl"),
         "--eval", str(tmp_path / "eval.jsonl"), "--text-column", "text", "--output", str(tmp_path / "out"),
         "--max-steps", "3"]
    )  # fmt: skip
    said = capsys.readouterr()
    assert code != 0 and "perplexity" not in said.out
    assert f"{masked}.jsonl: there is nothing to learn" in said.err
