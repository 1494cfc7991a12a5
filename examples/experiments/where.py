# %% [markdown]
"""Where do the adapters go? Accuracy against the time of a step, for LoRA in some of the layers.

Backward ends at the lowest layer that trains anything: below it no gradient is asked for. With adapters in the top
layers alone, a step therefore takes the forward, and little of the backward; with one in the bottom layer, all of it.
It is often said that the top layers alone do as well as all for a third of the work. Do they?

    python examples/experiments/where.py [MODEL train.tsv dev.tsv] [--plot FILE]
"""

# %%
import jobs
from figure import show

options = jobs.options("accuracy against the work of a step, for adapters in some layers", steps=80, pretraining=150)
job = jobs.job(options.files, options.pretraining)
base = job.accuracy(job.model())
third = max(1, round(job.layers / 3))
top, bottom = list(range(job.layers - third, job.layers)), list(range(third))
PLACES = {
    "all": (None, None),
    "top third": (None, top),
    "top two thirds": (None, list(range(third, job.layers))),
    "bottom third": (None, bottom),
    "attention alone": (job.attention, None),
    "feed-forward alone": (job.feed_forward, None),
}

# %%
found = {}
for name, (targets, layers) in PLACES.items():
    model = job.adapted(targets=targets, layers=layers)
    seconds = job.fit(model, options.steps)
    found[name] = seconds, job.accuracy(model)
    print(f"{name:18}  {1000 * seconds:6.1f} ms a step  accuracy {found[name][1]:.3f}")

# %%
whole, reached = found["all"]
show(
    "Where the adapters go", {name: [(seconds / whole, 1 - right)] for name, (seconds, right) in found.items()},
    "time of a step, of that with adapters everywhere", "share of wrong answers", log="y", line=False,
    plot=options.plot,
)  # fmt: skip
seconds, right = found["top third"]
verdict = "holds" if right >= reached - 0.02 and seconds <= 0.4 * whole else "does not hold"
best = max((name for name in found if name != "all"), key=lambda name: found[name][1])
print(
    f"\nThe top third of the layers alone reaches {right:.1%} where all reach {reached:.1%} (the frozen model "
    f"{base:.1%}), and a step takes {seconds / whole:.0%} of the time. That the top alone does as well (within 2 "
    f"points) for a third of the work (at most 40 %) {verdict} here. The best of the parts is {best}: "
    f"{found[best][1]:.1%} in {found[best][0] / whole:.0%} of the time."
)
