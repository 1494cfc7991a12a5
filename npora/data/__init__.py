"""Examples, text to ids, and batches."""

from npora.data.auto_tokenizer import AutoTokenizer
from npora.data.bytes import ByteTokenizer
from npora.data.chats import read_chats
from npora.data.choices import collate_choices, encode_choices, read_choices
from npora.data.collate import collate
from npora.data.collators import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    default_data_collator,
)
from npora.data.completions import (
    completion_labels,
    encode_completion,
    encode_completions,
    encode_text,
    windows,
)
from npora.data.dataset import Dataset
from npora.data.image_processor import ImageProcessor
from npora.data.images import collate_images, load_image, read_images
from npora.data.preferences import encode_preference, read_preferences
from npora.data.questions import encode_question, read_questions
from npora.data.readers import read_csv, read_examples, read_json, read_jsonl, read_texts, read_tsv
from npora.data.tagged import encode_words, read_tagged
from npora.data.tokenizer import Tokenizer
from npora.data.turns import encode_chat
from npora.data.vocabulary import check_vocabulary

__all__ = [
    "AutoTokenizer", "ByteTokenizer", "DataCollatorForLanguageModeling", "DataCollatorForSeq2Seq",
    "DataCollatorForTokenClassification", "DataCollatorWithPadding", "Dataset", "ImageProcessor", "Tokenizer",
    "check_vocabulary", "collate", "collate_choices", "collate_images", "completion_labels",
    "default_data_collator", "encode_chat", "encode_choices", "encode_completion", "encode_completions",
    "encode_preference", "encode_question", "encode_text", "encode_words", "load_image", "read_chats",
    "read_choices", "read_csv", "read_examples", "read_images", "read_json", "read_jsonl", "read_preferences",
    "read_questions", "read_tagged", "read_texts", "read_tsv", "windows",
]  # fmt: skip
