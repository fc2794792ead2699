import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.gradient import gradient, gradient_x_input
from pytest_cnnaudit.results import Cost

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])


@pytest.mark.filterwarnings(
    "ignore:Setting forward, backward hooks:UserWarning", "ignore:Input Tensor:UserWarning"
)  # captum
@pytest.mark.parametrize("name", ["Saliency", "InputXGradient"])
def test_it_is_that_of_captum(resnet20_model, cifar, name):
    import captum.attr

    images, labels = cifar[0][:8], cifar[1][:8]
    options = {"abs": False} if name == "Saliency" else {}
    ours = gradient if name == "Saliency" else gradient_x_input
    with resnet20_model.borrow() as model:
        theirs = getattr(captum.attr, name)(model).attribute(images.clone().requires_grad_(), target=labels, **options)
        torch.testing.assert_close(ours(model, images, labels), theirs, rtol=0, atol=1e-5)


def test_of_a_linear_score_the_gradient_is_the_weight_and_times_the_input_it_is_complete():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False))
    weights = net[1].weight[TARGETS].detach().view(3, 3, 8, 8)
    torch.testing.assert_close(gradient(net, IMAGES, TARGETS), weights)
    torch.testing.assert_close(gradient_x_input(net, IMAGES, TARGETS), weights * IMAGES)
    scores = net(IMAGES)[range(3), TARGETS].detach()
    torch.testing.assert_close(gradient_x_input(net, IMAGES, TARGETS).sum((1, 2, 3)), scores)


@pytest.mark.parametrize("lens", [gradient, gradient_x_input])
def test_it_costs_one_forward_and_one_backward_pass_a_sample(tiny_net, lens):
    with AuditModel(tiny_net()).borrow() as model:
        lens(model, IMAGES, TARGETS)
        assert model.cost == Cost(3, 3)


def test_a_model_may_write_into_its_input():
    class InPlace(nn.Module):
        def forward(self, images):
            return images.sub_(0.5).mul_(2).relu_().mean((2, 3))

    images = IMAGES.clone()
    found = gradient(InPlace(), images, torch.tensor([0, 1, 2]))
    expected = torch.zeros_like(images)
    for place in range(3):
        expected[place, place] = (IMAGES[place, place] > 0.5) * 2 / 64
    torch.testing.assert_close(found, expected)
    assert images.equal(IMAGES)


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, images: net(images).detach(),
        lambda net, images: net(images.detach()),  # the logits have a graph, of the weights
        lambda net, images: torch.no_grad()(net)(images),
        lambda net, images: net((images * 255).round().byte().float()),
    ],
)
def test_where_no_gradient_reaches_the_image_it_is_said(forward):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(AuditError, match="class scores do not depend on the image in a way that gradients can follow"):
        gradient(lambda images: forward(net, images), IMAGES, TARGETS)
