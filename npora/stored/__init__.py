"""Frozen matrices as they lie in their files, one file a format."""

from npora.machine.stored import Stored
from npora.stored.bfloat16 import BFloat16

__all__ = ["BFloat16", "Stored"]
