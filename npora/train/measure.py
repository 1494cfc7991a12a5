"""What a summary of a run reports."""

from __future__ import annotations

import hashlib
import sys

import numpy as np

from npora.machine.stored import bits_of
from npora.nn.module import Module


def frozen_sha256(model: Module) -> str:
    """SHA-256 over the names and bytes of every frozen parameter. Training must not change it."""
    sha = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            sha.update(name.encode())
            sha.update(np.ascontiguousarray(bits_of(parameter.data)).data)
    return sha.hexdigest()


def peak_memory() -> int:
    """The most bytes that this process has held, 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
