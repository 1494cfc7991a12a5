"""Rows, text to ids, and batches."""

from npora.data.collate import collate
from npora.data.dataset import Dataset
from npora.data.readers import read_csv, read_examples, read_jsonl, read_tsv
from npora.data.tokenizer import AutoTokenizer, Tokenizer

__all__ = ["AutoTokenizer", "Dataset", "Tokenizer", "collate", "read_csv", "read_examples", "read_jsonl", "read_tsv"]
