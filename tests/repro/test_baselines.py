"""A regression is shown again on the samples that were lost, beside what these were in the baseline."""

import copy

import numpy as np
import pytest
import torch

from pytest_cnnaudit import Audit, AuditModel, Samples
from pytest_cnnaudit.baselines import Baselines
from pytest_cnnaudit.baselines.entry import values_of
from pytest_cnnaudit.baselines.file import read, update
from pytest_cnnaudit.repro.baselines import lost, narrowed

TEST = "tests/test_audit.py::test_not_worse"


@pytest.fixture(scope="module")
def samples(tiny_samples):
    """Each of the eight images three times."""
    images, labels = torch.stack([each.image for each in tiny_samples]), [each.label for each in tiny_samples]
    ids = [f"{round_}-{number}" for round_ in range(3) for number in range(8)]
    return Samples.from_tensors(images.repeat(3, 1, 1, 1), labels * 3, ids=ids)


@pytest.fixture(scope="module")
def worse_model(tiny_model):
    """Takes top left for top right, and the other way round: wrong about every other pair of images."""
    module = copy.deepcopy(tiny_model.module)
    with torch.no_grad():
        module.linear.weight[[0, 1]] = module.linear.weight[[1, 0]].clone()
    return AuditModel(module, class_names=tiny_model.class_names, name="tiny")


@pytest.fixture
def compared(tmp_path, tiny_model, worse_model, samples):
    """An audit of the worse model, after a comparison with the better one in which it fell short."""

    def compare(ask):
        path = tmp_path / "__cnnaudit__" / "test_audit.json"
        before = Audit(tiny_model, samples, device="cpu", scope=TEST, baselines=Baselines(path, TEST, updating=True))
        ask(before)
        update(path, {TEST: before.baselines.measured})
        now = Audit(worse_model, samples, device="cpu", scope=TEST, baselines=Baselines(path, TEST))
        with pytest.raises(AssertionError, match="worse"):
            ask(now)
        return now

    return compare


def share(audit):
    audit.assert_no_regression(audit.attack(eps=0.03, attack="fgsm"))


def median(audit):
    audit.assert_no_regression(audit.min_perturbation(norm="l2", attack="deepfool"), tolerance=0.01)


@pytest.mark.parametrize("ask", [share, median])
def test_a_regression_fails_again_on_what_was_lost_and_only_on_the_model_that_lost_it(
    ask, compared, leave, tiny_model, worse_model
):
    _, bundle = leave(compared(ask), TEST)
    found = bundle.samples
    assert len(found) == 12 and {sample.label for sample in found} == {0, 1}

    def replay(model):
        ask(Audit(model, found, device="cpu", scope=TEST, baselines=Baselines(bundle.baselines, TEST)))

    with pytest.raises(AssertionError, match="is not worse than the baseline"):
        replay(worse_model)
    replay(tiny_model)  # as the repaired model will


def test_the_baselines_of_a_bundle_are_those_of_its_samples(compared, leave, samples):
    audit = compared(median)
    _, bundle = leave(audit, TEST)
    (whole,) = read(audit.baselines.path)[TEST].values()
    (few,) = read(bundle.baselines)[TEST].values()
    places = [samples.ids.index(name) for name in bundle.samples.ids]
    np.testing.assert_array_equal(values_of(few), values_of(whole)[places])
    assert few["value"] == np.sort(values_of(few))[5] and few["n"] == 12
    assert few["samples"]["n"] == 12
    same = ("settings", "measurement", "statistic", "unit", "measured", "seed", "model")
    assert {key: few[key] for key in same} == {key: whole[key] for key in same}


def test_two_metrics_of_one_name_keep_their_baselines_each(compared, samples):
    def both_first(audit):
        found = [audit.attack(eps=eps, attack="fgsm") for eps in (0.02, 0.12)]
        for each in found:
            try:
                audit.assert_no_regression(each)
            except AssertionError as failure:
                error = failure
        if not audit.baselines.updating:
            raise error

    audit = compared(both_first)
    few = samples[[0, 9]]
    names = narrowed(audit.baselines, samples, few)
    assert [names[name]["count"] for name in ("robust accuracy", "robust accuracy (2)")] == [2, 0]
    first, second = audit.measurements
    assert lost(audit.baselines, first, first.robust_accuracy).sum() == 12
    assert lost(audit.baselines, second, second.robust_accuracy).sum() == 6


def test_a_test_without_baselines_has_none_to_narrow(samples):
    assert narrowed(None, samples, samples[:2]) == {}
