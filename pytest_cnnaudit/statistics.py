"""Intervals and verdicts, over scipy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.results import Metric


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """95% Wilson score interval of `count` out of `n` (Wilson 1927; Brown, Cai & DasGupta 2001 on why).

    >>> [round(end, 3) for end in proportion_interval(158, 512)]
    [0.27, 0.35]
    """
    from scipy import stats  # a second to import, which a run that knows its results saves

    interval = stats.binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    values: NDArray[np.floating], statistic: str = "mean", *, resamples: int = 2000
) -> tuple[float, float] | None:
    """95% bootstrap interval of the mean or median, percentile method (Efron & Tibshirani 1993, chapter 13).

    The draw is fixed: the same values give the same interval. None for fewer than two values.
    """
    if len(values) < 2:
        return None
    from scipy import stats

    functions: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median}
    result = stats.bootstrap(
        (np.asarray(values, dtype=np.float64),),
        functions[statistic],
        n_resamples=resamples,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(0),
        batch=256,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def share(
    values: NDArray[np.bool_],
    *,
    name: str,
    help: str = "",
    story: tuple[str, ...] = (),
    higher_is_better: bool | None = True,
    of: str = "sample",
    column: str = "",
) -> Metric:
    """The share of True among `values`, with its Wilson interval; NaN where there are none.

    `column` is what the measurement calls these values, where it keeps them per sample; so in `mean` and `quantile`.
    """
    n, count = len(values), int(np.sum(values))
    return Metric(
        count / n if n else math.nan,
        name=name,
        n=n,
        of=of,
        count=count,
        ci95=proportion_interval(count, n) if n else None,
        higher_is_better=higher_is_better,
        bounds=(0, 1),
        help=help,
        story=story,
        column=column,
        statistic="share" if column else "",
    )


def mean(
    values: NDArray[np.floating],
    *,
    name: str,
    help: str = "",
    story: tuple[str, ...] = (),
    higher_is_better: bool | None = True,
    bounds: tuple[float, float] | None = (0, 1),
    groups: NDArray[np.integer] | None = None,
    column: str = "",
) -> Metric:
    """The mean of `values`, with its bootstrap interval; NaN where there are none.

    Values of one group depend on each other, so whole groups are drawn for the interval (a cluster bootstrap of the
    groups' means). For a `column` they must follow each other, and be equally large.
    """
    drawn = values
    if groups is not None and len(values):
        drawn = np.array([values[groups == group].mean() for group in np.unique(groups)])
    statistic = _mean_over(groups) if column else ""
    return Metric(
        float(np.mean(values)) if len(values) else math.nan,
        name=name,
        n=len(values),
        ci95=bootstrap_interval(drawn),
        higher_is_better=higher_is_better,
        bounds=bounds,
        help=help,
        story=story,
        column=column if statistic else "",
        statistic=statistic,
    )


def _mean_over(groups: NDArray[np.integer] | None) -> str:
    if groups is None or not len(groups):
        return "mean"
    size = int(np.sum(groups == groups[0]))
    apart = groups[::size]
    evenly = len(groups) % size == 0 and np.array_equal(np.repeat(apart, size), groups)
    return f"mean over groups of {size}" if evenly and len(np.unique(apart)) == len(apart) else ""


def is_decided(total: float, done: int, n: int, at_least: float) -> bool:
    """Whether the mean of `n` values in [0, 1] is already known to reach `at_least`, or to miss it.

    Args:
        total: the sum of the values seen so far.
        done: how many have been seen.
        n: how many there will be.
        at_least: the threshold for the mean of all `n`.

    >>> is_decided(35, 60, 100, 0.35), is_decided(0, 66, 100, 0.35), is_decided(0, 65, 100, 0.35)
    (True, True, False)
    """
    if float(total).is_integer():  # hits: exactly the comparison that comes at the end
        return total / n >= at_least or (total + (n - done)) / n < at_least
    slack = 1e-9  # the sum of shares depends on its order; within rounding of the threshold nothing is certain
    return total / n >= at_least + slack or (total + (n - done)) / n < at_least - slack


def rank(q: float, n: int) -> int:
    """Which of `n` values in order is their quantile `q`, counted from 1: the least k with k / n ≥ q.

    >>> rank(0.5, 5), rank(0.05, 10), rank(0.07, 100)  # 0.07 * 100 is above 7 in floating point
    (3, 1, 7)
    """
    k = max(math.ceil(q * n) - 1, 1)
    while k / n < q:
        k += 1
    return k


def quantile(
    values: NDArray[np.floating],
    q: float,
    *,
    name: str,
    help: str = "",
    story: tuple[str, ...] = (),
    higher_is_better: bool | None = True,
    least: float = -math.inf,
    column: str = "",
) -> Metric:
    """The smallest value that at least the share `q` of `values` does not exceed; infinite ones are values, too.

    Its interval lies between order statistics: how many values fall below the quantile of the population is binomial
    (Conover 1999, "Practical Nonparametric Statistics", section 3.2). So it needs no assumption on the distribution.
    Where the values are too few to bound it on a side, it is open there: its end is `least`, the smallest value that
    there can be, or infinity. NaN, and no interval, where there are no values.

    >>> quantile(np.arange(9.0), 0.5, name="median")
    median 4.00 (95% CI 1.00 to 7.00, n 9)
    >>> quantile(np.arange(9.0), 0.75, name="75% quantile")
    75% quantile 6.00 (95% CI 3.00 to inf, n 9)
    """
    ordered, n = np.sort(values), len(values)
    if not n:
        return Metric(math.nan, name=name, help=help, story=story, higher_is_better=higher_is_better)
    from scipy import stats

    fewest, most = (int(stats.binom.ppf(p, n, q)) for p in (0.025, 0.975))  # values below the population's quantile
    return Metric(
        float(ordered[rank(q, n) - 1]),
        name=name,
        n=n,
        ci95=(float(ordered[fewest - 1]) if fewest else least, float(ordered[most]) if most < n else math.inf),
        higher_is_better=higher_is_better,
        help=help,
        story=story,
        column=column,
        statistic=f"quantile {q:g}" if column else "",
    )
