"""Small tokenizers of each kind, trained on a few sentences; and texts that try them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import strategies as st

from npora.data import Tokenizer
from npora.data.gguf_tokenizer import BYTE, NORMAL, byte_level_splits, merges_of

SENTENCES = [
    "the quick brown fox jumps over the lazy dog", "The film's a café, naïve and GOOD", "it isn't 1234 or 56 !",
    "中文字 and emoji 😀 and more", "one two three, four five; six",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z . ? : - _ ( )", "good film, bad film, the good, the bad",
]  # fmt: skip
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
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


def as_llama_cpp_has_it(kind: str, pre: str | None = None, space: bool = True) -> Tokenizer:
    """One that GGUF can hold, but for a unigram.

    pre : how a byte-level one splits text; space : whether a metaspace one puts a space before it
    """
    backend = made(kind)
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    normalizers = tokenizers.normalizers
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if kind == "unigram":
        roles = {"eos_token": "</s>"}
    elif kind == "metaspace":  # as SentencePiece does it, before every part of a text and with every pair
        ids = backend.get_vocab()
        tokens = sorted(ids, key=ids.__getitem__)
        types = [NORMAL if number > 258 else BYTE for number in range(len(tokens))]
        merges = merges_of(tokens, ids, types, range(0, -len(tokens), -1))
        backend.model = tokenizers.models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁")] * space + [normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = None
        decoders = tokenizers.decoders
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        backend.decoder = decoders.Sequence([*steps, *[decoders.Strip(" ", 1, 0)] * space])
    elif kind == "word-pieces":
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        roles = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
        template(backend, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    elif pre is not None:
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(byte_level_splits(pre))
    return Tokenizer(backend, roles, chat_template=TEMPLATE)
