import importlib
import math
import types

import pytest
import torch

from pytest_cnnaudit.attacks.adam import adam
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.attacks.sigma_zero import sigma_zero


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
