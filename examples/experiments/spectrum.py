# %% [markdown]
"""The intrinsic rank of what is learnt: how many directions does ΔW have, when nothing holds its rank down?

LoRA rests on a guess, that what a frozen matrix has to learn is of low rank (Hu et al., 2021). Here every matrix is
trained whole, and ΔW = W_t − W_0 is looked at on the way. With its singular values σ₁ ≥ σ₂ ≥ …, a rank of k explains

    (σ₁² + … + σ_k²) / (σ₁² + σ₂² + …)

of it (Eckart and Young, 1936), and the intrinsic rank is the least k that explains 90 %.

    python examples/experiments/spectrum.py [--plot FILE]
"""

# %%
import figure
import jobs
import numpy as np
from numpy.linalg import svd

options = figure.options("the rank that explains 90 % of ΔW, over training", steps=80, pretraining=150)
job = jobs.Sorting(options.pretraining)
MATRICES = {"attention's c_attn": "attn.c_attn.weight", "the MLP's c_fc": "mlp.c_fc.weight"}


def intrinsic_rank(update, share=0.9):
    squares = svd(update, compute_uv=False).astype(np.float64) ** 2
    return int(np.searchsorted(np.cumsum(squares), share * squares.sum()) + 1)


# %%
def watched(model, weights):
    """After some steps: the mean, over the layers, of the intrinsic rank of each kind of matrix."""

    def look(step):
        if step in (1, 2, 4, 8, 15, 25, 40, 60, options.steps):
            now = weights(model)
            for kind, ending in MATRICES.items():
                names = [name for name in job.weights if name.endswith(ending)]
                ranks = [intrinsic_rank(now[name] - job.weights[name]) for name in names]
                curves[kind].append((step, float(np.mean(ranks))))

    return look


def own_weights(model):
    return {name: parameter.data for name, parameter in model.named_parameters()}


curves = {kind: [] for kind in MATRICES}
model = job.model()
job.fit(model, options.steps, rate=3e-3, after_step=watched(model, own_weights))
print(f"trained whole, the model sorts {job.accuracy(model):.1%} of the places rightly")

# %% And is what lies beyond the first few directions needed? Each ΔW is cut to rank k.
final, cut = own_weights(model), []
for k in (0, 1, 2, 4, 8, 16, 32):
    shorter = job.model()
    for name, parameter in shorter.named_parameters():
        if parameter.data.ndim == 2 and ".h." in name:
            U, S, Vt = svd(final[name] - job.weights[name], full_matrices=False)
            parameter.data = parameter.data + (U[:, :k] * S[:k]) @ Vt[:k]
        else:
            parameter.data = final[name].copy()
    cut.append((k, job.accuracy(shorter)))
    print(f"each matrix's ΔW cut to rank {k:2}: {cut[-1][1]:.3f}")

# %%
curves["of a random matrix as large as c_attn"] = [
    (step, intrinsic_rank(np.random.default_rng(0).standard_normal((32, 96))))
    for step, _ in curves[next(iter(MATRICES))]
]
figure.show("Rank that explains 90 % of ΔW", curves, "step", "rank, of 32", log="x", plot=options.plot)
(first, start), *_, (last, end) = curves["attention's c_attn"]
enough = next(k for k, right in cut if right >= cut[-1][1] - 0.02)
print(
    f"\nOf 32 directions, ΔW of c_attn has {start:.0f} after step {first} and {end:.0f} after step {last} (a random "
    f"matrix {curves['of a random matrix as large as c_attn'][0][1]}). Cut to rank {enough}, the layers' matrices "
    f"still give {dict(cut)[enough]:.1%} where the whole ΔW gives {cut[-1][1]:.1%}; without them it is {cut[0][1]:.1%}."
)
