# %% [markdown]
"""Why B = 0 makes dA vacuous: at the start of LoRA any formula for dA passes.

    y = W x + s B A x        du = s Bᵀ dy        dA = Σ duₙ xₙᵀ

B starts at zero, so du is zero, and with it dA: three times dA, −dA and dA without its s are zero too. A check there
proves nothing of dA, whatever its oracle. From the first step on B is not zero, and each wrong formula shows.

    python examples/experiments/vacuous.py [--plot FILE]
"""

# %%
import figure
import numpy as np

from npora import gradcheck
from npora.nn import Module, Parameter
from npora.nn.functional import mse_loss

options = figure.options("dA and its check over the first steps", steps=8)
rng = np.random.default_rng(0)
i, o, r, s = 6, 5, 2, 4.0
W, target_W = rng.standard_normal((2, o, i))
x = rng.standard_normal((9, i))


class LoRA(Module):
    def __init__(self, wrong=1.0):
        self.A = Parameter(np.random.default_rng(1).standard_normal((r, i)))
        self.B = Parameter(np.zeros((o, r)))
        self.wrong = wrong  # a factor on dA

    def forward(self, x):
        A, B = self.A, self.B
        u = x @ A.data.T
        B_now = B.data

        def backward(dy):
            du = s * dy @ B_now
            B.accumulate(s * dy.T @ u)
            A.accumulate(self.wrong * du.T @ x)
            return dy @ W + du @ A.data

        return x @ W.T + s * u @ B_now.T, backward


# %%
right, wrong = LoRA(), LoRA(wrong=3.0)
norms, verdicts = {"dA": [], "dB": []}, []
for step in range(options.steps):
    for parameter, now in zip(wrong.parameters(), right.parameters(), strict=True):
        parameter.data = now.data.copy()
    # randomize=False: gradcheck would move B off zero by itself, on a copy
    verdicts.append(gradcheck(wrong, x, randomize=False)["A"].verdict)
    y, backward = right(x)
    loss, back_loss = mse_loss(y, x @ target_W.T)
    right.zero_grad()
    backward(back_loss())
    for name, parameter in (("dA", right.A), ("dB", right.B)):
        norms[name].append((step, float(np.linalg.norm(parameter.grad))))
        parameter.data = parameter.data - 0.02 * parameter.grad
    print(f"step {step}  ‖dA‖ = {norms['dA'][-1][1]:.2e}  ‖dB‖ = {norms['dB'][-1][1]:.2e}  3 dA: {verdicts[-1]}")

# %%
figure.show("Gradients of LoRA from its start", norms, "step", "norm of the gradient", plot=options.plot)
vacuous = [step for step, verdict in enumerate(verdicts) if verdict == "VACUOUS"]
failed = [step for step, verdict in enumerate(verdicts) if verdict == "FAIL"]
print(
    f"\nA dA three times too large is VACUOUS at step {', '.join(map(str, vacuous))}, where ‖dA‖ = "
    f"{norms['dA'][0][1]:g}, and FAIL at {len(failed)} of the {len(verdicts) - len(vacuous)} steps after it. "
    f"gradcheck's own randomize moves B off zero first, and says "
    f"{gradcheck(LoRA(wrong=3.0), x)['A'].verdict} at the start."
)
