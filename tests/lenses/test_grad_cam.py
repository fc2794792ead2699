import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses import grad_cam
from pytest_cnnaudit.results import Cost

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])


@pytest.mark.filterwarnings(
    "ignore:Setting forward, backward hooks:UserWarning", "ignore:Input Tensor:UserWarning"
)  # captum
def test_it_is_the_grad_cam_of_captum(resnet20_model, cifar):
    from captum.attr import LayerAttribution, LayerGradCam

    images, labels = cifar[0][:8], cifar[1][:8]
    with resnet20_model.borrow() as model:
        layer = model.module.layer3
        ours = grad_cam(model, images, labels, layer=layer)
        coarse = LayerGradCam(model, layer).attribute(images.clone().requires_grad_(), labels, relu_attributions=True)
        theirs = LayerAttribution.interpolate(coarse, (32, 32), "bilinear")
    assert ours.amax() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_is_the_grad_cam_of_pytorch_grad_cam(resnet20_model, cifar):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images, labels = cifar[0][:8], cifar[1][:8]
    with resnet20_model.borrow() as model, GradCAM(model=model, target_layers=[model.module.layer3]) as reference:
        ours = grad_cam(model, images, labels, layer=model.module.layer3)[:, 0]
        targets = [ClassifierOutputTarget(int(label)) for label in labels]
        theirs = torch.from_numpy(reference(images.clone().requires_grad_(), targets))

    def scaled(maps):  # the reference scales each map before and after upsampling
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        return (maps - low) / (high - low)

    torch.testing.assert_close(scaled(ours), scaled(theirs), rtol=0, atol=1e-4)


class After(nn.Module):
    """A layer whose output is changed in place by what follows, or not."""

    def __init__(self, follow):
        super().__init__()
        self.layer, self.head, self.follow = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4), follow

    def forward(self, x):
        return self.head(self.follow(self.layer(x)).mean((2, 3)))


def add_in_place(x):
    x += 1.5 * x.detach().clone()
    return x


@pytest.mark.parametrize(
    ("in_place", "plain"),
    [
        (nn.ReLU(inplace=True), nn.ReLU()),
        (lambda x: x.relu_(), torch.relu),
        (add_in_place, lambda x: x + 1.5 * x.detach()),
    ],
)
def test_what_follows_the_layer_may_change_its_output_in_place(in_place, plain):
    torch.manual_seed(0)
    net = After(plain)
    other = After(in_place)
    other.load_state_dict(net.state_dict())
    maps = [grad_cam(AuditModel(each), IMAGES, TARGETS, layer=each.layer) for each in (net, other)]
    assert maps[0].any()
    torch.testing.assert_close(maps[1], maps[0])


def test_it_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    net = After(torch.relu).double()
    images = IMAGES.double()
    activations = net.layer(images).detach().requires_grad_()
    score = net.head(activations.relu().mean((2, 3)))[range(3), TARGETS].sum()
    (gradients,) = torch.autograd.grad(score, activations)
    expected = torch.einsum("nk,nkhw->nhw", gradients.mean((2, 3)), activations).relu()[:, None].detach()
    ours = grad_cam(AuditModel(net), images, TARGETS, layer=net.layer)
    torch.testing.assert_close(ours, interpolate(expected, (8, 8), mode="bilinear"))


def test_the_map_has_the_size_of_the_image_and_is_never_negative(resnet20_model, cifar):
    maps = grad_cam(resnet20_model, cifar[0][:4], cifar[1][:4], layer=resnet20_model.layer("layer2"))
    assert maps.shape == (4, 1, 32, 32)
    assert maps.min() >= 0


def test_it_costs_one_forward_and_one_backward_pass_a_sample(tiny_net):
    net = tiny_net()
    with AuditModel(net).borrow() as model:
        grad_cam(model, IMAGES, TARGETS, layer=net.bn2)
        assert model.cost == Cost(3, 3)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda net: net.relu, "more than once"),
        (lambda net: nn.Conv2d(3, 3, 1), "did not run"),
        (lambda net: net.linear, r"map N×C×H×W; this one returns \(3, 4\)"),
    ],
)
def test_a_layer_that_does_not_do_is_refused_and_left_without_a_hook(tiny_net, layer, message):
    net = tiny_net()
    with pytest.raises(AuditError, match=message):
        grad_cam(AuditModel(net), IMAGES, TARGETS, layer=layer(net))
    assert not any(part._forward_hooks for part in net.modules())


def test_a_layer_that_the_scores_do_not_depend_on_is_an_error(tiny_net):
    class WithAnAuxiliaryHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.aside = tiny_net(), nn.Conv2d(3, 2, 1).double()

        def forward(self, images):
            self.aside(images)
            return self.main(images)

    with (
        AuditModel(WithAnAuxiliaryHead()).borrow() as model,
        pytest.raises(AuditError, match="do not depend on Grad-CAM's layer"),
    ):
        grad_cam(model, torch.rand(2, 3, 8, 8).double(), torch.tensor([0, 1]), layer=model.module.aside)
