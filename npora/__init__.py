"""npora: LoRA fine-tuning in pure NumPy, with every backward pass derived by hand."""

from npora.check import gradcheck
from npora.nn import no_grad

__version__ = "0.1.0"

__all__ = ["gradcheck", "no_grad"]
