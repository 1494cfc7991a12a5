"""Which mutants may survive, with the reason, and which files have mutants.

A key is a mutant's name: the function around it, the code, the change. The file stands before it only where another
file has a mutant of the same name.
"""

from __future__ import annotations

# Rows for the tests, and what is said to who asks for help.
LEFT_OUT = ("npora/catalogue/", "npora/__main__.py", "npora/__init__.py")
# The folders whose survivors are all dealt with.
SAMPLED = ("npora/",)

SURVIVORS: dict[str, str] = {}
