"""Accuracy under attack: what is counted, what is attacked, and when an assertion may stop."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit import Audit, AuditModel, Samples

HALF = {"eps": 0.12, "attack": "fgsm"}  # fools the four samples with the least contrast


def decided_after(robust, at_least):
    """The number of samples after which the verdict is certain, in exact arithmetic."""
    n, held, fooled = len(robust), 0, 0
    for done, holds in enumerate(robust, 1):
        held, fooled = held + bool(holds), fooled + (not holds)
        if held >= n * at_least or fooled > n * (1 - at_least):
            return done
    raise AssertionError("the last sample decides at the latest")


def test_robust_accuracy_where_the_smallest_perturbation_is_known(tiny_model, tiny_samples, tiny):
    """Between two classes the network is linear: it falls as soon as eps · ‖wₐ − w_b‖₁ exceeds the margin."""
    images = torch.stack([sample.image for sample in tiny_samples]).requires_grad_()
    labels = torch.tensor([sample.label for sample in tiny_samples])
    logits = tiny_model(images)
    nearest = torch.full((8,), torch.inf)
    for other in range(4):
        margin = logits.gather(1, labels[:, None])[:, 0] - logits[:, other]
        (slope,) = torch.autograd.grad(margin.sum(), images, retain_graph=True)
        distance = (margin / slope.flatten(1).abs().sum(1)).detach()
        nearest = torch.minimum(nearest, distance.where(labels != other, torch.inf))
    for eps in (0.03, 0.07, 0.12, 0.17):
        found = tiny.attack(eps=eps, attack="pgd", steps=10)
        np.testing.assert_array_equal(found.per_sample["robust"], (nearest > eps).numpy())


def test_the_figures_of_a_measurement(tiny):
    found = tiny.attack(**HALF)
    assert found.per_sample["robust"].tolist() == [False] * 4 + [True] * 4
    assert (found.robust_accuracy.count, found.robust_accuracy.n, float(found.robust_accuracy)) == (4, 8, 0.5)
    assert (found.clean_accuracy, found.attack_success_rate) == (1, 0.5)
    assert found.ids == tiny.samples.ids
    assert {name: float(share) for name, share in found.per_class.items()} == dict.fromkeys(tiny.model.class_names, 0.5)
    assert all(len(values) == 8 for values in found.per_sample.values())
    fooled = ~found.per_sample["robust"]
    np.testing.assert_array_equal(found.per_sample["broken_by"], np.where(fooled, 0, -1))
    np.testing.assert_array_equal(np.isnan(found.per_sample["perturbation"]), ~fooled)
    assert found.per_sample["perturbation"][fooled] == pytest.approx(0.12, abs=1e-6)
    assert (found.per_sample["adversarial_prediction"] != found.per_sample["label"]).tolist() == fooled.tolist()


def test_per_sample_values_follow_the_order_of_the_ids(tiny_model, tiny_samples, tiny):
    order = [5, 0, 7, 2, 1, 6, 3, 4]
    straight, shuffled = tiny.attack(eps=0.12), Audit(tiny_model, tiny_samples[order], device="cpu").attack(eps=0.12)
    assert shuffled.ids == tuple(straight.ids[each] for each in order)
    for name, values in straight.per_sample.items():
        np.testing.assert_allclose(shuffled.per_sample[name], values[order], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_batch_size_changes_nothing(tiny_model, tiny_samples, tiny, batch_size):
    options = {"eps": 0.12, "attack": "pgd", "steps": 3, "restarts": 2}
    found = Audit(tiny_model, tiny_samples, device="cpu", batch_size=batch_size).attack(**options)
    expected = tiny.attack(**options)
    for name, values in expected.per_sample.items():
        np.testing.assert_allclose(found.per_sample[name], values, rtol=1e-5, err_msg=name)


@given(order=st.permutations(range(8)), sixteenths=st.integers(0, 16))
def test_an_assertion_stops_exactly_when_its_verdict_is_decided(tiny_model, tiny_samples, order, sixteenths):
    robust = [position >= 4 for position in order]
    audit = Audit(tiny_model, tiny_samples[list(order)], device="cpu", batch_size=1)
    try:
        audit.assert_robust(min_accuracy=sixteenths / 16, **HALF)
        passed = True
    except AssertionError as error:
        passed = False
        assert "AuditError" not in repr(error)
    assert passed == (sixteenths <= 8)  # 4 of 8 hold: the verdict on all of them, however early
    (found,) = audit.measurements
    assert len(found.ids) == decided_after(robust, Fraction(sixteenths, 16))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("at_least", [0.0, 0.1, 0.3, 0.35, 0.5, 0.5000001, 0.7, 0.9, 1.0])
def test_an_early_verdict_is_the_full_verdict(tiny_model, tiny_samples, tiny, batch_size, at_least):
    full = tiny.attack(**HALF).robust_accuracy >= at_least
    audit = Audit(tiny_model, tiny_samples, device="cpu", batch_size=batch_size)
    try:
        found = audit.assert_robust(min_accuracy=at_least, **HALF)
        assert full
        assert found.robust_accuracy >= at_least
    except AssertionError as error:
        assert not full
        assert f">= {at_least:.2f}" in str(error) or str(at_least) in str(error)


def test_a_plain_measurement_runs_to_its_end_and_an_early_one_says_where_it_stopped(tiny_model, tiny_samples):
    audit = Audit(tiny_model, tiny_samples, device="cpu", batch_size=1)
    assert len(audit.attack(**HALF).ids) == 8
    with pytest.raises(
        AssertionError, match="stopped as soon as the verdict was certain: after 2 of 8 samples, 0 held and 2 did not"
    ):
        audit.assert_robust(min_accuracy=0.8, **HALF)
    assert "after 2 of 8" in " ".join(audit.measurements[-1].notes)


def test_a_named_assertion_returns_its_measurement(tiny):
    assert tiny.assert_robust(min_accuracy=0.5, **HALF).robust_accuracy >= 0.5


def test_each_attack_of_a_cascade_gets_what_still_stands(tiny):
    seen = {}

    def first(model, images, labels):
        seen["first"] = len(images)
        return (images + 0.12 * _away(images, labels)).clamp(0, 1) if len(images) else images

    def second(model, images, labels):
        seen["second"] = len(images)
        return images

    found = tiny.attack(eps=0.12, attack=[first, second])
    assert seen == {"first": 8, "second": 4}
    assert found.attacks == ("first", "second")
    assert found.per_sample["broken_by"].tolist() == [0] * 4 + [-1] * 4


def _away(images, labels):
    """Darkens the label's quadrant and brightens the others."""
    sign = torch.ones_like(images)
    for each, label in zip(sign, labels.tolist(), strict=True):
        top, left = label // 2 * 8, label % 2 * 8
        each[:, top : top + 8, left : left + 8] = -1
    return sign


def test_the_cascade_ends_where_nothing_stands(tiny):
    def fells_all(model, images, labels):
        return (images + 0.5 * _away(images, labels)).clamp(0, 1)

    def never(model, images, labels):
        raise AssertionError("there was nothing left")

    assert tiny.attack(eps=0.5, attack=[fells_all, never]).robust_accuracy == 0


def test_misclassified_samples_are_not_attacked_and_count_as_not_robust(tiny_model, tiny_samples):
    images = torch.stack([sample.image for sample in tiny_samples])
    labels = torch.tensor([0, 1, 2, 3, 1, 2, 2, 3])  # two are wrong
    seen = []

    def harmless(model, images, labels):
        seen.append(len(images))
        return images

    found = Audit(tiny_model, Samples.from_tensors(images, labels), device="cpu").attack(eps=0.01, attack=harmless)
    assert seen == [6]
    assert found.per_sample["correct"].tolist() == [True] * 4 + [False] * 2 + [True] * 2
    assert (found.robust_accuracy, found.clean_accuracy, found.attack_success_rate) == (0.75, 0.75, 0)
    assert found.attack_success_rate.n == 6


def test_a_callable_gets_the_settings_it_has_parameters_for(tiny):
    got = {}

    def attack(model, images, labels, *, norm, eps, targeted, seeds, strength=1):
        got.update(norm=norm, eps=eps, targeted=targeted, strength=strength, seeds=seeds)
        return images

    tiny.attack(norm="l2", eps=0.5, attack=attack, strength=3)
    assert (got["norm"], got["eps"], got["targeted"], got["strength"]) == ("l2", 0.5, False, 3)
    assert len(set(got["seeds"].tolist())) == 8
    assert tiny.attack(eps=0.5, attack=lambda model, images, labels: images).attacks == ("<lambda>",)


def test_an_attack_is_not_believed_without_a_forward_pass_that_shows_it(tiny):
    """A sample counts as fooled by what the model says of it, not by what the attack claims to have done."""
    assert tiny.attack(eps=0.5, attack=lambda model, images, labels: images * 1.0).robust_accuracy == 1


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_targeted_attacks_reach_the_target_or_do_not_count(tiny_model, tiny_samples, attack):
    samples = tiny_samples[[0, 1, 2, 4, 5, 6]]  # without class 3
    audit = Audit(tiny_model, samples, device="cpu")
    found = audit.attack(eps=0.12, attack=attack, targeted=True, target=3)
    fooled = ~found.per_sample["robust"]
    assert 0 < fooled.sum() < 6
    assert set(found.per_sample["adversarial_prediction"][fooled]) == {3}
    assert "to bottom right" in found.robust_accuracy.story[0]

    def to_class_1(model, images, labels, targeted):
        return images - 0.12 * _away(images, torch.ones_like(labels))

    other = audit.attack(eps=0.12, attack=to_class_1, targeted=True, target=3)
    moved = other.per_sample["adversarial_prediction"] != other.per_sample["label"]
    assert (moved & other.per_sample["robust"]).any()  # wrong, but not the target


def test_a_random_target_is_never_the_label_and_follows_from_the_seed(tiny_model, tiny_samples):
    def targets(seed):
        got = []

        def attack(model, images, labels, targeted):
            got.extend(labels.tolist())
            return images

        Audit(tiny_model, tiny_samples, device="cpu", seed=seed).attack(eps=0.1, attack=attack, targeted=True)
        return got

    labels = [sample.label for sample in tiny_samples]
    assert all(wanted != label for wanted, label in zip(targets(0), labels, strict=True))
    assert targets(0) == targets(0)
    assert any(targets(0) != targets(seed) for seed in (1, 2, 3))


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "auto"])
def test_the_cost_is_what_passed_through_the_module(tiny_model, tiny_samples, counting, attack):
    module = counting(tiny_model.module)
    found = Audit(AuditModel(module), tiny_samples, device="cpu").attack(eps=0.12, attack=attack)
    assert (found.cost.forward, found.cost.backward) == (module.forwards, module.backwards)
    assert found.cost.backward > 0


def test_what_an_attack_costs(tiny):
    """A pass to classify, one for the gradient, one to see if it fools; and four samples twice, to compare folded."""
    cost = tiny.attack(**HALF).cost
    assert (cost.forward, cost.backward) == (24 + 8, 8 + 8)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(resnet20, cifar_samples, untouched, fails):
    def broken(model, images, labels):
        model(images.requires_grad_()).sum().backward()
        if fails:
            raise KeyboardInterrupt
        return images.detach()

    check = untouched(resnet20.train())
    audit = Audit(AuditModel(resnet20), cifar_samples[:8], device="cpu")
    if fails:
        with pytest.raises(KeyboardInterrupt):
            audit.attack(eps=0.1, attack=broken)
    else:
        audit.attack(eps=0.01, attack=["fgsm", broken])
    check()


def test_exhibits_show_four_pictures_a_sample_with_predictions_and_figures(tiny):
    fooled, held, _ = tiny.attack(**HALF).exhibits
    assert fooled.columns == ("clean", "adversarial", "difference", "10× difference")
    assert len(fooled.rows) == 4
    assert {row.status for row in fooled.rows} == {"fooled"}
    assert {row.status for row in held.rows} == {"robust"}
    row = fooled.rows[0]
    assert row.title in tiny.samples.ids
    assert row.pictures[0].caption.split()[-1] == "0.63"
    assert (row.figures["by"], row.figures["‖δ‖"]) == ("fgsm", "30.6/255")
    sample = tiny.samples[tiny.samples.ids.index(row.title)]
    clean, adversarial, difference, enlarged = (picture.pixels.astype(int) for picture in row.pictures)
    np.testing.assert_array_equal(clean, (sample.image * 255).round().permute(1, 2, 0))
    np.testing.assert_allclose(difference - 127.5, adversarial - clean, atol=1.5)  # signed, centred on grey
    assert set(np.unique(enlarged)) <= {0, 255, 127, 128}


def test_an_undefended_network_falls_within_8_of_255(resnet20_model, cifar_samples):
    audit = Audit(resnet20_model, cifar_samples[:100], device="cpu")
    assert audit.attack(eps=8 / 255, attack="pgd", steps=10).robust_accuracy <= 0.02
    with pytest.raises(AssertionError, match="assert robust accuracy"):
        audit.assert_robust(eps=8 / 255, min_accuracy=0.5)
    assert len(audit.measurements[-1].ids) < 100 or audit.measurements[-1].cost.forward < 100 * 12


def test_a_defended_network_reaches_its_published_robust_accuracy(resnet4b_model, cifar_samples):
    """ResNet-4B, published: 61.41% under PGD at 2/255, on all 10,000 images; here on 200 of them."""
    found = Audit(resnet4b_model, cifar_samples[:200], device="cpu").attack(eps=2 / 255, attack="pgd", steps=20)
    assert found.robust_accuracy == pytest.approx(0.614, abs=0.05)
    assert found.clean_accuracy == pytest.approx(0.772, abs=0.05)


def test_classes_that_share_a_name_are_told_apart_and_tell_their_story(tiny_samples, tiny_model):
    model = AuditModel(tiny_model.module, class_names=("crane", "crane", "pier", "quay"))
    found = Audit(model, tiny_samples, device="cpu", link="here").attack("linf", 0.01)
    assert list(found.per_class) == ["crane (0)", "crane (1)", "pier", "quay"]
    assert sum(metric.n for metric in found.per_class.values()) == len(tiny_samples)
    pier = found.per_class["pier"]
    assert pier.link == "here"
    assert len(found.metrics) == 3
    assert pier >= 0.5
    assert found.metrics[-1] is pier


def test_the_precision_of_the_passes_is_told_where_it_is_not_the_usual_one(tiny_model, tiny_samples):
    fine, coarse = (Audit(tiny_model, tiny_samples, device="cpu", precision=each) for each in ("float32", "bfloat16"))
    for measure in (
        lambda audit: audit.attack("linf", 0.01),
        lambda audit: audit.robustness_curve("linf", [0.01]),
        lambda audit: audit.min_perturbation("linf"),
        lambda audit: audit.fool(None, 1),
    ):
        assert "precision" not in measure(fine).settings
        assert measure(coarse).settings["precision"] == "bfloat16"
