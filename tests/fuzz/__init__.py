"""Files made wrong on purpose: each is read, or refused with a ValueError or an OSError that names it, within bounds.

`python -m tests.fuzz --files 20000 --seed 0` tries many; the usual suite tries 500.

    subjects.py    small files of each kind that are right, and what reads them
    mutations.py   what is changed in them
    judge.py       what came of it: read, refused, or one of the faults that there must be none of
"""
