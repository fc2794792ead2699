"""Robust accuracy over eps: the same as attack by attack, monotone, and cheaper."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.results import Chart
from pytest_cnnaudit.statistics import proportion_interval

EPS = {"linf": (0.03, 0.07, 0.12, 0.17), "l2": (0.5, 1.4, 2.3, 3.2), "l1": (10, 20, 35, 50), "l0": (10, 30, 50, 75)}


# The same as attack by attack ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_it_is_what_single_attacks_find(tiny, norm):
    curve = tiny.robustness_curve(norm, EPS[norm])
    for eps in EPS[norm]:
        single = tiny.attack(norm, eps)
        np.testing.assert_array_equal(
            curve.per_sample["falls"] > EPS[norm].index(eps), single.per_sample["robust"], err_msg=str(eps)
        )
        one, other = curve.at(eps), single.robust_accuracy
        assert (float(one), one.count, one.n, one.bounds) == (float(other), other.count, other.n, other.bounds)
        assert tuple(map(float, one.ci95)) == tuple(map(float, other.ci95))
    assert [curve.at(eps).count for eps in EPS[norm]] == [8, 6, 4, 2]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd", ["fgsm", "nearest"]])
def test_it_is_never_above_the_single_attack(tiny, norm, attack):
    """It looks for the smallest perturbation on top of what is asked for."""
    curve = tiny.robustness_curve(norm, EPS[norm], attack)
    for eps in EPS[norm]:
        assert curve.at(eps) <= tiny.attack(norm, eps, attack).robust_accuracy


@pytest.mark.parametrize("name", ["resnet20_model", "resnet4b_model"])
def test_on_a_real_network_it_is_that_of_single_attacks_or_lower(request, cifar_samples, name):
    model, eps = request.getfixturevalue(name), [0.5 / 255, 2 / 255]
    audit = Audit(model, cifar_samples[:12], device="cpu")
    curve = audit.robustness_curve("linf", eps)
    for each in eps:
        assert curve.at(each).count - audit.attack("linf", each).robust_accuracy.count in (-1, 0)


def test_what_is_below_the_first_radius_and_above_the_last(tiny):
    curve = tiny.robustness_curve("linf", [0.06, 0.15])
    assert curve.per_sample["falls"].tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert curve.eps == (0.06, 0.15)
    assert curve.mean_robust_accuracy == pytest.approx((6 / 8 + 2 / 8) / 2)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.sampled_from([0.01, 0.05, 0.1, 0.15, 0.2, 0.25, math.inf]), min_size=1, max_size=6),
    eps=st.lists(st.sampled_from([0.03, 0.05, 0.12, 0.2, 0.3]), min_size=1, max_size=5),
    batch_size=st.integers(1, 3),
)
def test_a_sample_falls_at_the_first_radius_that_reaches_its_boundary(sizes, eps, batch_size):
    """On a model that nearest cannot search, with an attack that can: all rests on the attacks at the radii."""
    images = torch.stack([torch.full((1, 4, 4), 0.5 - min(size, 0.5)) for size in sizes])
    unfoolable = torch.tensor([math.isinf(size) for size in sizes])
    images[unfoolable] = 0.0

    class Steps(torch.nn.Module):
        """Class 1 from the middle on, in steps: without a gradient that leads anywhere."""

        def forward(self, images):
            mean = images.mean((1, 2, 3))
            bright = (mean > 0.5).float() + 0 * mean
            return torch.stack([0.5 - bright, bright - 0.5], 1)

    def brighter(model, images, labels, eps):
        seen.append((eps, len(images)))
        return (images + eps).clamp(0, 1)

    seen = []
    samples = Samples.from_tensors(images, [0] * len(sizes))
    curve = Audit(AuditModel(Steps()), samples, device="cpu", batch_size=batch_size).robustness_curve(
        "linf", eps, brighter
    )
    radii = sorted(set(eps))
    for size, falls in zip(sizes, curve.per_sample["falls"], strict=True):
        reach = math.inf if math.isinf(size) else size + 1e-6  # the boundary itself is still class 0
        assert falls == sum(each < reach for each in radii)
    assert all(each in radii for each, _ in seen)


# Monotone, and what may be asked of it -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_never_rises(resnet4b_model, cifar_samples, norm):
    eps = [each * (1 / 255 if norm == "linf" else 0.1) for each in (0.25, 0.5, 1, 2, 4, 8)]
    curve = Audit(resnet4b_model, cifar_samples[:16], device="cpu").robustness_curve(norm, eps)
    values = [float(curve.at(each)) for each in eps]
    assert all(one >= other for one, other in itertools.pairwise([float(curve.clean_accuracy), *values]))
    assert values[0] > values[-1]
    assert curve.mean_robust_accuracy == pytest.approx(np.mean(values))
    assert curve.metrics == (curve.mean_robust_accuracy, curve.clean_accuracy)


def test_radii_come_in_any_order_and_count_once(tiny):
    curve = tiny.robustness_curve("linf", [0.17, 0.03, 0.12, 0.03, 0.07])
    assert curve.eps == tuple(curve.robust_accuracy) == EPS["linf"]
    straight = tiny.robustness_curve("linf", EPS["linf"])
    np.testing.assert_array_equal(curve.per_sample["falls"], straight.per_sample["falls"])
    assert curve.settings["eps"] == ", ".join(f"{each * 255:.3g}/255" for each in EPS["linf"])
    assert curve.cost == straight.cost


def test_one_radius_is_a_curve_too(tiny):
    curve = tiny.robustness_curve("linf", [0.12])
    assert (curve.at(0.12), curve.mean_robust_accuracy) == (0.5, 0.5)


def test_the_accuracy_at_a_radius_is_found_whatever_the_rounding(tiny):
    curve = tiny.robustness_curve("linf", [k / 255 for k in (10, 30)])
    assert curve.at(0.1 / 25.5 * 10) is curve.robust_accuracy[10 / 255]
    assert curve.at(30 / 255).name == "robust accuracy at 30/255"
    with pytest.raises(AuditError, match=r"eps=0.05 was not measured; the curve has 0.039.*, 0.117"):
        curve.at(0.05)
    assert curve.at(30 / 255) <= 0.5
    assert curve.metrics[-1] is curve.at(30 / 255)  # it was held against a threshold


@pytest.mark.parametrize("eps", [(), [], None, 0.1, "0.1", [0.1, 0], [0.1, -0.1], [math.nan], [math.inf], ["0.1"]])
def test_wrong_radii_are_refused(tiny, eps):
    with pytest.raises(AuditError, match=r"is no list of radii; give several|is not a radius; give a positive number"):
        tiny.robustness_curve("linf", eps)


def test_wrong_names_are_refused(tiny):
    with pytest.raises(AuditError, match="There is no norm 'l3'"):
        tiny.robustness_curve("l3", [0.1])
    with pytest.raises(AuditError, match="There is no attack 'pdg'"):
        tiny.robustness_curve("linf", [0.1], "pdg")
    with pytest.raises(AuditError, match=r"No attack of .* takes 'steep'"):
        tiny.robustness_curve("linf", [0.1], "pgd", steep=3)
    with pytest.raises(AuditError, match="There is no auto='quick'"):
        tiny.robustness_curve("linf", [0.1], auto="quick")
    with pytest.raises(AuditError, match="auto='standard' goes with attack='auto', but attack='pgd' was given"):
        tiny.robustness_curve("linf", [0.1], "pgd", auto="standard")


def test_options_go_to_the_attack_and_are_told(tiny):
    curve = tiny.robustness_curve("linf", [0.1, 0.2], "pgd", steps=3)
    assert (curve.settings["steps"], curve.settings["attack"]) == ("3", "nearest, pgd")
    assert "attack: nearest, pgd, linf, eps 25.5/255 to 51/255, seed 0" in curve.at(0.1).story
    assert tiny.robustness_curve("linf", [0.1]).settings["attack"] == "auto (nearest, pgd, apgd-t)"


# What is counted -----------------------------------------------------------------------------------------------------


def test_what_is_misclassified_is_wrong_at_every_radius_and_not_attacked(tiny_model, tiny_samples):
    images = torch.stack([sample.image for sample in tiny_samples])
    labels = torch.tensor([0, 1, 2, 3, 1, 2, 2, 3])  # two are wrong
    seen = []

    def watching(model, images, labels):
        seen.append(len(images))
        return images

    curve = Audit(tiny_model, Samples.from_tensors(images, labels), device="cpu").robustness_curve(
        "linf", [0.01, 0.3], watching
    )
    assert curve.per_sample["falls"].tolist() == [1, 1, 1, 1, 0, 0, 1, 1]
    assert curve.per_sample["correct"].tolist() == [True] * 4 + [False] * 2 + [True] * 2
    assert (curve.clean_accuracy, curve.at(0.01), curve.at(0.3)) == (0.75, 0.75, 0)
    assert sum(seen) == 6


def test_where_all_are_misclassified(tiny_model, tiny_samples):
    images = torch.stack([sample.image for sample in tiny_samples])
    labels = torch.tensor([1, 2, 3, 0] * 2)
    curve = Audit(tiny_model, Samples.from_tensors(images, labels), device="cpu").robustness_curve("linf", [0.1])
    assert (curve.clean_accuracy, curve.at(0.1), curve.mean_robust_accuracy) == (0, 0, 0)
    _, tiles = curve.exhibits
    assert {row.status for row in tiles.rows} == {"misclassified"}


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_batch_size_changes_nothing(tiny_model, tiny_samples, tiny, batch_size, norm):
    found = Audit(tiny_model, tiny_samples, device="cpu", batch_size=batch_size).robustness_curve(norm, EPS[norm])
    expected = tiny.robustness_curve(norm, EPS[norm])
    assert found.ids == expected.ids
    assert list(found.per_sample) == ["label", "correct", "falls", "share_held"]
    for name, values in expected.per_sample.items():
        np.testing.assert_array_equal(found.per_sample[name], values, err_msg=name)
    assert len(found.exhibits[1].rows) == len(expected.exhibits[1].rows) == 8


def test_the_order_is_that_of_the_samples(tiny_model, tiny_samples, tiny):
    order = [5, 0, 7, 2, 1, 6, 3, 4]
    straight = tiny.robustness_curve("linf", EPS["linf"])
    shuffled = Audit(tiny_model, tiny_samples[order], device="cpu").robustness_curve("linf", EPS["linf"])
    assert shuffled.ids == tuple(straight.ids[each] for each in order)
    np.testing.assert_array_equal(shuffled.per_sample["falls"], straight.per_sample["falls"][order])


def test_draws_are_those_of_the_single_attack(tiny):
    """A random start follows from the seed and the sample, not from the place in the curve."""

    def seeds_of(measure):
        got = {}

        def attack(model, images, labels, seeds):
            got.update(zip(map(float, images.sum((1, 2, 3))), seeds.tolist(), strict=True))
            return images

        measure(attack)
        return got

    single = seeds_of(lambda attack: tiny.attack("linf", 0.01, attack))
    assert seeds_of(lambda attack: tiny.robustness_curve("linf", [0.01, 0.02], attack)) == single


# What it costs, and shows --------------------------------------------------------------------------------------------


def test_it_costs_at_most_twice_the_most_expensive_single_radius(resnet20_model, cifar_samples):
    audit = Audit(resnet20_model, cifar_samples[:24], device="cpu")
    curve = audit.robustness_curve("linf", [0.25 / 255, 0.5 / 255, 1 / 255, 2 / 255])
    dearest = audit.attack("linf", 0.25 / 255).cost  # most samples stand there, to the last attack
    assert curve.cost.forward + curve.cost.backward <= 2 * (dearest.forward + dearest.backward)


def test_the_cost_is_what_passed_through_the_module(tiny_model, tiny_samples, counting):
    module = counting(tiny_model.module)
    found = Audit(AuditModel(module), tiny_samples, device="cpu").robustness_curve("l2", EPS["l2"])
    assert (found.cost.forward, found.cost.backward) == (module.forwards, module.backwards)


def test_the_chart_is_the_curve_with_its_band(tiny):
    curve = tiny.robustness_curve("linf", EPS["linf"])
    chart = curve.exhibits[0]
    assert isinstance(chart, Chart)
    (line,) = chart.series
    assert (line.name, chart.x, chart.y, chart.y_range) == ("tiny", "eps, linf (1/255)", "robust accuracy", (0, 1))
    assert list(line.x) == pytest.approx([0, *(each * 255 for each in EPS["linf"])])
    assert list(line.y) == [1, 1, 0.75, 0.5, 0.25]
    ends = [proportion_interval(count, 8) for count in (8, 8, 6, 4, 2)]
    assert list(line.low) == pytest.approx([low for low, _ in ends])
    assert list(line.high) == pytest.approx([high for _, high in ends])
    assert tiny.robustness_curve("l2", [1]).exhibits[0].x == "eps, l2"


def test_the_nearest_samples_are_shown(tiny):
    rows = tiny.robustness_curve("l2", EPS["l2"]).exhibits[1].rows
    assert [row.title for row in rows[:2]] in (["0", "1"], ["1", "0"])
    assert len(rows) == 8
    assert float(rows[0].figures["‖δ‖"]) == pytest.approx(0.93, abs=0.05)
    assert len(rows[0].pictures) == 4


def test_the_module_is_left_as_it_was(resnet20, cifar_samples, untouched):
    check = untouched(resnet20.train())
    Audit(AuditModel(resnet20), cifar_samples[:4], device="cpu").robustness_curve("linf", [0.001, 0.01], "pgd", steps=2)
    check()


def test_an_attack_that_leaves_the_ball_is_an_error(tiny):
    def far(model, images, labels):
        return (images + 0.5).clamp(0, 1)

    with pytest.raises(AuditError, match="The attack far left the ball"):
        tiny.robustness_curve("linf", [0.01, 0.02], far)


@pytest.mark.parametrize(
    "eps", [np.array([0.02, 0.01]), torch.tensor([0.01, 0.02]), (0.02, 0.01), {0.01, 0.02}, iter([0.01, 0.02])]
)
def test_radii_come_in_anything_that_holds_numbers(tiny, eps):
    curve = tiny.robustness_curve(eps=eps, attack="fgsm")
    assert curve.eps == pytest.approx((0.01, 0.02))


@pytest.mark.parametrize("make", [torch.tensor, np.float32])
def test_radii_rounded_to_float32_are_found_by_the_number_they_were(tiny, make):
    eps = [2 / 255, 4 / 255, 4.0001 / 255]
    curve = tiny.robustness_curve(eps=make(eps), attack="fgsm")
    assert [curve.at(each) for each in eps] == list(curve.robust_accuracy.values())
    assert curve.at(eps[1]) is curve.robust_accuracy[curve.eps[1]]
    with pytest.raises(AuditError, match="was not measured"):
        curve.at(4.00005 / 255)


@pytest.mark.parametrize("eps", [[], "0.1", 0.1, np.array(0.1), [0.1, "a"], [[0.1, 0.2]], [0.1, -1], [True + 1j], None])
def test_what_holds_no_radii_is_refused(tiny, eps):
    with pytest.raises(AuditError, match="eps="):
        tiny.robustness_curve(eps=eps)


def test_the_pass_without_an_attack_is_made_once(tiny_model, tiny_samples, counting):
    """One pass for all, and one for each that an attack claims to have fooled at some radius."""
    module = counting(tiny_model.module)
    asked = []

    def nothing(model, images, labels):
        asked.append(len(images))
        return images

    audit = Audit(AuditModel(module), tiny_samples, device="cpu")
    search = audit.min_perturbation("linf").cost
    curve = audit.robustness_curve(eps=[1e-6, 2e-6], attack=nothing)
    assert curve.cost.forward - search.forward == sum(asked)
