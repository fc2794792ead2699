import pytest
import torch

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks.eot import expectation
from pytest_cnnaudit.results import Cost


def test_logits_and_gradients_are_the_means_over_the_passes():
    slopes = iter(torch.tensor([1.0, 2.0, 6.0]))
    model = expectation(lambda images: next(slopes) * images.flatten(1), 3)
    images = torch.rand(2, 1, 1, 2, requires_grad=True)
    logits = model(images)
    torch.testing.assert_close(logits, 3 * images.flatten(1))
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    torch.testing.assert_close(gradient, torch.full_like(images, 3))


def test_each_pass_draws_anew_and_costs_a_pass(tiny_net):
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    with AuditModel(tiny_net()).borrow() as model:
        once = model(images)
        noisy = expectation(lambda images: model(images) + torch.randn(4, 4), 400)
        before = model.cost
        mean = noisy(images)
        assert 0 < (mean - once).abs().max() < 5 / 20  # σ = 1, over √400
        mean.sum().backward()
        assert model.cost - before == Cost(1600, 1600)


def test_one_pass_is_the_model_itself_and_none_is_refused():
    model = torch.nn.Flatten()
    assert expectation(model, 1) is model
    with pytest.raises(AuditError, match="eot=0"):
        expectation(model, 0)
