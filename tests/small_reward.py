"""Keys that leave a reward recipe a step a stage, and what a run logged."""

from fgr.training import directory as runs

TIMINGS = ("step_s", "wait_s")
SMALL = ("data.crop=48", "data.batch=2", "stages=[1, 1]", "base.steps=1", "data.validation=2", "data.workers=0")


def losses(directory):
    """The lines of a run's metrics.jsonl without the times that steps took: equal for equal trainings."""
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in runs.metrics(directory)]
