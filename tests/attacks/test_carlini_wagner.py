import importlib

import pytest
import torch

from pytest_cnnaudit.attacks.carlini_wagner import carlini_wagner
from pytest_cnnaudit.attacks.goal import margin
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.results import Cost


@pytest.mark.parametrize("targeted", [False, True])
def test_a_linear_classifier_is_fooled_at_the_distance_to_its_boundary(linear, targeted):
    for seed in range(2):
        model, images, labels, distances = linear(seed)
        result = carlini_wagner(model, images, 1 - labels if targeted else labels, steps=100, targeted=targeted)
        ratio = length(result - images, "l2") / distances["l2"]
        assert (ratio > 1).all()
        assert (ratio < 1.02).all()


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("confidence", [0.0, 0.3])
def test_the_margin_is_as_large_as_the_confidence(linear, confidence, targeted):
    model, images, labels, distances = linear(1)
    labels = 1 - labels if targeted else labels
    result = carlini_wagner(model, images, labels, steps=100, confidence=confidence, targeted=targeted)
    with torch.no_grad():
        gap = margin(model(result), labels, targeted=targeted)
        before = margin(model(images), labels, targeted=targeted)
    assert (gap > confidence).all()
    wanted = distances["l2"] * (confidence - before) / -before
    torch.testing.assert_close(length(result - images, "l2"), wanted, rtol=0.03, atol=0)


def test_what_is_fooled_as_it_is_leaves_and_a_round_without_gain_ends_early(unfoolable):
    model, images = unfoolable
    labels = torch.tensor([0, 0, 1, 1, 1])
    with model.borrow() as borrowed:
        before = borrowed.cost
        result = carlini_wagner(borrowed, images, labels, steps=50, rounds=3, init_c=1e-9)
        # A c that small makes any δ a loss, so that each round ends at its first look back, after a tenth of the steps.
        assert borrowed.cost - before == Cost(5 + 3 * (3 * 6 - 1), 5 + 3 * (3 * 6 - 1))
    assert result.equal(images)


@pytest.mark.parametrize("confidence", [0.0, 0.02])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_answers_are_those_of_adv_lib(adv_lib, doubles, monkeypatch, compared, targeted, confidence):
    """Without early ends: theirs ask whether the whole batch stands still."""
    model, images, labels = compared
    labels = (labels + 1) % 4 if targeted else labels
    monkeypatch.setattr(importlib.import_module("pytest_cnnaudit.attacks.carlini_wagner"), "_GAIN", float("inf"))
    ours = carlini_wagner(
        model, images, labels, steps=20, rounds=3, init_c=1.0, confidence=confidence, targeted=targeted
    )
    passes = iter([images])

    def from_the_image(x):  # their first pass is for an image 5e-7 inside of the box, beyond a ReLU's kink sometimes
        return model(next(passes, x.detach()) + (x - x.detach()))

    theirs = adv_lib.carlini_wagner_l2(
        from_the_image, images, labels, max_iterations=20, binary_search_steps=3, initial_const=1.0,
        confidence=confidence, targeted=targeted, abort_early=False,
    )  # fmt: skip
    assert (theirs != images).flatten(1).any(1).sum() >= 5  # otherwise this test says little
    assert (ours - theirs).abs().max() <= 1e-6  # 4e-7 when this was written
