"""The paper's three claims, tested with seeds and controls: `python -m bench.claims run PHOTOGRAPHS`.

protocol.yaml   what is done, measured and concluded, fixed before the first run; protocol.py reads it, strictly
plan.py         the protocol as jobs: small records with what they need; pool.py works them off and resumes
jobs.py         what jobs do: photographs, datasets, reward models, tuning; measures.py measures
figures.py      from the run folders' files to numbers.json; verdicts.py from numbers to verdicts, pure
report.py       report.html; page.py docs/claims.md and its pictures
"""
