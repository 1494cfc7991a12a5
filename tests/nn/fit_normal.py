"""The coefficients of npora.nn.erf.normal, and how far off they are.    python -m tests.nn.fit_normal"""

from __future__ import annotations

import math

import numpy as np

P, DEGREE, NODES = 0.28, 6, 400


def main() -> None:
    t = (1 + np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)) / 2
    x = (1 / t - 1) / P
    t, x = t[x < 9], x[x < 9]  # beyond, φ is below 1e-18
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    tail = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in x])
    powers = density[:, None] * t[:, None] ** np.arange(1, DEGREE + 1)
    coefficients = np.linalg.lstsq(powers, tail, rcond=None)[0]
    print(", ".join(f"{c:.9f}" for c in coefficients))
    print(f"off by {np.abs(powers @ coefficients - tail).max():.1e} at most")


if __name__ == "__main__":
    main()
