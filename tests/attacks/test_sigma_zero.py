import importlib
import math
import types

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks.adam import adam
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.attacks.sigma_zero import sigma_zero
from pytest_cnnaudit.results import Cost


@given(steps=st.integers(1, 8), targeted=st.booleans(), seed=st.integers(0, 99), stretch=st.floats(1, 10))
def test_answers_are_in_range_and_fool_or_are_the_images(
    tiny_net, drawn, assert_answers, steps, targeted, seed, stretch
):
    images, labels = drawn(seed, stretch=stretch)
    with AuditModel(tiny_net(seed)).borrow() as model:
        result = sigma_zero(model, images, labels, steps=steps, targeted=targeted)
        assert_answers(model, images, labels, result, targeted=targeted)


@settings(max_examples=15)
@given(order=st.permutations(range(6)), cut=st.integers(0, 5), at_once=st.none() | st.integers(1, 4),
       seed=st.integers(0, 99))  # fmt: skip
def test_neither_batch_size_nor_mates_nor_order_change_a_samples_result(
    assert_batch_is_no_matter, order, cut, at_once, seed
):
    def attack(model, images, labels, number, **settings):
        return sigma_zero(model, images, labels, steps=6, **settings)

    assert_batch_is_no_matter(attack, seed, order, cut, at_once)


def test_no_linear_classifier_is_fooled_with_fewer_values_than_it_takes(linear, assert_answers):
    """The fewest are those of the largest |wᵢ| · (room to the border): their sum must exceed the score."""
    took = torch.zeros(0)
    for seed in range(8):
        model, images, labels, _ = linear(seed)
        weight = 0.3 * model.module.weight.detach()  # so that several values are needed
        with torch.no_grad():
            model.module.weight.copy_(weight)
        score = images.flatten(1) @ weight + model.module.bias
        room = torch.where(weight * score[:, None] < 0, 1 - images.flatten(1), images.flatten(1))
        gains = (weight.abs() * room).sort(1, descending=True).values.cumsum(1)
        fewest = (gains <= score.abs()[:, None]).sum(1) + 1
        labels = (score > 0).long()
        result = sigma_zero(model, images, labels)
        assert assert_answers(model, images, labels, result) == (fewest <= 12).sum()
        took = torch.cat([took, (length(result - images, "l0") - fewest)[fewest <= 12]])
    assert took.min() == 0
    assert took.mean() < 1


def test_real_images_are_fooled_by_few_values(resnet20_model, cifar, assert_answers):
    images, labels = (each[:8] for each in cifar)
    with resnet20_model.borrow() as model:
        result = sigma_zero(model, images, labels, steps=30)
        assert assert_answers(model, images, labels, result) == 8
    assert length(result - images, "l0").median() < 30


def test_targeted_ends_at_the_target(resnet20_model, cifar, assert_answers):
    images = cifar[0][:4]
    with resnet20_model.borrow() as model:
        with torch.no_grad():
            targets = (model(images).argmax(1) + 3) % 10
        result = sigma_zero(model, images, targets, steps=40, targeted=True)
        assert assert_answers(model, images, targets, result, targeted=True) == 4
    assert length(result - images, "l0").max() < 1000  # of 3072


def test_what_is_fooled_as_it_is_leaves_and_the_last_step_goes_not_back(unfoolable):
    model, images = unfoolable
    labels = torch.tensor([0, 0, 1, 1, 1])
    with model.borrow() as borrowed:
        before = borrowed.cost
        result = sigma_zero(borrowed, images, labels, steps=7)
        assert borrowed.cost - before == Cost(5 + 3 * 6, 5 + 3 * 5)
    assert result.equal(images)


def test_steps_of_a_batch_that_is_fooled_go_not_back(linear):
    """Then the loss is the count alone, which does not need the model."""
    model, images, labels, _ = linear(3)
    with model.borrow() as borrowed:
        before = borrowed.cost
        sigma_zero(borrowed, images[:1], labels[:1], steps=30)
        cost = borrowed.cost - before
    assert 0 < cost.backward < cost.forward - 1


@pytest.mark.parametrize("at_step", [1, 5])
def test_adam_steps_are_those_of_torch_for_samples_at_different_steps(at_step):
    gradients = torch.randn(6, 2, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parameter = torch.zeros_like(gradients[0]).requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=1.0)
    mean = square = torch.zeros_like(gradients[0])
    for number, gradient in enumerate(gradients[:at_step], 1):
        move, mean, square = adam(gradient, mean, square, torch.tensor([number, number]))
        before, parameter.grad = parameter.detach().clone(), gradient
        optimizer.step()
    torch.testing.assert_close(before - move, parameter.detach(), rtol=0, atol=1e-12)
    first, _, _ = adam(gradient, 0 * mean, 0 * square, torch.tensor([1, at_step]))
    torch.testing.assert_close(first[0], gradient[0].sign(), rtol=1e-6, atol=1e-6)


def test_the_answers_are_those_of_adv_lib(adv_lib, doubles, monkeypatch, compared):
    model, images, labels = compared
    # Theirs is a step behind with the step size: in the authors' code the scheduler moves on before τ is changed.
    late = types.SimpleNamespace(pi=math.pi, cos=lambda angle: math.cos(angle + math.pi / 25))
    monkeypatch.setattr(importlib.import_module("adv_lib.attacks.sigma_zero"), "math", late)
    ours = sigma_zero(model, images, labels, steps=25)
    theirs = adv_lib.sigma_zero(model, images, labels, num_steps=25)
    assert (theirs != images).flatten(1).any(1).sum() >= 7  # otherwise this test says little
    assert (ours - theirs).abs().max() <= 1e-8


@pytest.mark.parametrize(("options", "message"), [({"steps": 0}, "steps=0"), ({"norm": "l1"}, "'l1'")])
def test_settings_that_make_no_sense_are_refused(unfoolable, options, message):
    model, images = unfoolable
    with pytest.raises(AuditError, match=message):
        sigma_zero(model, images, torch.ones(5, dtype=torch.int64), **options)
