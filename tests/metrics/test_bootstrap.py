from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_lstsr.errors import ConfigError
from keras_lstsr.metrics.bootstrap import (
    Interval,
    bootstrap_interval,
    paired_difference_interval,
)


def test_two_groups_give_their_own_values():
    # Of two groups a draw is one, the other or both; at t of one degree of freedom the ends are
    # the extremes.
    interval = bootstrap_interval([1.0, 1.0, 4.0], ["a", "a", "b"])
    assert interval == Interval(mean=2.0, low=1.0, high=4.0, level=0.95)


def test_means_are_of_all_values_not_of_groups():
    interval = bootstrap_interval([0.0] * 9 + [10.0], ["a"] * 9 + ["b"], resamples=50)
    assert interval.mean == 1.0
    assert (interval.low, interval.high) == (0.0, 10.0)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_many_values_give_the_normal_interval(level):
    values = np.random.default_rng(3).normal(5, 2, 2000)
    interval = bootstrap_interval(values, level=level, resamples=20_000)
    half = stats.norm.ppf(0.5 + level / 2) * values.std() / np.sqrt(2000)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_few_values_give_nearly_the_student_interval():
    values = np.random.default_rng(5).normal(5, 2, 12)
    interval = bootstrap_interval(values, resamples=20_000)
    half = stats.t.ppf(0.975, 11) * stats.sem(values)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    trials, groups, members = 400, 12, 5
    covered = naive_covered = 0
    for trial in range(trials):
        # Values of a group share a shift that is larger than their own scatter.
        values = (rng.normal(0, 1, (groups, 1)) + rng.normal(0, 0.5, (groups, members))).ravel()
        names = np.repeat(np.arange(groups), members)
        interval = bootstrap_interval(values, names, resamples=600, seed=trial)
        naive = bootstrap_interval(values, resamples=600, seed=trial)
        covered += interval.low <= 0 <= interval.high
        naive_covered += naive.low <= 0 <= naive.high
    # 95 % of 400 with a standard deviation of 1.1 %.
    assert 0.915 <= covered / trials <= 0.985
    assert naive_covered / trials < 0.75


def test_groups_of_identical_values_have_no_width():
    interval = bootstrap_interval([0.1] * 7, ["a", "a", "a", "b", "c", "c", "d"])
    assert interval.low == interval.mean == interval.high


def test_repeating_each_value_in_its_group_changes_nothing():
    values = np.random.default_rng(2).normal(0, 1, 15)
    once = bootstrap_interval(values)
    thrice = bootstrap_interval(np.repeat(values, 3), np.repeat(np.arange(15), 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-50, 50), st.sampled_from("abcde")), min_size=2, max_size=40),
    st.floats(0.5, 0.99),
)
def test_stays_within_the_groups_means(rows, level):
    values = np.array([value for value, _ in rows])
    groups = [group for _, group in rows]
    interval = bootstrap_interval(values, groups, level=level, resamples=200)
    assert interval.mean == pytest.approx(values.mean())
    if len(set(groups)) < 2:
        assert np.isnan([interval.low, interval.high]).all()
        return
    means = [values[[g == group for g in groups]].mean() for group in set(groups)]
    assert min(means) - 1e-9 <= interval.low <= interval.high <= max(means) + 1e-9


def test_not_finite_scores_are_left_out_with_their_groups():
    values = [1.0, np.nan, 4.0, np.inf]
    assert bootstrap_interval(values, ["a", "a", "b", "c"]) == bootstrap_interval(
        [1.0, 4.0], ["a", "b"]
    )
    empty = bootstrap_interval([np.nan], ["a"])
    assert np.isnan([empty.mean, empty.low, empty.high]).all()
    assert np.isnan(bootstrap_interval([]).mean)


def test_the_seed_decides():
    values = np.random.default_rng(4).normal(0, 1, 30)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)


def test_many_groups_are_drawn_in_parts():
    values = np.random.default_rng(6).normal(0, 1, 20_000)
    interval = bootstrap_interval(values, resamples=500)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / np.sqrt(20_000), rel=0.2)


class TestPairedDifference:
    def test_what_the_images_share_cancels(self):
        rng = np.random.default_rng(7)
        difficulty = rng.normal(2, 1, 40)
        first = difficulty + rng.normal(0, 0.05, 40)
        second = difficulty - 0.1 + rng.normal(0, 0.05, 40)
        difference = paired_difference_interval(first, second)
        assert difference.mean == pytest.approx(np.mean(first - second))
        assert 0 < difference.low < 0.1 < difference.high < 0.2
        own = [bootstrap_interval(scores) for scores in (first, second)]
        assert own[0].low < own[1].high

    def test_swapped_it_is_mirrored(self):
        a, b = np.random.default_rng(8).normal(0, 1, (2, 25))
        forward, back = paired_difference_interval(a, b), paired_difference_interval(b, a)
        assert (back.mean, back.low, back.high) == pytest.approx(
            (-forward.mean, -forward.high, -forward.low)
        )

    def test_pairs_without_both_scores_are_left_out(self):
        interval = paired_difference_interval(
            [1.0, np.inf, 5.0, 2.0], [0.0, np.inf, 1.0, np.nan], ["a", "b", "c", "d"]
        )
        assert (interval.mean, interval.low, interval.high) == (2.5, 1.0, 4.0)

    def test_of_different_lengths_is_refused(self):
        with pytest.raises(ConfigError, match="differ in number"):
            paired_difference_interval([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"groups": ["a"]}, "2 scores and 1 groups"),
        ({"level": 1.0}, "level"),
        ({"resamples": 0}, "resamples"),
    ],
)
def test_bad_arguments_are_refused(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        bootstrap_interval([1.0, 2.0], **arguments)


def test_a_table_is_no_list_of_scores():
    with pytest.raises(ConfigError, match=r"\(2, 2\)"):
        bootstrap_interval(np.zeros((2, 2)))
