"""Mutants that only write the same otherwise, by the reason: another size, axis, order or sign that means the same."""

from __future__ import annotations

SPELLINGS: dict[str, list[str]] = {
    "zero has no sign": [
        "AdaLoRA.score: return np.zeros(len(self.E.data), self.E.dtype): negated",
        "Unset.zeros: return np.zeros(shape, dtype=dtype): negated",
        "kaiming_uniform: return rng.zeros(shape, dtype): negated",
        "normal: return rng.zeros(shape, dtype): negated",
    ],
    "a block is a square": [
        "in_blocks: 1 in R.shape[1]: plus 1",
    ],
    "of two axes, of which one is 1, it is the same which is repeated": [
        "RoAd.spread: np.repeat(values.reshape(-1, 1, self.half), 2, axis=1): axis=0",
    ],
    "a matrix that is its own transpose": [
        "LoraFAOptimizer.update: g @ np.linalg.pinv(square): right transposed",
        "orthogonality.backward: G @ A: left transposed",
        "chain.backward: unit @ (dG + dG.T): right transposed",
    ],
    "a single block is broadcast": ["OFT.rotation.backward: dR.sum(axis=0, keepdims=True): keepdims=False"],
    "a sum may be taken in either order": [
        "StartedLoRA.steps: return (_Away(self), _Onwards(self)): first two swapped"
    ],
    "of two factors the first from the front is the last but one": ["LoKr.forward.backward: -1 - step: sign"],
    "of a Python float its type alone counts": [
        "in_blocks.block_by_block: 1.0 in np.result_type(x, 1.0): plus 1",
        "in_blocks.block_by_block: 1.0 in np.result_type(x, 1.0): times 1.0001",
    ],
    "of two axes the last is axis 1": [
        "FourierFT.identities: -1: without the sign",
        "NF4.narrowed: -1: without the sign #2",
        "NF4.narrowed: -1: without the sign #3",
        "NF4.narrowed: -1: without the sign #4",
        "NF4.narrowed: -1: without the sign #5",
        "_distance: -1: without the sign",
        "nn/similarity.py: cosine_similarity: -1: without the sign",
        "GPT2Attention.forward.backward: -1: without the sign",
        "MultiHeadAttention.forward: -1 in y.shape[-1]: without the sign",
        "nn/cross_entropy.py: _softmax: -1: without the sign",
        "nn/cross_entropy.py: cross_entropy: -1: without the sign",
        "nn/cross_entropy.py: cross_entropy: -1: without the sign #2",
    ],
    "the two are the same": [
        "LlamaAttention.biases: return (config.attention_bias, config.attention_bias): first two swapped",
        "RoAd.spread: return (both, both): first two swapped",
        "RoAd.spread: return (values, values): first two swapped",
    ],
    "its length alone is read": [
        "_first: return next((array for array in piece.values() if array is not None)): negated",
    ],
    "of two vectors the product is the same either way": [
        "matthews: p @ t: operands swapped",
        "pearson: a @ b: operands swapped",
    ],
    "NumPy takes any negative size to mean the rest": [
        "_pair: 1 in -1: plus 1",
        "_pair: 1 in -1: plus 1 #2",
        "accuracy: 1 in -1: plus 1",
        "save_file.chunks: 1 in -1: plus 1",
        "save_gguf.chunks: 1 in -1: plus 1",
        "in_blocks.block_by_block: 1 in -1: plus 1",
        "in_blocks.block_by_block.backward: 1 in -1: plus 1",
        "IA3.forward: 1 in -1: plus 1",
        "BFloat16.rounded: 1 in -1: plus 1",
        "Float16.rounded: 1 in -1: plus 1",
        "Blocked.narrowed: 1 in -1: plus 1",
        "NF4.narrowed: 1 in -1: plus 1 #5",
        "_PAIRS: 1 in -1: plus 1",
        "OFT.outer: 1 in -1: plus 1",
        "RoAd.gathered: 1 in -1: plus 1",
        "RoAd.gathered: 1 in -1: plus 1 #2",
        "RoAd.gathered: 1 in -1: plus 1 #3",
        "RoAd.gathered: 1 in -1: plus 1 #4",
        "RoAd.spread: 1 in -1: plus 1",
        "RoAd.spread: 1 in -1: plus 1 #2",
        "RoAd.spread: 1 in -1: plus 1 #3",
        "RoAd.spread: 1 in -1: plus 1 #4",
        "RoAd.spread: 1 in -1: plus 1 #5",
        "in_blocks: 1 in -1: plus 1",
        "_queries_and_keys_balance: 1 in -1: plus 1",
        "_queries_and_keys_balance: 1 in -1: plus 1 #2",
        "models/generate/beam.py: _ids: 1 in -1: plus 1",
        "Finished.result: 1 in -1: plus 1",
        "attend_apart.by_head: 1 in -1: plus 1",
        "attend_apart.by_row: 1 in -1: plus 1",
        "told.back_to_the_rows: 1 in -1: plus 1",
    ],
}
