"""The smallest perturbation: what it is where that is known, what counts as one, and when an assertion may stop."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.attacks.nearest import nearest
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.audits.perturbation import certain_verdicts
from pytest_cnnaudit.gallery.story import headline
from pytest_cnnaudit.records import audit_record
from pytest_cnnaudit.results import Chart, Exhibit
from pytest_cnnaudit.statistics import quantile

NORMS = ("linf", "l2", "l1")


def smallest(model, samples, norm):
    """The smallest perturbations of a model that is linear on [0, 1], by the dual norm; for L1 with the box."""
    images = torch.stack([sample.image for sample in samples]).requires_grad_()
    labels = torch.tensor([sample.label for sample in samples])
    logits = model(images)
    best = np.full(len(images), np.inf)
    for other in range(logits.shape[1]):
        margin = logits.gather(1, labels[:, None])[:, 0] - logits[:, other]
        (slope,) = torch.autograd.grad(margin.sum(), images, retain_graph=True)
        slope, needed, x = slope.flatten(1).double(), margin.detach().double(), images.detach().flatten(1).double()
        if norm == "l1":  # the values of the steepest slope first, each as far as it goes
            slope, order = slope.abs().sort(1, descending=True), (slope > 0)
            room = torch.where(order, x, 1 - x).gather(1, slope.indices)
            before = torch.nn.functional.pad((slope.values * room).cumsum(1)[:, :-1], (1, 0))
            distance = ((needed[:, None] - before) / slope.values.clamp(min=1e-12)).clamp(min=0).minimum(room).sum(1)
        else:
            distance = needed / slope.norm(p=1 if norm == "linf" else 2, dim=1)
        best = np.where(labels.numpy() == other, best, np.minimum(best, distance.numpy()))
    return best


class Constant(nn.Module):
    """Sees the first class in everything, and has a gradient."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        score = images.mean((1, 2, 3)) * (self.weight + 1e-3)
        return torch.stack([5 + score, score * 2, -score], 1)


class Brightness(nn.Module):
    """Class 1 where the mean of the image is above a half: a smallest perturbation is as large as it is off that."""

    def forward(self, images):
        score = 10 * (images.mean((1, 2, 3)) - 0.5)
        return torch.stack([-score, score], 1)


def greys(values, labels=None):
    images = torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 4, 4)
    return Samples.from_tensors(images, [int(value > 0.5) for value in values] if labels is None else labels)


def grey_audit(values, labels=None, **options):
    return Audit(AuditModel(Brightness()), greys(values, labels), device="cpu", **options)


def shift(model, images, labels):
    """Straight to the other side: the smallest perturbation of `Brightness` in every norm but L0."""
    gap = 0.5 - images.mean((1, 2, 3), keepdim=True)
    return (images + gap + 1e-4 * torch.where(labels == 1, -1, 1)[:, None, None, None]).clamp(0, 1)


# What is found -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_the_known_one_on_a_linear_model(tiny_model, tiny_samples, tiny, norm):
    true = smallest(tiny_model, tiny_samples, norm)
    found = tiny.min_perturbation(norm).per_sample["perturbation"]
    assert (found >= true * (1 - 1e-5)).all()
    assert (found <= true * 1.05).all()


@pytest.mark.parametrize("attack", ["nearest", "fmn", "deepfool", "carlini-wagner"])
def test_no_attack_finds_less_than_there_is(tiny_model, tiny_samples, tiny, attack):
    true = smallest(tiny_model, tiny_samples, "l2")
    found = tiny.min_perturbation("l2", attack)
    assert found.attacks == (attack,)
    assert (found.per_sample["perturbation"] >= true * (1 - 1e-5)).all()


def test_the_headline_figures_are_of_the_samples(tiny):
    found = tiny.min_perturbation("linf")
    size = found.per_sample["perturbation"]
    assert found.median == np.sort(size)[3]
    assert (found.median.n, found.clean_accuracy, found.fooled, found.fooled.higher_is_better) == (8, 1, 1, None)
    assert found.median.higher_is_better
    assert set(found.quantiles) == {0.05, 0.25, 0.75, 0.95}
    assert found.quantile(0.5) is found.median
    for q, metric in {**found.quantiles, 0.5: found.median, 0.4: found.quantile(0.4)}.items():
        expected = quantile(size, q, name="", least=0)
        assert (float(metric), metric.n) == (float(expected), 8)
        assert tuple(map(float, metric.ci95)) == tuple(map(float, expected.ci95))
        assert metric.ci95[0] <= metric <= metric.ci95[1]
        assert metric.story == found.median.story
    assert found.metrics[0] is found.median
    assert (found.settings["norm"], found.settings["attack"], found.settings["seed"]) == ("linf", "auto (nearest)", "0")
    assert found.ids == tiny.samples.ids
    assert all(len(values) == 8 for values in found.per_sample.values())


@pytest.mark.parametrize(("q", "name"), [(0.05, "5%"), (0.125, "12.5%"), (0.001, "0.1%"), (0.999, "99.9%")])
def test_a_quantile_says_which_it_is(tiny, q, name):
    assert tiny.min_perturbation("linf", steps=2).quantile(q).name == f"{name} quantile of the perturbation"


@pytest.mark.parametrize("q", [0, 1, -0.1, 1.1, math.nan])
def test_a_quantile_that_there_is_not(tiny, q):
    with pytest.raises(AuditError, match="is not between 0 and 1"):
        tiny.min_perturbation("linf", steps=2).quantile(q)


def test_the_order_is_that_of_the_samples(tiny_model, tiny_samples, tiny):
    order = [5, 0, 7, 2, 1, 6, 3, 4]
    straight = tiny.min_perturbation("l2", steps=5)
    shuffled = Audit(tiny_model, tiny_samples[order], device="cpu").min_perturbation("l2", steps=5)
    assert shuffled.ids == tuple(straight.ids[each] for each in order)
    for name, values in straight.per_sample.items():
        np.testing.assert_allclose(shuffled.per_sample[name], values[order], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("norm", ["linf", "l0"])
def test_the_batch_size_changes_nothing(tiny_net, batch_size, norm):
    images = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = tiny_net()
    with torch.no_grad():
        net.linear.bias -= net(images.double()).mean(0)  # so that no class is out of reach
    model = AuditModel(net)
    samples = Samples.from_tensors(images, model(images).argmax(1))
    found, expected = (
        Audit(model, samples, device="cpu", batch_size=size).min_perturbation(norm, steps=8) for size in (batch_size, 7)
    )
    assert np.isfinite(expected.per_sample["perturbation"]).any()
    for name, values in expected.per_sample.items():
        np.testing.assert_allclose(found.per_sample[name], values, rtol=1e-5, err_msg=name)
    rows, others = ([row.title for each in one.exhibits[1:] for row in each.rows] for one in (found, expected))
    assert rows == others


# What counts ---------------------------------------------------------------------------------------------------------


def test_what_is_misclassified_takes_no_perturbation_and_is_not_attacked():
    seen = []

    def counting(model, images, labels):
        seen.append(len(images))
        return shift(model, images, labels)

    found = grey_audit([0.3, 0.4, 0.6, 0.7], [0, 1, 1, 0]).min_perturbation("linf", counting)
    assert seen == [2]
    assert found.per_sample["perturbation"][[1, 3]].tolist() == [0, 0]
    assert found.per_sample["perturbation"][[0, 2]] == pytest.approx([0.2, 0.1], abs=2e-4)
    assert found.per_sample["found_by"].tolist() == [0, -1, 0, -1]
    assert found.per_sample["correct"].tolist() == [True, False, True, False]
    assert (found.clean_accuracy, found.median, found.fooled) == (0.5, 0, 1)
    assert {row.title for row in found.exhibits[1].rows} == {"0", "2"}


def test_where_everything_is_misclassified_nothing_is_attacked():
    def never(model, images, labels):
        raise AssertionError("there was nothing to attack")

    found = grey_audit([0.3, 0.6], [1, 0]).min_perturbation("linf", never)
    assert found.per_sample["perturbation"].tolist() == [0, 0]
    (chart,) = found.exhibits
    assert chart.series[0].counts[0] == 2


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_what_nothing_fools_takes_an_infinite_perturbation(tiny_samples, norm):
    samples = Samples.from_tensors(torch.stack([each.image for each in tiny_samples]), [0] * 7 + [1])
    audit = Audit(AuditModel(Constant()), samples, device="cpu")
    found = audit.min_perturbation(norm, steps=3)
    assert found.per_sample["perturbation"].tolist() == [math.inf] * 7 + [0]
    assert found.per_sample["found_by"].tolist() == [-1] * 8
    assert (found.median, found.fooled, found.fooled.count) == (math.inf, 1 / 8, 1)
    assert found.quantiles[0.05] == 0
    assert "nothing was found for 7 of 8 samples" in found.median.story
    assert "Nothing was found for 7 of 8 samples." in found.notes
    chart, tiles = found.exhibits  # there are no pictures of what was not found
    assert [row.status for row in tiles.rows] == ["misclassified"] + ["robust"] * 7
    (bars,) = chart.series
    assert (bars.edges[-1], bars.counts[-1], sum(bars.counts)) == (math.inf, 7, 8)
    assert chart.x_marks == ()
    assert audit.assert_min_perturbation(norm, quantiles={0.25: 1e6}, steps=1)
    with pytest.raises(AssertionError, match=r"5% quantile of the perturbation 0.00"):
        audit.assert_min_perturbation(norm, quantiles={0.05: 0.1}, steps=1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("eight_bit", [False, True])
def test_every_image_that_counts_fools_the_user_s_own_module(resnet20, cifar_samples, monkeypatch, norm, eight_bit):
    from pytest_cnnaudit.audits.smallest import Smallest

    kept, rows = {}, Smallest._rows

    def remember(self, batch, part, adversarial):
        kept.update({sample.id: image for sample, image in zip(batch.samples, adversarial, strict=True)})
        return rows(self, batch, part, adversarial)

    monkeypatch.setattr(Smallest, "_rows", remember)
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    model = AuditModel(resnet20, mean=mean.flatten().tolist(), std=std.flatten().tolist())
    samples = cifar_samples[:12]
    found = Audit(model, samples, device="cpu", batch_size=4).min_perturbation(norm, steps=10, eight_bit=eight_bit)
    size = found.per_sample["perturbation"]
    assert np.isfinite(size).sum() >= 10
    for place, sample in enumerate(samples):
        image = kept[sample.id]
        assert 0 <= image.min() <= image.max() <= 1
        with torch.no_grad():
            said = resnet20((image[None] - mean) / std)[0]
        assert (said.argmax() != sample.label) == np.isfinite(size[place])
        assert said.argmax() == found.per_sample["adversarial_prediction"][place]
        assert float(said.softmax(0).max()) == pytest.approx(
            found.per_sample["adversarial_confidence"][place], rel=1e-3
        )
        if np.isfinite(size[place]):
            assert float(length((image - sample.image)[None], norm)) == pytest.approx(size[place], rel=1e-5, abs=1e-7)
        else:
            assert torch.equal(image, sample.image)
        if eight_bit:
            torch.testing.assert_close((image * 255).round() / 255, image, rtol=0, atol=1e-7)
            if norm == "linf" and np.isfinite(size[place]):
                assert size[place] * 255 == pytest.approx(round(size[place] * 255), abs=1e-3)


def lying(model, images, labels):
    """Claims to have done something."""
    return (images + 1e-3).clamp(0, 1)


def test_an_attack_is_not_believed(tiny):
    found = tiny.min_perturbation("linf", lying)
    assert (found.per_sample["perturbation"] == math.inf).all()
    assert (found.per_sample["adversarial_prediction"] == found.per_sample["label"]).all()
    assert found.fooled == 0


def test_an_image_just_short_of_the_boundary_is_pushed_over_it():
    def short(model, images, labels):
        return images + (shift(model, images, labels) - images) * 0.998

    found = grey_audit([0.3, 0.7]).min_perturbation("linf", short)
    assert found.per_sample["perturbation"] == pytest.approx([0.2, 0.2], rel=0.005)
    assert (found.per_sample["perturbation"] > 0.2).all()


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (lambda images: images - 1, "returned values from -0.7 to -0.7; images are in"),
        (lambda images: images * torch.nan, "returned values from nan to nan"),
        (lambda images: images[:, :, 1:], r"returned \(1, 1, 3, 4\) for images of \(1, 1, 4, 4\)"),
        (lambda images: images.numpy(), "returned ndarray, not a tensor of images"),
    ],
)
def test_what_is_no_image_is_an_error(result, sentence):
    with pytest.raises(AuditError, match=f"The attack wrong {sentence}"):

        def wrong(model, images, labels):
            return result(images)

        grey_audit([0.3]).min_perturbation("linf", wrong)


def test_of_several_attacks_the_smaller_counts():
    def half(upper):
        def attack(model, images, labels):
            chosen = (images.mean((1, 2, 3)) > 0.5) == upper
            far = (images + 3 * (shift(model, images, labels) - images)).clamp(0, 1)
            return torch.where(chosen[:, None, None, None], shift(model, images, labels), far)

        attack.__name__ = "above" if upper else "below"
        return attack

    found = grey_audit([0.4, 0.6, 0.42, 0.62]).min_perturbation("l2", [half(True), lying, half(False)])
    assert found.attacks == ("above", "lying", "below")
    assert found.per_sample["found_by"].tolist() == [2, 0, 2, 0]
    assert found.per_sample["perturbation"] == pytest.approx([0.4, 0.4, 0.32, 0.48], rel=2e-3)
    assert [row.figures["by"] for row in found.exhibits[1].rows] == ["below", "below", "above", "above"]
    alone = grey_audit([0.4, 0.6, 0.42, 0.62]).min_perturbation("l2", half(False))
    assert (alone.per_sample["perturbation"] >= found.per_sample["perturbation"]).all()
    assert found.settings["attack"] == "above, lying, below"


@pytest.mark.parametrize("norm", NORMS)
def test_rounded_to_eight_bits_it_is_what_would_be_saved(norm):
    values = [63 / 255, 120 / 255, 140 / 255, 200 / 255]
    found = grey_audit(values).min_perturbation(norm, eight_bit=True)
    exact = grey_audit(values).min_perturbation(norm).per_sample["perturbation"]
    size = found.per_sample["perturbation"]
    assert (size >= exact * 0.999).all()
    assert "rounded to 8 bits" in found.median.story[0]
    assert found.settings["rounded"] == "8 bits"
    if norm == "linf":
        np.testing.assert_allclose(size * 255, (size * 255).round(), atol=1e-3)
        assert (size * 255 <= np.ceil(exact * 255) * 1.3 + 1).all()


def test_a_change_below_half_a_level_is_enlarged_until_it_shows():
    """Nothing is left of 0.3/255 when it is rounded; twice as much rounds to 1/255."""

    def faint(model, images, labels):
        return images + 0.3 / 255 * torch.where(labels == 1, -1, 1)[:, None, None, None]

    audit = grey_audit([127.4 / 255])
    found = audit.min_perturbation("linf", faint, eight_bit=True)
    assert math.isfinite(found.median)  # 127.4 + 0.6 rounds to 128
    assert found.median * 255 == pytest.approx(0.6, abs=1e-3)


# The assertion -------------------------------------------------------------------------------------------------------

SIZES = (0.02, 0.05, 0.05, 0.08, 0.11, 0.17, 0.21, 0.3)


def decided_after(size, thresholds):
    """After how many samples no others can change the verdict."""
    n, needed = len(size), {q: math.ceil(q * len(size)) for q in thresholds}
    for done in range(1, n + 1):
        below = {q: sum(each < limit for each in size[:done]) for q, limit in thresholds.items()}
        if any(below[q] >= needed[q] for q in thresholds):
            return done
        if all(below[q] + n - done < needed[q] for q in thresholds):
            return done
    raise AssertionError("the last sample decides at the latest")


@settings(max_examples=60)
@given(
    order=st.permutations(range(8)),
    thresholds=st.dictionaries(
        st.sampled_from([0.05, 0.125, 0.25, 0.5, 0.6, 0.9, 0.999]),
        st.sampled_from([0, 0.01, 0.04, 0.0500001, 0.06, 0.1, 0.2, 0.31, math.inf]),
        min_size=1,
        max_size=3,
    ),
)
def test_the_assertion_stops_exactly_when_its_verdict_is_decided(order, thresholds):
    def known(model, images, labels):
        return images + (shift(model, images, labels) - images) * 1.000001

    values = [0.5 - SIZES[each] for each in order]
    full = grey_audit(values).min_perturbation("linf", known)
    size = full.per_sample["perturbation"]
    verdict = all(full.quantile(q) >= limit for q, limit in thresholds.items())
    assert verdict == all(np.sort(size)[math.ceil(q * 8) - 1] >= limit for q, limit in thresholds.items())
    audit = grey_audit(values, batch_size=1)
    median, others = thresholds.get(0.5), {q: limit for q, limit in thresholds.items() if q != 0.5}
    try:
        found = audit.assert_min_perturbation("linf", median=median, quantiles=others, attack=known)
        passed = True
        assert found is audit.measurements[0]
    except AssertionError as error:
        assert "perturbation" in str(error)
        passed = False
    assert passed == verdict
    (found,) = audit.measurements
    for q, limit in thresholds.items():  # what it says of a threshold is what all samples say, however few were seen
        for each in found.quantile(q).comparisons:
            assert (each.op, each.threshold, each.holds) == (">=", limit, full.quantile(q) >= limit)
    done = decided_after(size.tolist(), thresholds)
    assert found.ids == full.ids[:done]
    np.testing.assert_allclose(found.per_sample["perturbation"], size[:done], rtol=1e-6)
    stopped = f"stopped as soon as the verdict was certain: after {done} of 8 samples"
    assert (stopped in found.median.story) == (done < 8)
    assert (f"S{stopped[1:]}." in found.notes) == (done < 8)


def test_the_threshold_that_is_missed_for_certain_is_named_and_no_other():
    """After two of eight the 25% quantile is too small for certain; the median only looks so, and is not in the end."""
    audit = grey_audit([0.49, 0.48, *[0.1] * 6], batch_size=1)
    with pytest.raises(
        AssertionError, match=r"^assert 25% quantile of the perturbation 0.01\d+ .*n 2\) >= 0.05"
    ) as caught:
        audit.assert_min_perturbation("linf", median=0.3, quantiles={0.25: 0.05}, attack=shift)
    assert "stopped as soon as the verdict was certain: after 2 of 8 samples" in str(caught.value)
    (found,) = audit.measurements
    assert float(found.median) < 0.3
    assert [each.holds for each in found.quantiles[0.25].comparisons] == [False]
    assert [metric.comparisons for metric in found.metrics if "median" in metric.name] == [[]]
    assert audit.min_perturbation("linf", shift).median >= 0.3


def test_a_threshold_that_is_reached_for_certain_is_noted_beside_one_that_is_missed():
    audit = grey_audit([0.1] * 5 + [0.49] * 3, batch_size=1)
    with pytest.raises(AssertionError, match=r"^assert 75% quantile of the perturbation 0.40"):
        audit.assert_min_perturbation("linf", median=0.3, quantiles={0.75: 0.45}, attack=shift)
    (found,) = audit.measurements
    assert len(found.ids) == 6
    assert [each.holds for each in found.median.comparisons] == [True]


def test_a_verdict_is_certain_by_the_comparison_that_is_made():
    """In float32, 0.7 is a little less than 0.7."""
    size = np.full(2, 0.7, np.float32)
    assert certain_verdicts(size, 3, {0.5: 0.7, 0.9: 0.6, 0.3: 0.6}) == {0.5: False, 0.9: True}
    assert certain_verdicts(size, 4, {0.5: 0.7}) == {0.5: False}
    assert certain_verdicts(size, 5, {0.5: 0.7}) == {}
    assert certain_verdicts(np.full(7, 0.1), 100, {0.07: 0.2}) == {0.07: False}  # 0.07 * 100 is above 7


@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("median", [0.02, 0.09, 0.1, 0.5])
def test_the_verdict_is_the_full_one_on_a_real_search(tiny_model, tiny_samples, tiny, batch_size, median):
    verdict = tiny.min_perturbation("linf").median >= median
    audit = Audit(tiny_model, tiny_samples, device="cpu", batch_size=batch_size)
    if verdict:
        assert audit.assert_min_perturbation("linf", median=median).median >= median
    else:
        with pytest.raises(AssertionError, match="assert median perturbation") as caught:
            audit.assert_min_perturbation("linf", median=median)
        assert "attack: auto (nearest), linf, pixel values in [0, 1], seed 0" in str(caught.value)


def test_a_plain_measurement_runs_to_its_end():
    audit = grey_audit([0.1] * 8, batch_size=1)
    assert len(audit.min_perturbation("linf", shift).ids) == 8
    assert len(audit.assert_min_perturbation("linf", median=0.1, attack=shift).ids) == 5


def test_an_assertion_needs_a_threshold(tiny):
    with pytest.raises(AuditError, match=r"needs median=, or quantiles= such as \{0.05: 0.1\}"):
        tiny.assert_min_perturbation()
    with pytest.raises(AuditError, match="needs median="):
        tiny.assert_min_perturbation(quantiles={})


def test_the_median_has_one_threshold(tiny):
    with pytest.raises(
        AuditError, match=r"median=0.3 and quantiles=\{0.5: 0.1\} are thresholds of the same figure; give"
    ):
        tiny.assert_min_perturbation(median=0.3, quantiles={0.05: 0.2, 0.5: 0.1})
    assert tiny.measurements == []
    tiny.assert_min_perturbation("linf", quantiles={0.5: 0.01}, steps=2)
    assert [each.threshold for each in tiny.measurements[0].median.comparisons] == [0.01]


@pytest.mark.parametrize("q", [0, 1, -0.5, 5, 95])
def test_a_quantile_is_between_0_and_1(tiny, q):
    with pytest.raises(AuditError, match=f"The quantile {q} is not between 0 and 1"):
        tiny.assert_min_perturbation(quantiles={q: 0.1})


@pytest.mark.parametrize("name", ["pgd", "fgsm", "apgd-ce", "square", "apgd_t"])
def test_an_attack_within_a_radius_is_no_search_for_the_smallest(tiny, name):
    with pytest.raises(AuditError, match=f"There is no attack '{name}' that looks for the smallest perturbation; use"):
        tiny.min_perturbation("linf", name)


def test_unknown_names_and_options_are_named(tiny):
    with pytest.raises(AuditError, match="There is no attack 'nearst'; use 'auto', 'nearest'"):
        tiny.min_perturbation("linf", "nearst")
    with pytest.raises(AuditError, match="There is no norm 'l3'"):
        tiny.min_perturbation("l3")
    with pytest.raises(AuditError, match=r"No attack of nearest takes 'step'; they take .*steps"):
        tiny.min_perturbation("linf", step=3)
    with pytest.raises(AuditError, match="holds no attack"):
        tiny.min_perturbation("linf", [])
    with pytest.raises(AuditError, match="no norm 'linf'"):
        tiny.min_perturbation("linf", "ddn")


# What is shown -------------------------------------------------------------------------------------------------------


def test_the_nearest_and_the_farthest_are_shown(tiny):
    chart, near, far, _ = tiny.min_perturbation("linf").exhibits
    assert isinstance(near, Exhibit)
    assert (near.title, far.title) == ("Nearest to being fooled", "Farthest from being fooled")
    assert near.columns == far.columns == ("clean", "adversarial", "difference", "10× difference")
    size = dict(zip(tiny.samples.ids, tiny.measurements[-1].per_sample["perturbation"], strict=True))
    assert [row.title for row in near.rows] == sorted(size, key=lambda each: (size[each], each))
    assert [row.title for row in far.rows] == sorted(size, key=lambda each: (-size[each], each))[:4]
    row = near.rows[0]
    assert (row.status, far.rows[0].status) == ("near", "far")
    assert row.figures["‖δ‖"].endswith("/255")
    assert row.figures["by"] == "nearest"
    sample = tiny.samples[tiny.samples.ids.index(row.title)]
    clean, adversarial, difference, _ = (picture.pixels.astype(int) for picture in row.pictures)
    np.testing.assert_array_equal(clean, (sample.image * 255).round().permute(1, 2, 0))
    np.testing.assert_allclose(difference - 127.5, adversarial - clean, atol=1.5)
    assert row.pictures[0].caption.startswith(row.figures["label"])
    assert not row.pictures[1].caption.startswith(row.figures["label"])
    assert isinstance(chart, Chart)


def test_an_interval_that_is_open_is_told_and_recorded():
    """Of three samples no quantile has an upper end, and perturbations begin at 0. JSON has no infinity."""
    audit = grey_audit([0.3, 0.4, 0.45])
    with pytest.raises(AssertionError, match=r"median perturbation 0.10 \(95% CI 0.00 to inf, n 3\) >= 0.20"):
        audit.assert_min_perturbation("linf", median=0.2, attack=shift)
    low, high = audit.measurements[0].median.ci95
    assert (low, high) == (0, math.inf)
    record = json.loads(json.dumps(audit_record(audit, lambda _: {"src": "images/a.png"}), allow_nan=False))
    metrics = {metric["name"]: metric for metric in record["measurements"][0]["metrics"]}
    assert metrics["median perturbation"]["ci95"] == [0, None]
    assert metrics["median perturbation"]["display"] == "0.10"
    assert headline(record) == "median perturbation 0.10 >= 0.2"


@pytest.mark.parametrize(("norm", "scale"), [("linf", 255), ("l2", 1), ("l0", 1)])
def test_the_chart_counts_every_sample_once(tiny, norm, scale):
    found = tiny.min_perturbation(norm)
    chart = found.exhibits[0]
    (bars,) = chart.series
    size = found.per_sample["perturbation"] * scale
    assert sum(bars.counts) == 8
    assert bars.edges[0] == 0
    assert bars.edges[-1] == pytest.approx(size.max())
    np.testing.assert_array_equal(bars.counts, np.histogram(size, bars.edges)[0])
    (mark,) = chart.x_marks
    assert mark.at == pytest.approx(found.median * scale)
    assert mark.label.startswith("median ")


def test_the_last_bin_of_the_chart_is_open_where_some_are_never_fooled():
    def only_dark(model, images, labels):
        return torch.where((labels == 0)[:, None, None, None], shift(model, images, labels), images)

    found = grey_audit([0.4, 0.45, 0.6, 0.3], [0, 0, 1, 1]).min_perturbation("linf", only_dark)
    assert found.per_sample["perturbation"] == pytest.approx([0.1, 0.05, math.inf, 0], abs=2e-4)
    (bars,) = found.exhibits[0].series
    assert bars.edges[-1] == math.inf
    assert (bars.counts[-1], bars.counts[0], sum(bars.counts)) == (1, 1, 4)
    assert np.isfinite(bars.edges[:-1]).all()
    assert {row.title for row in found.exhibits[1].rows} == {"0", "1"}


def test_the_cost_is_what_passed_through_the_module(tiny_model, tiny_samples, counting):
    module = counting(tiny_model.module)
    found = Audit(AuditModel(module), tiny_samples, device="cpu").min_perturbation("l2", steps=6)
    assert (found.cost.forward, found.cost.backward) == (module.forwards, module.backwards)
    assert found.cost.backward > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_undefended_network_needs_little_and_a_defended_one_more(
    resnet20_model, resnet4b_model, cifar_samples, norm
):
    weak, strong = (
        Audit(model, cifar_samples[:16], device="cpu").min_perturbation(norm, steps=10)
        for model in (resnet20_model, resnet4b_model)
    )
    assert 0 < weak.median < strong.quantiles[0.75] / 3
    assert weak.fooled == 1


def test_a_search_called_by_hand_gives_the_same(tiny_model, tiny_samples, tiny):
    images = torch.stack([sample.image for sample in tiny_samples])
    labels = torch.tensor([sample.label for sample in tiny_samples])
    with tiny_model.borrow() as model:
        size = length(nearest(model, images, labels, norm="l2", steps=20) - images, "l2")
    found = tiny.min_perturbation("l2", "nearest", steps=20).per_sample["perturbation"]
    np.testing.assert_allclose(found, size, rtol=0.01)
