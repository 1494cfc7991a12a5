"""To study with.

exercises/   the forward is given, and the backward is to be written and is judged by npora.check
site/        the pages of `npora study`: each derivation beside its code
"""
