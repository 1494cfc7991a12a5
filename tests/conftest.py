"""How many examples Hypothesis draws: HYPOTHESIS_PROFILE=dev, ci or nightly. And no test asks the Hugging Face hub."""

import gc
import os

# Before NumPy is imported: on arrays as small as a test's, BLAS's own threads cost many times what they bring.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import Phase, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the package is imported; the tests of the hub have a server of their own

# A gradient check of a random point is not clearer at a smaller one, and shrinking it takes minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
settings.register_profile("dev", max_examples=25, deadline=None, phases=PHASES)
# The same examples in every run, so that a change is judged by what it changes.
settings.register_profile(
    "ci", max_examples=40, deadline=None, phases=PHASES, derandomize=True, database=None, print_blob=True
)
settings.register_profile("nightly", max_examples=1000, deadline=None, phases=PHASES, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_collection_finish() -> None:
    """What is there now stays to the end: no collection of garbage need go through it again."""
    gc.collect()
    gc.freeze()
