# %% [markdown]
"""Alpha and the learning rate: which product of the two decides what is learnt?

The update is ΔW = s B A with s = α/r, and B starts at zero. Adam's step does not depend on how large a gradient is: A
and B move by about the rate η a step, whatever s is. After k steps of one direction, with A₀ where A began,

    ΔW ≈ s (k η) (A₀ + k η)

While A has hardly left A₀ this goes with s η; once A has moved farther than A₀ was long, with s η², that is √s η. So
there is no α without a rate, and of two candidates for what counts the experiment says which one it is.

    python examples/experiments/alpha.py [--plot FILE]
"""

# %%
import math

import figure
import jobs
import numpy as np

options = figure.options("accuracy against √s η, for several alpha", steps=60, pretraining=150)
job = jobs.Sorting(options.pretraining)
R = 8
PRODUCTS = [0.0042 * 2**k for k in range(6)]  # of √s and η

# %%
curves, by_s = {}, {}
for s in (0.5, 2, 8):
    curves[f"α = {s * R:g}"] = points = []
    for product in PRODUCTS:
        model = job.adapted(r=R, alpha=s * R)
        job.fit(model, options.steps, rate=product / math.sqrt(s))
        points.append((product, job.accuracy(model)))
        by_s.setdefault(round(math.log2(product * math.sqrt(s))), []).append(points[-1][1])  # s η, a power of 2
    print(f"α = {s * R:4g}  " + "  ".join(f"η = {p / math.sqrt(s):.1e}: {right:.3f}" for p, right in points))

# %%
figure.show("Accuracy against √s η", curves, "√s η", "accuracy", log="x", plot=options.plot)
right = np.array([[accuracy for _, accuracy in points] for points in curves.values()])  # [s, √s η]
of_root = float(np.mean(np.ptp(right, axis=0)))
of_product = float(np.mean([np.ptp(same) for same in by_s.values() if len(same) == len(curves)]))
best = PRODUCTS[int(right.mean(axis=0).argmax())]
print(
    f"\nFrom α = {R / 2:g} to {8 * R:g}, accuracy differs by {of_root:.1%} in the mean where √s η is the same, and by "
    f"{of_product:.1%} where s η is: {'√s η' if of_root < of_product else 's η'} is the nearer to what counts. The "
    f"best is √s η = {best:g}, with {right[:, PRODUCTS.index(best)].min():.1%} or more whatever α: four times the α "
    f"asks for {'half' if of_root < of_product else 'a quarter of'} the rate."
)
