"""Guided backprop and the deconvnet, against captum where that is right, and ReLUs written out."""

import warnings
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.lenses.guided_backprop import deconvnet, guided_backprop

RULES = {"guided_backprop": guided_backprop, "deconvnet": deconvnet}
IMAGES = torch.rand(3, 3, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.tensor([0, 3, 1])


class Net(nn.Module):
    """Two convolutions, a skip connection that takes the ReLU's own input, and a linear layer."""

    def __init__(self, relu, *, skip=False):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.linear = nn.Linear(6, 4)
        self.act = relu if isinstance(relu, nn.Module) else None
        self.relu, self.skip = relu, skip
        self.double()

    def forward(self, images):
        before = self.first(images)
        after = self.relu(self.second(self.relu(before.clone())))
        return self.linear((after + before if self.skip else after).mean((2, 3)))


class Guided(torch.autograd.Function):
    """A ReLU whose backward pass is the rule, by the papers."""

    @staticmethod
    def forward(ctx, values, rule):
        ctx.rule = rule
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx, above):
        (values,) = ctx.saved_tensors
        positive = above.clamp(min=0)
        return positive * (values > 0) if ctx.rule == "guided_backprop" else positive, None


CALLED = {
    "a module used twice": nn.ReLU,
    "a module in place": lambda: nn.ReLU(inplace=True),
    "a function": lambda: F.relu,
    "torch's": lambda: torch.relu,
    "in place": lambda: torch.relu_,
    "a method": lambda: torch.Tensor.relu,
    "clamping": lambda: lambda values: values.clamp(min=0),
    "a threshold": lambda: lambda values: F.threshold(values, 0, 0),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("called", CALLED)
def test_the_rule_holds_however_a_relu_is_called(rule, skip, called):
    found = RULES[rule](Net(CALLED[called](), skip=skip), IMAGES, TARGETS)
    written_out = Net(lambda values: Guided.apply(values, rule), skip=skip)
    pixels = IMAGES.clone().requires_grad_()
    written_out(pixels).gather(1, TARGETS[:, None]).sum().backward()
    torch.testing.assert_close(found, pixels.grad, rtol=0, atol=1e-12)
    assert found.abs().sum() > 0


@pytest.mark.parametrize("rule", RULES)
def test_parity_with_captum_where_every_relu_is_a_module_of_its_own(rule):
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4)
    ).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {"guided_backprop": captum.GuidedBackprop, "deconvnet": captum.Deconvolution}[rule](net)
        expected = theirs.attribute(IMAGES.clone().requires_grad_(), target=TARGETS)
    torch.testing.assert_close(RULES[rule](net, IMAGES, TARGETS), expected.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("smooth", [nn.SiLU(), nn.GELU(), nn.LeakyReLU(0.1), nn.Identity()])
def test_where_the_rule_changes_nothing_there_is_an_error_and_no_picture(rule, smooth):
    with pytest.raises(AuditError, match="There is no ReLU between the class scores and the image"):
        RULES[rule](Net(smooth), IMAGES, TARGETS)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("rule", RULES)
def test_what_hides_its_relus_is_an_error(rule):
    traced = torch.jit.trace(Net(F.relu), IMAGES)
    with pytest.raises(AuditError, match="TorchScript"):
        RULES[rule](traced, IMAGES, TARGETS)


@pytest.mark.parametrize("rule", RULES)
def test_mates_modes_and_frozen_weights_change_nothing_and_nothing_is_left(rule):
    net = Net(F.relu)
    expected = RULES[rule](net, IMAGES, TARGETS)
    alone = torch.cat([RULES[rule](net, IMAGES[i : i + 1], TARGETS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-12)
    net.requires_grad_(requires_grad=False)
    for surrounding in (torch.no_grad, torch.inference_mode):
        with surrounding():
            torch.testing.assert_close(RULES[rule](net, IMAGES.clone(), TARGETS), expected, rtol=0, atol=1e-12)
    assert all(weight.grad is None for weight in net.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in net.modules())
    deepcopy(net)


def test_real_images_need_one_forward_and_one_backward_pass(resnet20_model, cifar):
    images, labels = cifar[0][:4], cifar[1][:4]
    with resnet20_model.borrow() as model:
        found = guided_backprop(model, images, labels)
        assert (model.cost.forward, model.cost.backward) == (4, 4)
    assert found.shape == images.shape
