"""APGD with cross-entropy, 100 steps, against torchattacks.

pytest -m benchmark tests/benchmarks/test_apgd.py
"""

import pytest
import torchattacks

from pytest_cnnaudit.attacks.apgd import apgd

pytestmark = pytest.mark.benchmark

LIMIT = 0.85  # of the floor


@pytest.mark.parametrize("eps", [0.5 / 255, 1 / 255])
def test_apgd_is_as_strong_with_half_the_passes(bench, show, eps):
    job = bench("resnet20_model", 128)

    def by_torchattacks(model):
        return torchattacks.APGD(model, eps=eps, steps=100, seed=0)(job.images, job.labels)

    theirs = job.theirs(by_torchattacks)
    fast = job.model.fast(job.images)  # once for all attacks of an audit
    mine = job.ours(lambda: apgd(fast, job.images, job.labels, eps=eps, steps=100, at_once=64), LIMIT)
    for name, spent in {"torchattacks": theirs, "pytest-cnnaudit": mine}.items():
        show(f"APGD-CE 100 {eps * 255:g}/255, {name}", spent, f"robust {job.accuracy(spent.result):.3f}")

    assert float((mine.result - job.images).abs().max()) <= eps + 1e-6
    assert job.accuracy(mine.result) <= job.accuracy(theirs.result)
    assert mine.passes <= theirs.passes / 2
    assert mine.over_floor <= LIMIT
