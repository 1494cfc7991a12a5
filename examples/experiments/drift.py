# %% [markdown]
"""Merged in low precision: what is left of an update that is added to weights of 16 bits?

Merging writes W + ΔW in the place of W. A number of float16 has 11 bits and one of bfloat16 has 8: an update smaller
than half an ulp of W, as |ΔW_oi| < 2⁻⁹ |W_oi| is in bfloat16, changes nothing at all. With fl for the rounding,

    lost = ‖fl(W + ΔW) − (W + ΔW)‖ / ‖ΔW‖        where W = fl(W) itself is exact

And who merges in place and takes ΔW away again, adapter after adapter, does not come back to W: it drifts. npora's
`merge` makes a new array and keeps the old one, so that unmerging gives W's own bytes.

    python examples/experiments/drift.py [--plot FILE]
"""

# %%
import figure
import numpy as np

options = figure.options("what rounding leaves of a merged update")


def bfloat16(x):
    """Round to the nearest number of bfloat16, the even one of two: float32 with 16 of its bits at zero."""
    bits = np.float32(x).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


FORMATS = {
    "float32": lambda x: np.float32(x),
    "float16": lambda x: np.float32(np.float16(x)),
    "bfloat16": bfloat16,
}
assert bfloat16(1 + 2.0**-8) == 1 and bfloat16(1 + 2.0**-7) == np.float32(1 + 2.0**-7)

rng = np.random.default_rng(0)
o, i, r = 192, 160, 4
W = 0.02 * rng.standard_normal((o, i))
BA = rng.standard_normal((o, r)) @ rng.standard_normal((r, i))
BA *= np.linalg.norm(W) / np.linalg.norm(BA)  # as large as W; ΔW is a small part of it

# %%
SIZES = 10.0 ** -np.arange(0, 5.5, 0.5)
curves = {}
for name, rounded in FORMATS.items():
    base = np.float64(rounded(W))
    curves[name] = [
        (size, float(np.linalg.norm(rounded(base + size * BA) - (base + size * BA)) / np.linalg.norm(size * BA)))
        for size in SIZES
    ]
    print(f"{name:9}" + "".join(f"{lost:9.1e}" for _, lost in curves[name]))

# %% Merged and unmerged in place: 100 adapters, one after the other, each a hundredth of W
drifts = {}
for name, rounded in FORMATS.items():
    base = rounded(W)
    now = base
    for _ in range(100):
        update = rng.standard_normal((o, r)) @ rng.standard_normal((r, i))
        update *= 0.01 * np.linalg.norm(W) / np.linalg.norm(update)
        now = rounded(rounded(now + update) - update)
    drifts[name] = float(np.linalg.norm(np.float64(now) - base) / np.linalg.norm(base))
    print(f"{name:9} after 100 adapters merged and unmerged in place W has moved by {drifts[name]:.1e} of itself")

# %%
figure.show("Share of a merged update that rounding takes", curves, "‖ΔW‖/‖W‖", "lost", log="xy", plot=options.plot)
half = {name: max((size for size, lost in points if lost > 0.5), default=0.0) for name, points in curves.items()}
percent = {name: dict(points)[0.01] for name, points in curves.items()}
print(
    f"\nOf an update of 1 % of W, merging loses {percent['bfloat16']:.0%} in bfloat16, {percent['float16']:.1%} in "
    f"float16 and {percent['float32']:.4%} in float32. In bfloat16 rounding is more than half of every update of up to "
    f"{half['bfloat16']:.1%} of W, and a hundred adapters merged and unmerged in place move W by "
    f"{drifts['bfloat16'] / 0.01:.2f} times one of them."
)
