"""Class activation maps: those of the reference libraries, of the papers' formulas, several for the price of one."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses import cams
from pytest_cnnaudit.lenses.cams import class_activation_maps, eigen_cam, grad_cam, grad_cam_plus_plus, layer_cam
from pytest_cnnaudit.results import Cost

FAMILY = {
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "layer_cam": layer_cam,
    "eigen_cam": eigen_cam,
}
IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.tensor([0, 1, 3])


def scaled(maps):
    """Each map from 0 to 1, as pytorch-grad-cam returns it."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


class Louder(nn.Module):
    """Logits times 1,000, so that gradients are far above the constant that a library adds to a denominator."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return 1000 * self.model(images)


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


@pytest.mark.parametrize(
    ("name", "theirs", "loud"),
    [
        ("grad_cam", "GradCAM", False),
        ("layer_cam", "LayerCAM", False),
        # Their denominator is 2 g² + Σ A g³ + 1e-6, the last term of which no paper has. Where gradients are as small
        # as g = 0.01, it changes the weights by a percent and more.
        ("grad_cam_plus_plus", "GradCAMPlusPlus", True),
    ],
)
@pytest.mark.parametrize("layer", ["layer3", "layer2"])
def test_it_is_that_of_pytorch_grad_cam(resnet20_model, cifar, name, theirs, loud, layer):
    reference = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images, labels = cifar[0][:8], cifar[1][:8]
    with resnet20_model.borrow() as borrowed:
        model, layer = Louder(borrowed) if loud else borrowed, getattr(borrowed.module, layer)
        ours = FAMILY[name](model, images, labels, layer=layer)[:, 0]
        with getattr(reference, theirs)(model=model, target_layers=[layer]) as cam:
            targets = [ClassifierOutputTarget(int(label)) for label in labels]
            expected = torch.from_numpy(cam(images.clone().requires_grad_(), targets))
    torch.testing.assert_close(scaled(ours), scaled(expected), rtol=0, atol=1e-4)


class Head(nn.Module):
    """A layer, and scores that are linear in its output: A = conv(x), score = Σ w A."""

    def __init__(self, seed=0, side=8, channels=4):
        super().__init__()
        torch.manual_seed(seed)
        self.layer, self.head = nn.Conv2d(3, channels, 1), nn.Linear(channels * side * side, 4)

    def forward(self, x):
        return self.head(self.layer(x).relu_().flatten(1))


def by_hand(net, images):
    """(A, ∂ score / ∂ A), the second from a copy of the head."""
    activations = net.layer(images).detach().requires_grad_()
    score = net.head(activations.relu().flatten(1))[range(len(images)), TARGETS].sum()
    return activations.detach(), torch.autograd.grad(score, activations)[0]


def test_grad_cam_is_the_formula_of_the_paper():
    net = Head().double()
    activations, gradients = by_hand(net, IMAGES)
    expected = torch.einsum("nk,nkhw->nhw", gradients.mean((2, 3)), activations).relu()[:, None]
    torch.testing.assert_close(grad_cam(net, IMAGES, TARGETS, layer=net.layer), expected)


def test_layer_cam_is_the_formula_of_the_paper():
    net = Head().double()
    activations, gradients = by_hand(net, IMAGES)
    expected = (gradients.clamp(min=0) * activations).sum(1, keepdim=True).clamp(min=0)
    assert expected.any()
    torch.testing.assert_close(layer_cam(net, IMAGES, TARGETS, layer=net.layer), expected)


def test_grad_cam_plus_plus_has_the_weights_of_the_paper_by_second_and_third_derivatives():
    """α = ∂²Y/∂A² / (2 ∂²Y/∂A² + Σ A ∂³Y/∂A³) for Y = exp(score), equation 10, each derivative by autograd."""
    net = Head(side=3, channels=2).double()
    with torch.no_grad():
        net.layer.bias += 1  # activations above 0, as after the ReLU that the paper has
    images = IMAGES[:, :, :3, :3]
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        activations = net.layer(image[None])[0].detach()
        assert activations.min() > 0

        def exponential(flat, target=target, shape=activations.shape):
            return net.head(flat.view(shape).flatten()[None])[0, target].exp()

        flat = activations.flatten().clone().requires_grad_()
        values = exponential(flat)
        (first,) = torch.autograd.grad(values, flat, create_graph=True)
        second, third = (torch.zeros_like(flat) for _ in range(2))
        for place in range(len(flat)):
            twice = torch.autograd.grad(first[place], flat, create_graph=True)[0][place]
            second.data[place] = twice.detach()
            third.data[place] = torch.autograd.grad(twice, flat, retain_graph=True)[0][place]
        first, second, third = (each.detach().view_as(activations) for each in (first, second, third))
        alphas = second / (2 * second + activations.sum((1, 2), keepdim=True) * third)
        weights = (alphas * first.relu()).sum((1, 2))
        expected.append((weights[:, None, None] * activations).sum(0).relu() / values.detach())
    found = grad_cam_plus_plus(net, images, TARGETS, layer=net.layer)[:, 0]
    assert found.any()
    torch.testing.assert_close(found, torch.stack(expected))


def test_grad_cam_plus_plus_does_not_change_when_the_gradients_are_tiny():
    """With Σ A g → 0, α → 1/2 whatever the size of g: a constant in the denominator would make it vanish."""
    net = Head().double()
    with torch.no_grad():
        net.head.weight *= 1e-8
    activations, gradients = by_hand(net, IMAGES)
    expected = ((gradients.relu() / 2).sum((2, 3), keepdim=True) * activations).sum(1, keepdim=True).relu()
    found = grad_cam_plus_plus(net, IMAGES, TARGETS, layer=net.layer)
    torch.testing.assert_close(found * 1e8, expected * 1e8)


def test_grad_cam_plus_plus_has_no_weight_where_its_denominator_is_zero():
    """Which it can be where activations are negative: 2 + Σ A g = 0."""
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[2.0, 1.0], [0.0, 0.0]]))
    found = grad_cam_plus_plus(net, torch.tensor([-1.0, 3.0]).view(1, 2, 1, 1), torch.tensor([0]), layer=net[0])
    assert float(found) == pytest.approx(3 * 1 / (2 + 3 * 1))


@pytest.mark.parametrize("layer", ["layer2", "layer3"])
def test_eigen_cam_is_the_projection_on_the_first_singular_vector(resnet20_model, cifar, layer):
    images, labels = cifar[0][:6], cifar[1][:6]
    with resnet20_model.borrow() as model:
        layer = getattr(model.module, layer)
        ours = eigen_cam(model, images, labels, layer=layer)
        activations = cams.activations_at(model, images, layer).double().numpy()
        assert model.cost == Cost(12, 0)
    expected = []
    for maps in activations:
        rows = maps.reshape(len(maps), -1).T
        values, vectors = np.linalg.eigh(rows.T @ rows)
        assert values[-1] > 1.1 * values[-2]
        projected = rows @ vectors[:, -1]
        expected.append((projected * np.sign(projected.sum())).reshape(maps.shape[1:]))
    coarse = torch.from_numpy(np.stack(expected))[:, None]
    assert coarse.min() > -1e-6  # activations above 0 have a first singular vector of one sign
    torch.testing.assert_close(
        ours.double(), interpolate(coarse, (32, 32), mode="bilinear").clamp(min=0), rtol=1e-4, atol=1e-4
    )


def test_eigen_cam_is_that_of_pytorch_grad_cam_where_the_channels_have_mean_zero():
    """The library takes the mean of each channel off, which the paper does not, and leaves the sign to chance."""
    svd = pytest.importorskip("pytorch_grad_cam.utils.svd_on_activations")

    class Centred(nn.Module):
        def forward(self, x):
            return x - x.mean((2, 3), keepdim=True)

    net = Head()
    net.layer = nn.Sequential(net.layer, Centred())
    images = IMAGES.float()
    theirs = torch.from_numpy(svd.get_2d_projection(net.layer(images).detach().numpy()))
    turned = theirs.amax((1, 2), keepdim=True) < -theirs.amin((1, 2), keepdim=True)
    ours = eigen_cam(net, images, TARGETS, layer=net.layer)[:, 0]
    torch.testing.assert_close(ours, torch.where(turned, -theirs, theirs).clamp(min=0), rtol=0, atol=1e-4)


def test_eigen_cam_does_not_look_at_the_target():
    net = Head().double()
    maps = [eigen_cam(net, IMAGES, targets, layer=net.layer) for targets in (TARGETS, TARGETS.flip(0))]
    assert maps[0].equal(maps[1])


def test_an_empty_layer_has_an_empty_map():
    net = Head().double()
    with torch.no_grad():
        net.layer.weight.zero_()
        net.layer.bias.zero_()
    for method in FAMILY.values():
        assert not method(net, IMAGES, TARGETS, layer=net.layer).any()


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
@pytest.mark.parametrize("name", FAMILY)
def test_what_follows_the_layer_may_change_its_output_in_place(in_place, plain, name):
    torch.manual_seed(0)
    net = After(plain).double()
    other = After(in_place).double()
    other.load_state_dict(net.state_dict())
    maps = [FAMILY[name](AuditModel(each), IMAGES, TARGETS, layer=each.layer) for each in (net, other)]
    assert maps[0].any()
    torch.testing.assert_close(maps[1], maps[0])


def test_several_methods_share_one_forward_and_one_backward_pass(tiny_net):
    net = tiny_net()
    with AuditModel(net).borrow() as model:
        together = class_activation_maps(model, IMAGES, TARGETS, layer=net.bn2)
        assert model.cost == Cost(3, 3)
        assert list(together) == list(FAMILY)
        for name, method in FAMILY.items():
            torch.testing.assert_close(method(model, IMAGES, TARGETS, layer=net.bn2), together[name])
        assert model.cost == Cost(15, 12)  # Eigen-CAM has no use for a backward pass


def test_the_map_has_the_size_of_the_image_and_is_never_negative(resnet20_model, cifar):
    for method in FAMILY.values():
        maps = method(resnet20_model, cifar[0][:4], cifar[1][:4], layer=resnet20_model.layer("layer2"))
        assert maps.shape == (4, 1, 32, 32)
        assert maps.min() >= 0


def test_there_is_no_other_method(tiny_net):
    net = tiny_net()
    with pytest.raises(AuditError, match="no class activation map 'cam'; use 'grad_cam', 'grad_cam_plus_plus'"):
        class_activation_maps(net, IMAGES, TARGETS, layer=net.bn2, methods=["grad_cam", "cam"])
