"""Everything that touches a disk: safetensors, JSON, atomic writes."""

from npora.files.atomic import write_atomically
from npora.files.header import SafetensorsError, read_header
from npora.files.json import read_json, write_json
from npora.files.safetensors import load_file, load_metadata, save_file

__all__ = [
    "SafetensorsError", "load_file", "load_metadata", "read_header", "read_json", "save_file", "write_atomically",
    "write_json",
]  # fmt: skip
