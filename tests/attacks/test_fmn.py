import importlib

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.attacks.fmn import fmn
from pytest_cnnaudit.attacks.norms import length, project

norms = st.sampled_from(["linf", "l2", "l1", "l0"])


@settings(max_examples=10)
@given(norm=st.sampled_from(["linf", "l2", "l1"]), seed=st.integers(0, 999), targeted=st.booleans())
def test_a_linear_classifier_is_fooled_at_the_distance_to_its_boundary(linear, norm, seed, targeted):
    model, images, labels, distances = linear(seed)
    result = fmn(model, images, 1 - labels if targeted else labels, norm=norm, targeted=targeted)
    ratio = length(result - images, norm) / distances[norm]
    assert (ratio > 1).all()
    assert (ratio < 1.01).all()


def test_one_value_fools_a_linear_classifier_that_it_can_fool(linear):
    model, images, labels, _ = linear(3)
    result = fmn(model, images, labels, norm="l0")
    assert (length(result - images, "l0") == 1).all()


def test_what_one_value_fools_leaves(linear):
    model, images, labels, _ = linear(3)
    with model.borrow() as borrowed:
        before = borrowed.cost
        fmn(borrowed, images, labels, norm="l0", steps=50)
        assert (borrowed.cost - before).forward < 4 * 25


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_answers_of_the_published_steps_are_those_of_adv_lib(
    adv_lib, doubles, monkeypatch, compared, norm, targeted
):
    """With the radius and the order of the projections as in the paper; see the next test for why ours differ."""
    model, images, labels = compared
    labels = (labels + 1) % 4 if targeted else labels
    names = "pytest_cnnaudit.attacks.fmn", "adv_lib.attacks.fast_minimum_norm"
    ours, theirs = map(importlib.import_module, names)
    monkeypatch.setattr(ours, "_up_to_the_boundary", lambda _, size, distance, __: size + distance)
    monkeypatch.setattr(
        ours, "_into_box_and_ball", lambda clean, x, norm, eps: (clean + project(x - clean, norm, eps)).clamp(0, 1)
    )
    # Theirs stretches a δ that is inside of the L2 ball to its border (the clamp is meant for the factor).
    monkeypatch.setattr(theirs, "l2_projection_", project_l2_)
    result = fmn(model, images, labels, norm=norm, steps=25, targeted=targeted)
    order = {"linf": float("inf"), "l2": 2, "l1": 1, "l0": 0}[norm]
    reference = adv_lib.fmn(model, images, labels, order, steps=25, targeted=targeted)
    assert (reference != images).any()
    assert (result - reference).abs().max() <= 1e-8


def project_l2_(δ, ε):  # noqa: PLC2401 - they pass them by name
    flat = δ.flatten(1)
    return flat.mul_((ε / flat.norm(dim=1).clamp(min=1e-12)).clamp(max=1)[:, None])


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_images_with_many_values_at_the_border_are_fooled_too(
    tiny_net, balanced, drawn, norm, targeted, assert_answers
):
    """As published, and in adv-lib, δ comes to rest before the boundary of most of such images in L2."""
    images, _ = drawn(0, 12)
    with AuditModel(balanced(tiny_net(), images)).borrow() as model:
        with torch.no_grad():
            labels = model(images).argmax(1)
        labels = (labels + 1) % 4 if targeted else labels
        result = fmn(model, images, labels, norm=norm, steps=25, targeted=targeted)
        assert assert_answers(model, images, labels, result, targeted=targeted) == 12
