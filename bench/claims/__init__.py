"""The paper's three claims, tested with reward models as the unit of chance: `python -m bench.claims run PHOTOGRAPHS`.

protocol.yaml   what is done, measured and concluded, fixed before the first run; protocol.py reads it, strictly
plan.py         the protocol as jobs: records with what they need, and how long they take; pool.py works them off and resumes
jobs.py         what jobs do: photographs, datasets, reward models, tuning; localising.py and judging.py measure
figures.py      from the jobs' files to numbers.json; verdicts.py from numbers to verdicts, pure
repeat.py       some of the jobs once more, and whether the same comes of them
report.py       report.html; page.py docs/claims.md and its pictures
first-protocol.yaml   what came before, as it was run at commit b37d0b6; docs/claims-first.md has its numbers and faults
"""
