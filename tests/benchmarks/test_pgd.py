"""PGD-20 against foolbox and torchattacks, in one run: the same images, model, eps, steps and step size.

    pytest -m benchmark tests/benchmarks/test_pgd.py

Passes are counted in samples through the model. Process time is given over its floor: the time that the same number of
plain forward and input-gradient passes takes in full batches, weights frozen, on one thread.
"""

import foolbox
import pytest
import torchattacks

from pytest_cnnaudit.attacks import pgd

pytestmark = pytest.mark.benchmark

STEPS, COUNT = 20, 128
LIMIT = 0.85  # of the floor


@pytest.mark.parametrize(("eps", "step_size"), [(8 / 255, 2 / 255), (2 / 255, 0.5 / 255)])
def test_pgd_20_finds_the_same_with_a_fraction_of_the_passes_and_of_the_time(bench, show, eps, step_size):
    job = bench("resnet20_model", COUNT)

    def by_foolbox(model):
        attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=STEPS)
        return attack(foolbox.PyTorchModel(model, (0, 1), device="cpu"), job.images, job.labels, epsilons=eps)[1]

    def by_torchattacks(model):
        return torchattacks.PGD(model, eps=eps, alpha=step_size, steps=STEPS)(job.images, job.labels)

    fast = job.model.fast(job.images)  # once for all attacks of an audit

    def by_us():
        return pgd(fast, job.images, job.labels, eps=eps, steps=STEPS, step_size=step_size)

    libraries = {"foolbox": job.theirs(by_foolbox), "torchattacks": job.theirs(by_torchattacks)}
    mine = job.ours(by_us, LIMIT)
    for name, spent in {**libraries, "pytest-cnnaudit": mine}.items():
        show(f"PGD-{STEPS} {eps * 255:g}/255, {name}", spent, f"robust {job.accuracy(spent.result):.3f}")

    assert float((mine.result - job.images).abs().max()) <= eps + 1e-6
    for spent in libraries.values():
        assert job.accuracy(mine.result) <= job.accuracy(spent.result)
        # Time is passes times the price of a pass; both are compared as such, for runs on a noisy machine.
        assert mine.passes * mine.over_floor <= spent.passes * spent.over_floor / 5
    if eps > 4 / 255:
        assert mine.backwards <= 4 * COUNT
    assert mine.over_floor <= LIMIT
