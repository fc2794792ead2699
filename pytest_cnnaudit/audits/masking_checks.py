"""The checklist against gradient masking: what each check counts, how much of it is noise, and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pytest_cnnaudit.engine import Part
from pytest_cnnaudit.results import Metric
from pytest_cnnaudit.statistics import share

_RATE = 0.01
"""Share of samples that honest attacks miss now and then. (Of 487 on a network without defence and on an adversarially
trained one, in two norms, at radii that left some standing: 1 was lost by taking more steps, none to Square or noise.)
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One sign of gradient masking: its figure, the limit, and one sentence that says what it means and what to do."""

    name: str
    metric: Metric
    limit: float
    passed: bool
    meaning: str

    @property
    def column(self) -> str:
        """The name of its figure, and of its column in `per_sample`."""
        return column(self.name)


class _Sign(NamedTuple):
    """What a check looks for. `certain`: a single sample is proof; otherwise as many as chance explains are allowed."""

    name: str
    figure: str
    help: str
    meaning: str
    certain: bool
    attacked: bool


def judge(found: Part, setting: str, *, steps: int, queries: int, noises: int) -> tuple[Check, ...]:
    """The checks on what was found, in order.

    Args:
        found: a column of bools for each check, and ``correct`` and ``gained``.
        setting: norm, radius and seed, for people.
        steps: of the longer PGD.
        queries: of Square.
        noises: draws of noise for each sample.
    """
    checks = []
    for sign in _signs(steps, queries, noises):
        values = found[column(sign.name)]
        values = values[found["correct"]] if sign.attacked else values
        metric = share(
            values,
            name=sign.figure,
            help=sign.help,
            story=(f"check: {sign.name} ({setting})", sign.meaning),
            higher_is_better=False,
        )
        limit = 0.0 if sign.certain else by_chance(len(values))
        if sign.name == "more steps":  # where draws decide, as many are lost as gained
            limit += float(found["gained"][found["correct"]].mean())
        checks.append(Check(sign.name, metric, limit, float(metric) <= limit, sign.meaning))
    return tuple(checks)


def column(name: str) -> str:
    """The name of a check as an identifier.

    >>> column("black box"), column("test-time optimisation")
    ('black_box', 'test_time_optimisation')
    """
    return name.replace(" ", "_").replace("-", "_")


def by_chance(n: int) -> float:
    """The share of `n` samples that chance exceeds in one audit of a hundred, if it strikes one sample of a hundred.

    >>> [round(by_chance(n) * n) for n in (8, 32, 64, 500)]
    [1, 2, 3, 11]
    """
    from scipy import stats

    return float(stats.binom.ppf(0.99, n, _RATE)) / n


def _signs(steps: int, queries: int, noises: int) -> tuple[_Sign, ...]:
    return (
        _Sign(
            "unbounded attack",
            "standing after an unbounded attack",
            "Share of the correctly classified samples that PGD does not fool though every image is in reach.",
            "An attack that may change every pixel at will can always succeed; if it does not, the gradient leads "
            "it astray: find what breaks the gradient, and attack the model with a stand-in for that (BPDA).",
            certain=True,
            attacked=True,
        ),
        _Sign(
            "more steps",
            "lost by taking more steps",
            f"Share of the correctly classified samples that {steps // 5} steps of PGD fool, and {steps} do not.",
            "More steps should not fool fewer samples: the loss is too rugged to climb, so attack with more restarts, "
            "a smooth stand-in for the layer that makes it so, or without gradients.",
            certain=False,
            attacked=True,
        ),
        _Sign(
            "black box",
            "fooled by Square alone",
            f"Share of the correctly classified samples that {queries} queries of Square fool, and no gradient does.",
            "A search that knows nothing of the network should not find more than the gradient does: accuracy under "
            "gradient attacks is too high here, so judge the model by Square too, and find what hides the gradient.",
            certain=False,
            attacked=True,
        ),
        _Sign(
            "random noise",
            "fooled by noise alone",
            f"Share of the correctly classified samples that one of {noises} draws of noise fools, no gradient.",
            "Noise of the same size should not find more than the gradient does: the gradient points nowhere useful, "
            "so accuracy under gradient attacks means nothing until that is mended.",
            certain=False,
            attacked=True,
        ),
        _Sign(
            "zero gradients",
            "samples without a gradient",
            "Share of the samples whose input gradient (of the log-odds) is zero everywhere, or not finite somewhere.",
            "Without a gradient an attack stays where it is: look for rounding, sign, argmax, detach() or a division "
            "by zero in forward, and attack with a differentiable stand-in (BPDA) or with Square.",
            certain=True,
            attacked=False,
        ),
        _Sign(
            "saturated loss",
            "samples with a saturated loss",
            "Share of the correctly classified samples whose cross-entropy has no gradient although their log-odds do.",
            "The logits are so far apart that cross-entropy underflows: the attacks of this package climb the "
            "log-odds, but those of others stand still: divide the logits by a temperature before attacking elsewhere.",
            certain=True,
            attacked=True,
        ),
        _Sign(
            "randomised forward",
            "samples with two answers",
            "Share of the samples whose logits differ between two passes.",
            "The model draws random numbers, so an attack climbs one draw and is judged by another: pass eot=20 to "
            "attack the mean of 20 passes, or take the randomness out.",
            certain=True,
            attacked=False,
        ),
        _Sign(
            "softmax output",
            "outputs that are probabilities",
            "Share of the samples whose outputs are all in [0, 1] and add up to 1.",
            "The model returns probabilities, whose gradient vanishes where it is sure: return the logits, or pick "
            "them with output= of AuditModel.",
            certain=False,  # two logits may add up to 1
            attacked=False,
        ),
        _Sign(
            "test-time optimisation",
            "samples optimised in forward",
            "Share of the samples for which forward runs a backward pass of its own.",
            "The model adapts to each input while it classifies, so standard attacks overstate it: attack through the "
            "whole inner loop, or with an attack made for this defence.",
            certain=True,
            attacked=False,
        ),
    )
