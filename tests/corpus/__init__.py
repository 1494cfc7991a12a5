"""Functions with pullbacks that are known to be right, and with ones that are known to be wrong. See __main__."""

import importlib
import pkgutil

from tests.corpus.case import RIGHT, WRONG

# Right ones come first by name, and wrong ones refer to them.
for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    if _module.startswith(("right_", "wrong_")):
        importlib.import_module(f"{__name__}.{_module}")

__all__ = ["RIGHT", "WRONG"]
