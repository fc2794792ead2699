"""Whether a change of a figure, measured twice on the same samples, may be chance.

Null hypothesis of all tests: for each sample it is chance which of its two values came first and which last. The p
value is one-sided: how likely a change as large, in the same direction, is then. How often each test calls a change
that is none, and finds one that is there, is measured in tests/baselines/test_chance.py. That chose them: the paired
percentile bootstrap calls 9% of the changes of a mean of 8 values real, where none is and 5% are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.baselines.values import Values, compute, group_size

LEVEL = 0.05
"""A change is beyond chance below this p value."""

_EXACT = 13  # changed samples, up to which all ways to exchange them are tried
_DRAWS = 9999
_NUMBERS = 2_000_000  # at a time


@dataclass(frozen=True, slots=True)
class Chance:
    """The p value of a test, and its name."""

    name: str
    p: float

    def __str__(self) -> str:
        return f"{self.name}, p {'< 0.0001' if self.p < 0.0001 else f'= {self.p:.2g}'}"


def paired_test(before: Values, now: Values, statistic: str, *, rising: bool) -> Chance:
    """Whether a change of a statistic may be chance.

    Args:
        before: the value of each sample then, without NaN.
        now: of the same samples, in the same order.
        statistic: of the values; see `values`.
        rising: whether its rise is in question, or its fall.

    >>> print(paired_test(np.ones(20, bool), np.arange(20) >= 6, "share", rising=False))
    exact McNemar test, p = 0.016
    """
    group = group_size(statistic)
    if group > 1:
        before, now, statistic = (*(each.reshape(-1, group).mean(1) for each in (before, now)), "mean")
    if statistic in ("share", "mean") and all(np.isin(each, (0, 1)).all() for each in (before, now)):
        return Chance("exact McNemar test", _mcnemar(before.astype(bool), now.astype(bool), rising=rising))
    if statistic in ("median", "quantile 0.5"):
        return Chance("Wilcoxon signed-rank test", _wilcoxon(changes(before, now), rising=rising))
    return Chance("paired permutation test", _permutation(before, now, statistic, rising=rising))


def changes(before: Values, now: Values) -> NDArray[np.float64]:
    """Now less before; from infinity to infinity nothing changes."""
    with np.errstate(invalid="ignore"):
        return np.where(before == now, 0.0, np.subtract(now, before, dtype=np.float64))


def _change(before: Values, now: Values, statistic: str) -> float:
    return float(changes(compute(statistic, before), compute(statistic, now)))


def _mcnemar(before: NDArray[np.bool_], now: NDArray[np.bool_], *, rising: bool) -> float:
    """McNemar 1947, exact: of the samples that changed, as many are lost as are gained."""
    lost, gained = int((before & ~now).sum()), int((now & ~before).sum())
    if not lost + gained:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(gained if rising else lost, lost + gained, alternative="greater").pvalue)


def _wilcoxon(change: NDArray[np.float64], *, rising: bool) -> float:
    """Wilcoxon 1945; infinite changes are the largest, and samples that did not change do not count."""
    change = change[change != 0]
    if not len(change):
        return 1.0
    from scipy import stats

    signed = np.sign(change) * stats.rankdata(np.abs(change))  # of the same ranks, and finite
    return float(stats.wilcoxon(signed, alternative="greater" if rising else "less").pvalue)


def _permutation(before: Values, now: Values, statistic: str, *, rising: bool) -> float:
    """Fisher 1935 ("The Design of Experiments", section 21): exchange then and now, sample by sample.

    All ways of it, or so many drawn from a fixed seed.
    """
    before, now = before.astype(np.float64), now.astype(np.float64)
    found = _change(before, now, statistic)
    as_large = total = 0
    for exchanged in _exchanges(before != now):
        then, later = np.where(exchanged, now, before), np.where(exchanged, before, now)
        change = changes(compute(statistic, then), compute(statistic, later))
        beyond = change >= found if rising else change <= found
        as_large += int((beyond | np.isclose(change, found, rtol=1e-9, atol=0)).sum())
        total += len(change)
    everything = int((before != now).sum()) <= _EXACT
    return as_large / total if everything else (as_large + 1) / (total + 1)


def _exchanges(changed: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Which samples to exchange: rows of bools, some at a time."""
    n, places = len(changed), np.flatnonzero(changed)
    rows = max(_NUMBERS // n, 1)
    if len(places) <= _EXACT:
        for begin in range(0, 2 ** len(places), rows):
            numbers = np.arange(begin, min(begin + rows, 2 ** len(places)))
            exchanged = np.zeros((len(numbers), n), bool)
            exchanged[:, places] = numbers[:, None] >> np.arange(len(places)) & 1
            yield exchanged
        return
    rng, left = np.random.default_rng(0), min(_DRAWS, max(999, 100_000_000 // n))
    while left > 0:
        yield rng.random((min(rows, left), n), dtype=np.float32) < 0.5
        left -= rows
