"""How transformers' tokenizer classes split text: each is built from a vocabulary and from settings in the files.

What else a `tokenizer.json` says of normalising and splitting does not count for these classes, in transformers 5 as
here: `do_lower_case` in `tokenizer_config.json` decides, and not the normalizer that was saved beside the vocabulary.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Parts(NamedTuple):
    """What a class takes from the files of a vocabulary."""

    kind: str  # WordPiece, BPE or Unigram
    vocab: Any  # ids by token; of Unigram the tokens with their scores
    merges: Any = ()
    post_processor: Any = None
    charsmap: bytes | None = None  # SentencePiece's own normalisation
    byte_level: bool = False

    @classmethod
    def of(cls, backend: Any) -> Parts:
        written = json.loads(backend.to_str())
        model, normalizer = written["model"], written["normalizer"] or {}
        steps = normalizer.get("normalizers", [normalizer])
        charsmap = next((step["precompiled_charsmap"] for step in steps if step.get("type") == "Precompiled"), None)
        vocab = model["vocab"]
        return cls(
            model["type"],
            [(token, score) for token, score in vocab] if isinstance(vocab, list) else vocab,
            [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model.get("merges", ())],
            backend.post_processor,
            base64.b64decode(charsmap) if charsmap else None,
            any('"ByteLevel"' in json.dumps(written[part]) for part in ("pre_tokenizer", "decoder")),
        )


class Class(NamedTuple):
    """One class: the kind of vocabulary it has, its tokens of a role, and how it is built."""

    kind: str
    build: Callable[[Parts, Config], Any]
    roles: Mapping[str, str]
    finish: Callable[[Any, Mapping[str, str], Config], None] | None = None  # sets what stands around a text
    padding_side: str = "right"
    around: tuple[str, ...] = ()  # the roles that finish needs

    def takes(self, parts: Parts) -> bool:
        if parts.kind == "WordLevel":  # words are pieces that need no second one
            return self.kind == "WordPiece"
        # Llama 3 and later are byte-level under the class of a Llama, which is then not asked.
        return parts.kind == self.kind and not (self.build is _llama and parts.byte_level)


def _bert(parts: Parts, config: Config) -> Any:
    """WordPiece as BERT has it (Devlin et al., 2019), in lower case unless the files say otherwise."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    backend = Tokenizer(models.WordPiece(parts.vocab, unk_token=_text(config.get("unk_token")) or "[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
        strip_accents=config.get("strip_accents"),
        lowercase=bool(config.get("do_lower_case", True)),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def _bert_ends(backend: Any, special: Mapping[str, str], config: Config) -> None:
    from tokenizers import processors

    (cls, first), (sep, last) = _pair(backend, special, "cls_token"), _pair(backend, special, "sep_token")
    backend.post_processor = processors.TemplateProcessing(
        single=[f"{cls}:0", "$A:0", f"{sep}:0"],
        pair=[f"{cls}:0", "$A:0", f"{sep}:0", "$B:1", f"{sep}:1"],
        special_tokens=[(cls, first), (sep, last)],
    )


def _byte_pairs(parts: Parts, config: Config) -> Any:
    """Byte-level BPE (Radford et al., 2019)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    model = models.BPE(parts.vocab, list(parts.merges), continuing_subword_prefix="", end_of_word_suffix="")
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    if parts.post_processor is not None:
        backend.post_processor = parts.post_processor
    return backend


def _roberta_ends(backend: Any, special: Mapping[str, str], config: Config) -> None:
    from tokenizers import processors

    last, first = _pair(backend, special, "sep_token"), _pair(backend, special, "cls_token")
    trim, space = bool(config.get("trim_offsets", True)), bool(config.get("add_prefix_space", False))
    backend.post_processor = processors.RobertaProcessing(last, first, trim, space)


def _llama(parts: Parts, config: Config) -> Any:
    """SentencePiece's BPE with a byte for what has no token; a space goes before the text unless the files say not."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    space = config.get("add_prefix_space")
    scheme = "never" if space is False else "always" if config.get("legacy", False) else "first"
    backend = Tokenizer(models.BPE(parts.vocab, list(parts.merges), fuse_unk=True, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps + [decoders.Strip(content=" ", left=1)] * (space is not False))
    if parts.post_processor is not None:
        backend.post_processor = parts.post_processor
    return backend


def _t5(parts: Parts, config: Config) -> Any:
    """SentencePiece's Unigram: words, each with the space before it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    backend = Tokenizer(models.Unigram(parts.vocab, unk_id=2, byte_fallback=False))
    if parts.charsmap is not None:
        backend.normalizer = normalizers.Precompiled(parts.charsmap)
    metaspace: dict[str, Any] = {"replacement": "▁", "prepend_scheme": "always", "split": True}
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**metaspace)]
    )
    backend.decoder = decoders.Metaspace(**metaspace)
    return backend


def _t5_ends(backend: Any, special: Mapping[str, str], config: Config) -> None:
    from tokenizers import processors

    end = _pair(backend, special, "eos_token")
    backend.post_processor = processors.TemplateProcessing(
        single=["$A", end[0]], pair=["$A", end[0], "$B", end[0]], special_tokens=[end]
    )


def surround(backend: Any, bos: str | None, eos: str | None) -> None:
    """Put these two, or those of them that are not None, around each text of a call."""
    from tokenizers import processors

    def around(number: int) -> list[str]:
        return [f"{token}:{number}" for token in (bos, "$A" if number == 0 else "$B", eos) if token is not None]

    backend.post_processor = processors.TemplateProcessing(
        single=around(0),
        pair=around(0) + around(1),
        special_tokens=[(token, backend.token_to_id(token)) for token in dict.fromkeys((bos, eos)) if token],
    )


def _text(token: Any) -> str | None:
    return token if token is None or isinstance(token, str) else str(token["content"])


def _pair(backend: Any, special: Mapping[str, str], role: str) -> tuple[str, int]:
    token = special.get(role)
    number = None if token is None else backend.token_to_id(token)
    if token is None or number is None:
        raise ValueError(f"the vocabulary has no {role}, which this class puts around every text")
    return token, number


_BERT = Class(
    "WordPiece",
    _bert,
    {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"},
    _bert_ends,
    around=("cls_token", "sep_token"),
)
_ROBERTA = {
    "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>",
    "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
_T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_END = "<|endoftext|>"
# transformers' classes by their names in lower case, without Tokenizer and Fast.
CLASSES = {
    "bert": _BERT,
    "distilbert": _BERT,
    "roberta": Class("BPE", _byte_pairs, _ROBERTA, _roberta_ends, around=("cls_token", "sep_token")),
    "gpt2": Class("BPE", _byte_pairs, {"bos_token": _END, "eos_token": _END, "unk_token": _END}),
    "llama": Class("BPE", _llama, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, padding_side="left"),
    "t5": Class("Unigram", _t5, _T5, _t5_ends, around=("eos_token",)),
}
