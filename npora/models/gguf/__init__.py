"""Models in GGUF files, one file an architecture: which fields and tensors are which of a family's."""
