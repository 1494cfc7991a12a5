# %% [markdown]
"""How much rank does a new task need? Accuracy against the rank r of LoRA's update, everything else the same.

The update of a matrix W [o,i] is s B A with A [r,i] and B [o,r]: of rank r at most, and with r (i + o) numbers. s = α/r
is the same at every rank here, so that the rank alone differs.

    python examples/experiments/rank.py [MODEL train.tsv dev.tsv] [--plot FILE]
"""

# %%
import jobs
from figure import show

options = jobs.options("accuracy against the rank of the update", steps=80, pretraining=150)
job = jobs.job(options.files, options.pretraining)
base = job.accuracy(job.model())

# %%
points, numbers = [], {}
for r in (1, 2, 4, 8, 16):
    model = job.adapted(r=r, alpha=2 * r)
    job.fit(model, options.steps)
    points.append((r, job.accuracy(model)))
    numbers[r] = sum(A_or_B.size for name, A_or_B in model.named_parameters() if "lora_" in name)
    print(f"r = {r:2}  {numbers[r]:7,} numbers  accuracy {points[-1][1]:.3f}")
every = sum(parameter.size for parameter in job.model().parameters())

# %%
show(
    "What each rank leaves wrong",
    {"LoRA": [(r, 1 - right) for r, right in points], "the frozen model": [(r, 1 - base) for r, _ in points]},
    "rank r", "share of wrong answers", log="xy", plot=options.plot,
)  # fmt: skip
best = max(accuracy for _, accuracy in points)
enough = next(r for r, accuracy in points if accuracy >= best - 0.01)
(least, lowest), *_ = points
print(
    f"\nRank {enough} is the least that comes within one point of the best, {best:.1%}: it trains {numbers[enough]:,} "
    f"numbers, {numbers[enough] / every:.0%} of the model's. Rank {least} reaches {lowest:.1%}, and the frozen model "
    f"{base:.1%}."
)
