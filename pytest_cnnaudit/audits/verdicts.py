"""Which samples to attack next, when all that is asked is whether enough of them hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_cnnaudit.attacks.cascade import Bound
from pytest_cnnaudit.audits.attacked import BATCHES, Attacked
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.samples import Samples
from pytest_cnnaudit.sequential import confidence_sequence, sequential_verdict
from pytest_cnnaudit.statistics import is_decided, proportion_interval, rank


class Verdict(NamedTuple):
    """What was found until the verdict.

    Attributes:
        found: of the samples that were attacked.
        holds: which of them count as robust.
        n: the number of samples that they are counted of.
        interval: of their share.
        stopped: how it was stopped, for people; empty where every sample has met every attack.
    """

    found: Part
    holds: NDArray[np.bool_]
    n: int
    interval: tuple[float, float]
    stopped: str = ""

    @property
    def held(self) -> int:
        """How many count as robust."""
        return int(self.holds.sum())


def of_all(found: Part) -> Verdict:
    """The verdict where every sample has met every attack."""
    return Verdict(found, found["robust"], len(found), proportion_interval(int(found["robust"].sum()), len(found)))


def until_certain(engine: Engine, samples: Samples, step: Attacked, at_least: float, *, title: str) -> Verdict:
    """Attack until it is certain for these samples whether the share that holds reaches `at_least`.

    First every sample meets the first attack alone, the cheapest: mostly that is enough to fail. The others are for as
    many of those that still stand as are needed to pass, the ones with the largest margins first: they are the
    likeliest to hold. Never more samples are attacked at a time than the verdict takes in any case, but for those that
    fill an accelerator.
    """
    n, fewest = len(samples), _fewest_at_a_time(engine, samples)
    needed = rank(at_least, n) if at_least else 0
    sole = len(step.cascade) == 1

    def attacked(cascade: Sequence[Bound], number: int, chosen: NDArray[np.int64]) -> Part:
        part = engine.measure(
            samples[chosen], replace(step, cascade=cascade, first=number), title=title, batches=BATCHES
        )
        part = part.at(chosen)
        through = number + len(cascade) == len(step.cascade)
        return part if through else part.with_column("settled", ~part["robust"]).without_rows("robust")

    queue = np.arange(n)
    found = attacked(step.cascade[:1], 0, queue[:fewest])
    queue = queue[fewest:]
    while (count := _before_a_verdict(found, needed, n, passing=sole)) and len(queue):
        chosen, queue = np.split(queue, [max(count, fewest)])
        found = found.merge(attacked(step.cascade[:1], 0, chosen))

    open_ones = ~found["settled"]
    queue = found.positions[open_ones][np.argsort(-found["margin"][open_ones], kind="stable")]
    while (count := _before_a_verdict(found, needed, n, passing=True)) and len(queue):
        chosen, queue = np.split(queue, [max(count, fewest)])
        found = found.updated(attacked(step.cascade[1:], 1, np.sort(chosen)))
    return _certain(found, needed, n)


def _fewest_at_a_time(engine: Engine, samples: Samples) -> int:
    """On a CPU a pass of one sample costs a sample's share; on an accelerator as much as a pass of many."""
    return 1 if engine.device.type == "cpu" else engine.at_once(samples)


def _tally(found: Part) -> tuple[int, int]:
    """How many have held against every attack, and how many have been fooled or were wrong from the start."""
    return int((found["robust"] & found["settled"]).sum()), int((~found["robust"]).sum())


def _before_a_verdict(found: Part, needed: int, n: int, *, passing: bool) -> int:
    """How many more samples it takes at least until `needed` of `n` hold (if `passing`) or cannot any more."""
    held, fooled = _tally(found)
    to_pass, to_fail = needed - held, n - needed + 1 - fooled
    return max(min(to_pass, to_fail) if passing or to_pass <= 0 else to_fail, 0)


def _certain(found: Part, needed: int, n: int) -> Verdict:
    held, fooled = _tally(found)
    if held + fooled == n:
        return of_all(found)
    spared = len(found) - held - fooled
    stopped = "stopped as soon as the verdict was certain: "
    stopped += f"after {len(found)} of {n} samples, {held} held and {fooled} did not"
    if spared:
        stopped += f"; {spared} more stood when they were spared the other attacks"
    if held >= needed:  # a robust accuracy is never overstated: what was not settled counts as fooled
        interval = proportion_interval(held, n)[0], proportion_interval(n - fooled, n)[1]
        stopped += f". The figure counts only what held, of all {n}"
        return Verdict(found, found["robust"] & found["settled"], n, interval, stopped)
    return of_all(found)._replace(stopped=stopped)


def _block(engine: Engine, samples: Samples) -> int:
    """After how many samples the verdict is asked for: the same on every device and in batches of any size."""
    return max(replace(engine, batch_size=None, device=torch.device("cpu")).at_once(samples) // 8, 8)


def until_confident(
    engine: Engine, samples: Samples, step: Attacked, at_least: float, confidence: float, *, title: str
) -> Verdict:
    """Attack samples in random order until the verdict is decided with `confidence` for their population.

    Waudby-Smith & Ramdas 2024, see `sequential_verdict`: it may be asked for after every block. A verdict that the rest
    of its block contradicts waits until the share found is on its side again. Where the samples run out before, the
    verdict is the exact one on all of them. Where it stops follows from the seed, whatever batch size and device.
    """
    if not 0 < confidence < 1:
        raise AuditError(f"confidence={confidence} is not a probability between 0 and 1; 0.95 is usual.")
    n = len(samples)
    order = np.random.default_rng(engine.draw_seed()).permutation(n)
    block = _block(engine, samples)
    found: Part | None = None
    held: NDArray[np.bool_] = np.zeros(0, dtype=bool)
    while len(held) < n:
        chosen = order[len(held) : len(held) + block]
        places = np.sort(chosen)
        part = engine.measure(samples[places], step, title=title).at(places)
        held = np.concatenate([held, part["robust"][np.searchsorted(places, chosen)]])  # in the order drawn
        found = part if found is None else found.merge(part)
        if is_decided(held.sum(), len(held), n, at_least):
            break
        if sequential_verdict(held, at_least, confidence) == ("above" if held.mean() >= at_least else "below"):
            break
    if found is None:
        raise AuditError(f"There are no samples to measure in {samples.source}.")
    if len(held) == n:
        return of_all(found)
    low, high = confidence_sequence(held, confidence)
    stopped = (
        f"stopped after {len(held)} of {n} samples in random order: with {confidence:.0%} confidence the robust "
        f"accuracy is between {low:.2f} and {high:.2f} where these samples come from"
    )
    return of_all(found)._replace(interval=confidence_sequence(held, 0.95), stopped=stopped)
