import importlib

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks.carlini_wagner import carlini_wagner
from pytest_cnnaudit.attacks.goal import margin
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.results import Cost


@given(
    steps=st.integers(1, 12),
    rounds=st.integers(1, 3),
    step_size=st.floats(1e-3, 1),
    init_c=st.floats(1e-3, 100),
    targeted=st.booleans(),
    seed=st.integers(0, 99),
    stretch=st.floats(1, 10),
)
def test_answers_are_in_range_and_fool_or_are_the_images(
    tiny_net, drawn, assert_answers, steps, rounds, step_size, init_c, targeted, seed, stretch
):
    images, labels = drawn(seed, stretch=stretch)
    with AuditModel(tiny_net(seed)).borrow() as model:
        result = carlini_wagner(
            model, images, labels, steps=steps, rounds=rounds, step_size=step_size, init_c=init_c, targeted=targeted
        )
        assert_answers(model, images, labels, result, targeted=targeted)


@settings(max_examples=15)
@given(order=st.permutations(range(6)), cut=st.integers(0, 5), at_once=st.none() | st.integers(1, 4),
       seed=st.integers(0, 99))  # fmt: skip
def test_neither_batch_size_nor_mates_nor_order_change_a_samples_result(
    assert_batch_is_no_matter, order, cut, at_once, seed
):
    def attack(model, images, labels, number, **settings):
        return carlini_wagner(model, images, labels, steps=4, rounds=3, step_size=0.1, init_c=1.0, **settings)

    assert_batch_is_no_matter(attack, seed, order, cut, at_once)


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


def test_real_images_are_fooled_near_by(resnet20_model, cifar, assert_answers):
    images, labels = (each[:8] for each in cifar)
    with resnet20_model.borrow() as model:
        result = carlini_wagner(model, images, labels, steps=20, rounds=4, init_c=0.1)
        assert assert_answers(model, images, labels, result) == 8
    assert length(result - images, "l2").median() < 0.25


def test_targeted_ends_at_the_target(resnet20_model, cifar, assert_answers):
    images = cifar[0][:4]
    with resnet20_model.borrow() as model:
        with torch.no_grad():
            targets = (model(images).argmax(1) + 3) % 10
        result = carlini_wagner(model, images, targets, steps=30, rounds=2, init_c=1.0, targeted=True)
        assert assert_answers(model, images, targets, result, targeted=True) == 4


def test_what_is_fooled_as_it_is_leaves_and_a_round_without_gain_ends_early(unfoolable):
    model, images = unfoolable
    labels = torch.tensor([0, 0, 1, 1, 1])
    with model.borrow() as borrowed:
        before = borrowed.cost
        result = carlini_wagner(borrowed, images, labels, steps=50, rounds=3, init_c=1e-9)
        # A c that small makes any δ a loss, so that each round ends at its first look back, after a tenth of the steps.
        assert borrowed.cost - before == Cost(5 + 3 * (3 * 6 - 1), 5 + 3 * (3 * 6 - 1))
    assert result.equal(images)


def test_the_last_step_of_a_round_goes_not_back(unfoolable):
    model, images = unfoolable
    with model.borrow() as borrowed:
        before = borrowed.cost
        carlini_wagner(borrowed, images, torch.ones(5, dtype=torch.int64), steps=7, rounds=1, init_c=100.0)
        assert borrowed.cost - before == Cost(5 * 7, 5 * 6)


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
    theirs = adv_lib.carlini_wagner_l2(
        model, images, labels, max_iterations=20, binary_search_steps=3, initial_const=1.0, confidence=confidence,
        targeted=targeted, abort_early=False,
    )  # fmt: skip
    assert (theirs != images).flatten(1).any(1).sum() >= 5  # otherwise this test says little
    assert (ours - theirs).abs().max() <= 1e-5  # their first pass is for an image 5e-7 inside of the box


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, "steps=0"), ({"rounds": 0}, "rounds=0"), ({"confidence": -1}, "-1"), ({"norm": "linf"}, "'linf'")],
)
def test_settings_that_make_no_sense_are_refused(unfoolable, options, message):
    model, images = unfoolable
    with pytest.raises(AuditError, match=message):
        carlini_wagner(model, images, torch.ones(5, dtype=torch.int64), **options)
