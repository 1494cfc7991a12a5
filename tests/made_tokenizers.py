"""Small tokenizers of each kind, trained on a few sentences; and texts that try them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import strategies as st

SENTENCES = [
    "the quick brown fox jumps over the lazy dog", "The film's a café, naïve and GOOD", "it isn't 1234 or 56 !",
    "中文字 and emoji 😀 and more", "one two three, four five; six",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z . ? : - _ ( )", "good film, bad film, the good, the bad",
]  # fmt: skip
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPECIAL = ["<|endoftext|>", *ROBERTA, *BERT, "<extra_id_0>"]


def texts(max_size: int = 12) -> st.SearchStrategy[str]:
    """Accents, capitals, Chinese, spaces in every place, special tokens spelt out, emoji, the empty text."""
    pieces = [
        "the", "The", " the", " film", "film", "good", "é", "e\u0301", "É", "ß", "İ", "中", "文字", "😀", "👩‍👩‍👧",
        " ", "  ", "\n", "\t", "1", "23", "'s", "n't", " .", ", ", "x" * 3, "\u200b", "\ufffd", "ﬁ", "ａ", *SPECIAL,
    ]  # fmt: skip
    drawn = st.characters(exclude_categories=["Cs"])
    return st.lists(st.sampled_from(pieces) | drawn, max_size=max_size).map("".join)


@cache
def _json(kind: str) -> str:
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    models, pre, trainers = tokenizers.models, tokenizers.pre_tokenizers, tokenizers.trainers
    options = {"show_progress": False, "vocab_size": 420}
    if kind == "byte-level":
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
        backend.decoder = tokenizers.decoders.ByteLevel()
        special = [*ROBERTA, "<|endoftext|>"]
        trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=pre.ByteLevel.alphabet(), **options)
    elif kind == "word-pieces":
        backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False)
        backend.pre_tokenizer = pre.BertPreTokenizer()
        backend.decoder = tokenizers.decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(special_tokens=BERT, **options)
    elif kind == "unigram":
        backend = tokenizers.Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre.Metaspace()
        backend.decoder = tokenizers.decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            special_tokens=["<pad>", "</s>", "<unk>", "<extra_id_0>"], unk_token="<unk>", **options
        )
    else:
        backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        backend.pre_tokenizer = pre.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = tokenizers.decoders.Metaspace()
        letters = [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(
            special_tokens=["<unk>", "<s>", "</s>", *letters], **(options | {"vocab_size": 560})
        )
    backend.train_from_iterator(SENTENCES * 3, trainer)
    written: str = backend.to_str()
    return written


def made(kind: str) -> Any:
    """A new `tokenizers.Tokenizer` with byte-level, word-pieces, unigram or metaspace for a kind."""
    return pytest.importorskip("tokenizers", reason="needs the extra `hf`").Tokenizer.from_str(_json(kind))


def template(backend: Any, single: str, pair: str | None = None) -> Any:
    """The tokenizer with these tokens around each text."""
    names = [part.split(":")[0] for part in single.split() if not part.startswith("$")]
    processors = pytest.importorskip("tokenizers", reason="needs the extra `hf`").processors
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(name, backend.token_to_id(name)) for name in dict.fromkeys(names)]
    )
    return backend
