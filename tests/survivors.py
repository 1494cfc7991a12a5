"""Which mutants may survive, with the reason.

A key is a mutant's name: the function around it, the code, the change. The file stands before it only where another
file has a mutant of the same name.
"""

from __future__ import annotations

from tests.spellings import SPELLINGS

SURVIVORS: dict[str, str] = {
    name: reason
    for reason, names in {
        **SPELLINGS,
        "an exponent may have anything taken from it, where all have the same": [
            "cosent_loss: 0.0 in max(float(z.real[counted].max(initial=0)), 0.0): plus 1",
            "cosent_loss: 0: plus 1",
        ],
        "what is not counted is multiplied by 0": [
            "cosent_loss: 0 in np.where(counted, z - top, 0): plus 1",
        ],
        "0 divided by any number is 0": [
            "_distance: 1 in np.where(length == 0, 1, length): plus 1",
        ],
        "0/0 as a byte is 0": [
            "Q8_0.pack: step > 0: edge",
            "_nearest_constants: 0 in span < 0: plus 1",
            "_nearest_constants: span < 0: edge",
        ],
        "eight bytes are no block of 33": [
            "NF4.terms_in: rows.shape[-1] - 8: left alone",
            "NF4.terms_in: rows.shape[-1] - 8: sign",
        ],
        "i + 1 divides no i but 0": [
            "nearest_divisor: 1 in i + 1: plus 1",
        ],
        "without columns there is no number to draw": [
            "kaiming_uniform: 0.0 in 1 / math.sqrt(shape[1]) if shape[1] else 0.0: plus 1",
        ],
        "logits of two axes are not among those": [
            "check_targets: 2 in logits.ndim < 2: plus 1",
            "check_targets: logits.ndim < 2: edge",
        ],
        "the second half is written afterwards": [
            "nibbles: 1 in :1: plus 1",
        ],
        "the thirteen bits below float16's digits are 0": [
            "_MOVED: 1879048193 in -1879048193: plus 1",
        ],
        "any multiple of a sum that is zero is zero": [
            "HRA.identities: self.U.data * self.U.grad: times 1.0005",
            "LoHa.identities: p.data * p.grad: times 1.0005",
            "LoKr.identities: p.data * p.grad: times 1.0005",
        ],
        "a factor of 0 is refused, and 1 is the largest divisor that is no larger than 1": [
            "two_factors: factor > 0: edge",
            "two_factors: 0 in factor > 0: plus 1",
        ],
        "however many rows are quantised at a time": [
            "Blocked.quantized: 1 in max(_PIECE // max(i, 1), 1): plus 1",
            "Blocked.quantized: 1 in max(i, 1): plus 1",
        ],
        "in float32 1 + 1e-8 is 1": ["Blocked.of_turned_row: m.reshape(o, g) @ x.sum(axis=(1, 2)): times 1 + 1e-8"],
        "a grain of two divides the sixteen of a step": [
            "Stored.grain: 1 in (1, 1): plus 1",
            "Stored.grain: 1 in (1, 1): plus 1 #2",
        ],
        "a step of a cut is sixteen at least": [
            "_cut: 1 in max(width, 1): plus 1",
        ],
        "no variance is so near to the eps of LayerNorm": [
            "EPS: 1e-12: times 1.0001",
        ],
        "a row that belongs to no sequence is not remembered": [
            "T5CrossAttention.forward: 0 in :0: plus 1",
        ],
        "two sums of logarithms that differ are not equal": [
            "Finished.close: hope > worst: edge",
        ],
        "0 times a penalty is 0, as 0 divided by it is": [
            "repetition_penalty.process: scores < 0: edge",
        ],
        "what is not given lies in [0, 1] either way": [
            "warper: 0 in share or 0: plus 1",
        ],
        "another token before the string is before it in both texts": [
            "stop_strings: 1 in 1 + max((len(string.encode()) for string in strings)): plus 1",
        ],
        "any length to the power of 0 is 1": [
            "Finished.close: self.penalty > 0: edge",
        ],
        "of the beams to begin with only one is read": [
            "beam_search: 1 in most + 1: plus 1",
        ],
        "no token is negative": [
            "_NONE: 1 in -1: plus 1",
        ],
        "the best is the first of the two best": [
            "_follow: 1: plus 1 #2",
        ],
        "without an end nothing is filled up": [
            "_special_tokens: 0 in ends[0] if len(ends) else 0: plus 1",
        ],
        "one row or column more than is read": [
            "relative_bias: 0: plus 1",
            "relative_bias: 0: plus 1 #2",
            "relative_bias: 0: plus 1 #3",
            "_taylor_table: 1 in _BOUND * _STEPS_PER_UNIT + 1: plus 1",
            "_taylor_table: _BOUND * _STEPS_PER_UNIT: times 1.0005",
        ],
        "at r = n/2 both formulas give n/2": [
            "relative_buckets: r < exact: edge",
        ],
        "no rows have no position": [
            "check_positions: 1 in -1: plus 1",
        ],
        "the largest stays the largest": [
            "last_token_rows: np.arange(ids.shape[1]) * (ids != pad_token_id): times 1.0005",
        ],
        "e⁻⁷⁰¹ is nothing, as e⁻⁷⁰⁰ is": [
            "sigmoid: 700 in -700: plus 1",
        ],
        "softmax does not see what all visible keys have more": [
            "MultiHeadAttention.forward: 0 in np.where(key_mask, 0, -np.inf): plus 1",
        ],
        "any cut of the work gives the same values, and so does padding": [
            "_LEAST_QUERIES: 32: plus 1",
        ],
        "however many plans are kept": ["shared_plan: 16: plus 1"],
        "the mask is then made, and is True throughout": [
            "Block.mask: self.first > self.keys.start: edge",
        ],
        "what a buffer has room for beyond its rows is not read": [
            "_grown: 0 in 0 if buffer is None else buffer.shape[1]: plus 1",
            "_grown: 0: plus 1",
            "_grown: 2 * old: left alone",
            "_grown: 2 * old: right alone",
            "_grown: 2 in 2 * old: plus 1",
            "_grown: needed <= old: edge",
        ],
        "summed over the rows afterwards": [
            "cross_entropy: z[counted].mean(axis=-1): axis=None",
        ],
        "p = 1 keeps nothing, and any multiple of nothing is nothing": [
            "dropout: 0.0 in (np.zeros(x.shape, dtype=bool), 0.0): plus 1",
        ],
        "sixteen bits equal p once in 2¹⁶": [
            "dropout: words.view(np.uint16)[:x.size] >= drop: edge",
        ],
        "between two grid points either may be expanded around": [
            "erf: np.fmax(np.fmin(x, _BOUND), -_BOUND) * _STEPS_PER_UNIT: times 1.0005",
        ],
        "a finer grid, a wider one or a term more is as accurate": [
            "_TERMS: 3 in {np.dtype(np.float32): 3, np.dtype(np.float64): 7}: plus 1",
            "_STEPS_PER_UNIT: 64: plus 1",
            "_BOUND: 6: plus 1",
            "_TERMS: 7 in {np.dtype(np.float32): 3, np.dtype(np.float64): 7}: plus 1",
        ],
        "between 0 and 1, too: z + log(1 + e^(−z)) = log(1 + e^z)": [
            "binary_cross_entropy: 0 in logits.real > 0: plus 1",
        ],
        "the divisor where nothing was summed": [
            "softmax: 1: plus 1",
        ],
        "at 0 both sides are log 2": [
            "binary_cross_entropy: logits.real > 0: edge",
        ],
        "on one thread the pieces come in their order either way": [
            "packed_attention.backward: in_parallel if dB is None else in_order: condition turned round",
        ],
        "a random name may have any length": [
            "bring_best: 4 in secrets.token_hex(4): plus 1",
            "leave_later: 4 in secrets.token_hex(4): plus 1",
            "new_id: 8 in secrets.token_hex(8): plus 1",
            "prune: 4 in secrets.token_hex(4): plus 1",
            "save_checkpoint: 4 in secrets.token_hex(4): plus 1",
            "together: 4 in secrets.token_hex(4): plus 1",
            "write_atomically: 4 in secrets.token_hex(4): plus 1",
        ],
        "on Windows alone": [
            "_lock: 0 in os.lseek(descriptor, 0, os.SEEK_SET): plus 1",
            "_lock: 1 in msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1): plus 1",
            "_lock: msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1): deleted",
            "_lock: os.lseek(descriptor, 0, os.SEEK_SET): deleted",
            "_lock: os.lseek(descriptor, 1 << 20, os.SEEK_SET): deleted",
            "open_regular: 0 in getattr(os, 'O_NOCTTY', 0): plus 1",
            "open_regular: 0 in getattr(os, 'O_NONBLOCK', 0): plus 1",
        ],
        "1 is O_WRONLY, by which the file is opened anyway": [
            "write_atomically: 0 in getattr(os, 'O_BINARY', 0): plus 1",
        ],
        "one byte more than there may be shows as much as two": [
            "read_regular: 1 in size + 1: plus 1",
        ],
        "behind the last byte there is none": [
            "Journal._ends_a_line: 1 in file.read(1): plus 1",
        ],
        "the negative of a truth is as true": [
            "Lock._taken: return os.path.samestat(os.fstat(descriptor), os.stat(self.path)): negated",
            "_is_finite: return math.isfinite(value): negated",
        ],
        "2⁵³ is kept to the last digit in either place": [
            "LogHistory.append: abs(v) <= _WHOLE: edge",
        ],
        "any negative number stands for the others": [
            "LogHistory.append: 1 in -1: plus 1",
        ],
        "a path is shorter": [
            "_is_known: 10000 in read_regular(_marker(blob), 10000): plus 1",
        ],
        "which endings a picture may have follows from no size": [
            "check_picture: 1 in blank(1, 1): plus 1",
            "check_picture: 1 in blank(1, 1): plus 1 #2",
        ],
        "what is measured of numbers is the same either way": [
            "_ranks: return (np.cumsum(counts) - counts / 2)[places]: negated",
            "metrics/numbers.py: _pair: return (found, wanted): first two swapped",
        ],
        "of a class that one side has alone the F1 is 0, over 1 as over 2": [
            "f1: 1 in np.maximum(p + t, 1): plus 1",
        ],
        "where a span begins is set before it is read": [
            "entities: 0 in ('O', '', 0): plus 1",
        ],
        "the first distance is in the first bucket, 0": [
            "Distances.spread: -1: without the sign",
            "Distances.spread: 1 in -1: plus 1",
        ],
        "there are as many distances to either side, and one of 0": [
            "Distances.within: 1 in len(self.bucket) + 1: plus 1",
        ],
        "without distances none of their rows is taken": [
            "attend_apart.attend: 0 in slice(0): plus 1",
        ],
        "distances that no text has are read by none": [
            "DebertaV2Encoder.distances: 1: plus 1",
        ],
        "how many rows a stored vocabulary is widened for at once changes no number": [
            "_ROWS_OF_STORED: 256: plus 1",
        ],
        "a config of one bucket is refused": [
            "DebertaV2Encoder.distances: 0 in self.buckets > 0: plus 1",
            "DebertaV2Config.span: 0 in self.position_buckets > 0: plus 1",
        ],
        "a row without a visible key has no value to shift": [
            "softmax: 0: plus 1",
        ],
        "a layer that slides has a window, or its config is refused": [
            "LayerTypesConfig.rule: 0 in self.sliding_window or 0: plus 1",
        ],
        "before the first new token there is one": [
            "processors: 0 in chosen['min_length'] or 0: plus 1",
            "processors: 0 in length + chosen['min_new_tokens'] if chosen['min_new_tokens'] else 0: plus 1",
        ],
        "one copy of each is what is there": [
            "Continuations.logits: self.copies > 1: edge",
        ],
        "an empty prompt is refused by the first logits too": [
            "generate: padding.packing.last_rows(): deleted",
        ],
        "the logarithm of 1 is 0": [
            "Phi3Config.turn_scale: factor > 1: edge",
        ],
        "scaling by exactly 1 changes nothing": [
            "clip_grad_norm: scale < 1: edge",
        ],
        "every decay begins at 1": [
            "_warmup_stable_decay.factor: step < begin: edge",
        ],
    }.items()
    for name in names
}
