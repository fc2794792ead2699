import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.attacks.goal import ascent, input_gradient, reached

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])


def test_untargeted_is_reached_off_the_label_and_targeted_on_the_target():
    labels = torch.tensor([0, 0])
    assert reached(LOGITS, labels, targeted=False).tolist() == [False, True]
    assert reached(LOGITS, labels, targeted=True).tolist() == [True, False]


@pytest.mark.parametrize("targeted", [False, True])
def test_the_objective_has_the_direction_of_the_cross_entropy(targeted):
    """∇ cross-entropy = σ(m) ∇m, at every scale that floating point can still resolve."""
    logits, labels = LOGITS.double().requires_grad_(), torch.tensor([1, 2])
    odds = ascent(logits, labels, targeted=targeted)
    (ours,) = torch.autograd.grad(odds.sum(), logits)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    (theirs,) = torch.autograd.grad((-loss if targeted else loss).sum(), logits)
    weight = (-odds if targeted else odds).sigmoid()[:, None]
    torch.testing.assert_close(weight * ours, theirs)
    torch.testing.assert_close(torch.nn.functional.softplus(-odds if targeted else odds), loss)


def test_the_objective_does_not_vanish_where_the_model_is_sure():
    logits = (1000 * LOGITS).requires_grad_()
    labels = logits.argmax(1)
    (ours,) = torch.autograd.grad(ascent(logits, labels, targeted=False).sum(), logits)
    (vanished,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), logits)
    assert not vanished.any()
    torch.testing.assert_close(ours, torch.tensor([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]]))


def test_the_gradient_is_for_the_images_and_never_for_the_weights():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images = torch.rand(2, 1, 2, 2)
    logits, values, gradient = input_gradient(net, images, lambda logits: logits[:, 1])
    torch.testing.assert_close(gradient.flatten(1), net[1].weight[1].detach().expand(2, -1))
    torch.testing.assert_close(logits, net(images).detach())
    assert values.equal(logits[:, 1])
    assert all(weight.grad is None for weight in net.parameters())
    assert not images.requires_grad
    assert not logits.requires_grad


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_images_made_without_gradients_can_be_attacked(caller, tiny_net):
    net = tiny_net()
    with caller():
        images = torch.rand(2, 3, 8, 8).double()
        with AuditModel(net).borrow() as model:
            _, _, gradient = input_gradient(model, images, lambda logits: logits[:, 0])
    assert gradient.abs().sum() > 0
