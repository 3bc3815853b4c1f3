"""The curriculum: schedules and the controller's decisions on histories written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgr.rlhf import curriculum
from fgr.rlhf.curriculum import AuditPoint, CurriculumState, StageSchedule

FIXED = StageSchedule("paper", 0, 2, lengths=(10, 20, 30))
SETTINGS = {"window": 3, "plateau": 0.02, "least_steps": 20, "jitter": 10.0, "drawdown": 1.0, "rollbacks": 1}
LAST = 2  # stage


def decided(state: CurriculumState, history: list[AuditPoint]) -> curriculum.Decision:
    return curriculum.next_action(state, history, LAST, **SETTINGS)


def points(*pairs: tuple[float, float], stage: int = 0, every: int = 10) -> list[AuditPoint]:
    """Audits `every` steps with these (reward, held_out)."""
    return [AuditPoint(number * every, stage, reward, held_out) for number, (reward, held_out) in enumerate(pairs)]


def run_fixed(schedule: StageSchedule, steps: int) -> list[int]:
    state, stages = CurriculumState(schedule.first), []
    for step in range(steps):
        if curriculum.is_due(schedule, state, step):
            state = curriculum.advance(state, step)
        stages.append(state.stage)
    return stages


def test_the_papers_schedule_gives_each_stage_its_steps_and_the_last_the_rest():
    assert run_fixed(FIXED, 80) == [0] * 10 + [1] * 20 + [2] * 50


def test_direct_training_stays_in_its_stage():
    assert run_fixed(StageSchedule("none", 2, 2), 5) == [2] * 5


@given(st.integers(1, 8), st.integers(0, 500))
def test_equal_lengths_add_up_and_differ_by_one_at_most(stages, more):
    lengths = curriculum.equal_lengths(stages, stages + more)
    assert sum(lengths) == stages + more
    assert max(lengths) - min(lengths) <= 1
    assert list(lengths) == sorted(lengths)


def test_fewer_steps_than_stages_are_refused():
    with pytest.raises(ValueError, match="are not enough"):
        curriculum.equal_lengths(3, 2)


def test_a_stage_fades_in_smoothly_and_at_once_where_it_should():
    blend, state = StageSchedule("blend", 0, 2, lengths=(10, 10, 10), blend_steps=4), CurriculumState(1, since=10)
    shares = [curriculum.blend_share(blend, state, step) for step in range(10, 16)]
    assert shares == pytest.approx([0.15625, 0.5, 0.84375, 1.0, 1.0, 1.0])
    assert curriculum.blend_share(blend, CurriculumState(0), 0) == 1.0  # nothing to fade from
    assert curriculum.blend_share(FIXED, state, 10) == 1.0


def test_the_rate_rises_again_over_a_quarter_of_the_fade():
    blend = StageSchedule("blend", 0, 2, lengths=(10, 10, 10), blend_steps=8)
    assert [curriculum.lr_factor(blend, CurriculumState(1, since=10, lr_factor=0.5), step) for step in (10, 11, 12)] == [
        0.25,
        0.5,
        0.5,
    ]
    assert curriculum.lr_factor(FIXED, CurriculumState(1, since=10), 10) == 1.0


def test_it_stays_until_there_are_audits_enough():
    rising = points((0, 0), (1, 0.0))
    assert decided(CurriculumState(0), rising).action == "stay"


def test_it_advances_on_a_plateau_of_the_held_out_metrics():
    decision = decided(CurriculumState(0), points((0, 0), (0.5, 0.01), (1, 0.01)))
    assert decision.action == "advance"
    assert decision.reason == "the held-out metrics no longer gain"
    assert decision.evidence["held_out_trend"] == pytest.approx(0.005)
    assert decision.evidence["reward_trend"] == pytest.approx(0.5)


def test_it_advances_early_when_reward_and_held_out_metrics_diverge():
    decision = decided(CurriculumState(0), points((0, 0), (0.5, -0.1), (1, -0.2)))
    assert (decision.action, decision.reason) == ("advance", "the stage's reward rises while the held-out metrics fall")


def test_it_stays_while_the_held_out_metrics_gain():
    assert decided(CurriculumState(0), points((0, 0), (0.5, 0.1), (1, 0.2))).action == "stay"


def test_it_slows_down_when_the_reward_swings():
    swinging = points((0, 0), (3, 0.1), (0.0, 0.2))
    decision = decided(CurriculumState(0), swinging)
    assert decision.action == "slow"
    slowed = curriculum.slow_down(CurriculumState(0), 20)
    assert (slowed.lr_factor, slowed.since) == (0.5, 20)
    assert decided(CurriculumState(0, lr_factor=curriculum.SLOWEST), swinging).action == "stay"


def test_the_last_stage_is_not_left():
    flat = points((0, 0), (0.5, 0.0), (1, 0.0), stage=2)
    assert decided(CurriculumState(2), flat).action == "stay"


def test_a_new_stage_has_a_trend_of_its_own_audits():
    old = points((0, 0), (0.5, 0), (1, 0))
    assert decided(CurriculumState(1, since=20), [*old, AuditPoint(30, 1, 0.1, 0.0)]).action == "stay"


def test_a_deep_fall_rolls_back_and_then_ends_the_run():
    fallen = points((0, 0), (0.5, 0.3), (1, -0.9))
    decision = decided(CurriculumState(0), fallen)
    assert decision.action == "rollback"
    assert decision.evidence == {"fall": pytest.approx(1.2), "allowed": 1.0}
    back = curriculum.roll_back(CurriculumState(1, since=20), 30, stage=0)
    assert (back.stage, back.since, back.lr_factor, back.rollbacks) == (0, 30, 0.5, 1)
    assert decided(back, fallen).action == "stop"


def test_the_trend_is_the_median_slope_and_does_not_heed_an_outlier():
    assert curriculum.trend([0, 1, 2, 3, 100]) == 1.0
    assert curriculum.trend([5.0]) == 0.0


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.floats(-3, 3), st.floats(-3, 3))
def test_the_trend_follows_shift_and_slope(values, shift, slope):
    tilted = [value + shift + slope * number for number, value in enumerate(values)]
    assert curriculum.trend(tilted) == pytest.approx(curriculum.trend(values) + slope, abs=1e-6)
