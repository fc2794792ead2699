"""Attributions of captum: the same answers as by hand, for the model under audit, with nothing left changed."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.adapters import adapted
from pytest_cnnaudit.lenses.cams import grad_cam
from pytest_cnnaudit.lenses.gradient import gradient
from pytest_cnnaudit.lenses.integrated_gradients import integrated_gradients

captum = pytest.importorskip("captum.attr")

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def net(tiny_net):
    return tiny_net().float()


@pytest.fixture
def model(net):
    with AuditModel(net, mean=MEAN, std=STD).borrow() as borrowed:
        yield borrowed


@pytest.fixture
def elsewhere():
    """A module that nobody may explain: the one that an object was made with."""

    class Elsewhere(nn.Module):
        def forward(self, images):
            raise AssertionError("explained the module that the object was made with")

    return Elsewhere()


def seed(number):
    """Of a borrowed model's generators: they are given back with it."""
    torch.manual_seed(number)
    np.random.seed(number)  # noqa: NPY002  (what captum draws from)


def snapshot(attribution):
    return {
        name: snapshot(value) if isinstance(value, captum.Attribution) else value
        for name, value in vars(attribution).items()
    }


def test_a_class_an_object_and_a_function_of_the_model_are_the_same(net, model, elsewhere):
    expected = integrated_gradients(model, IMAGES, TARGETS, steps=8)
    options = {"n_steps": 8, "method": "riemann_middle"}
    own = captum.IntegratedGradients(net)  # which wants normalised images
    other = captum.IntegratedGradients(elsewhere)
    before = snapshot(own), snapshot(other)
    for each in (captum.IntegratedGradients, own, other, lambda model: captum.IntegratedGradients(model)):  # noqa: PLW0108
        found = adapted(each)(model, IMAGES, TARGETS, **options)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (snapshot(own), snapshot(other)) == before


def test_the_names_say_what_it_is(net):
    assert adapted(captum.Saliency).__name__ == adapted(captum.Saliency(net)).__name__ == "captum Saliency"


def test_an_object_inside_another_explains_the_model_under_audit_too(model, elsewhere):
    tunnel = captum.NoiseTunnel(captum.Saliency(elsewhere))
    torch.manual_seed(3)
    found = adapted(tunnel)(model, IMAGES, TARGETS, nt_samples=3, stdevs=0.1, abs=False)
    torch.manual_seed(3)
    noise = torch.normal(0, torch.full((9, 3, 8, 8), 0.1)).view(3, 3, 3, 8, 8)
    expected = torch.stack([gradient(model, IMAGES + noise[:, copy], TARGETS) for copy in range(3)]).mean(0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert tunnel.forward_func is tunnel.attribution_method.forward_func is elsewhere


@pytest.mark.parametrize("make", [
    lambda net: captum.LayerGradCam(net, net.bn2),
    lambda net: partial(captum.LayerGradCam, layer=net.bn2),
    lambda net: lambda model: captum.LayerGradCam(model, model.module.bn2),
])  # fmt: skip
def test_a_layer_of_the_audited_module_is_looked_at(net, model, make):
    found = adapted(make(net))(model, IMAGES, TARGETS, relu_attributions=True)
    torch.testing.assert_close(found, grad_cam(model, IMAGES, TARGETS, layer=net.bn2), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Saliency", {}),
        ("InputXGradient", {}),
        ("Deconvolution", {}),
        ("GuidedBackprop", {}),
        ("GuidedGradCam", {}),
        ("GradientShap", {"baselines": torch.zeros(1, 3, 8, 8), "n_samples": 2}),
        ("FeatureAblation", {"feature_mask": torch.arange(4).view(1, 1, 2, 2).repeat(1, 1, 4, 4)}),
        ("Occlusion", {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}),
        ("ShapleyValueSampling", {"feature_mask": torch.arange(4).view(1, 1, 2, 2).repeat(1, 1, 4, 4), "n_samples": 2}),
        ("KernelShap", {"feature_mask": torch.arange(4).view(1, 1, 2, 2).repeat(1, 1, 4, 4), "n_samples": 8}),
        ("LayerActivation", {}),  # takes no target
        ("LayerGradientXActivation", {}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_object_gives_what_it_gives_by_hand_and_leaves_no_trace(tiny_net, name, options):
    class Net(nn.Module):
        """Every ReLU is a module of its own, which is what captum's rules need."""

        def __init__(self):
            super().__init__()
            self.conv1, self.relu1 = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()
            self.conv2, self.relu2, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Linear(6, 4)

        def forward(self, x):
            return self.head(self.relu2(self.conv2(self.relu1(self.conv1(x)))).mean((2, 3)))

    if name == "KernelShap":
        pytest.importorskip("sklearn")
    torch.manual_seed(0)
    net = Net().eval()
    with_layer = name.startswith("Layer") or name == "GuidedGradCam"
    made = getattr(captum, name)(net, *([net.conv2] if with_layer else []))
    with AuditModel(net, mean=MEAN, std=STD).borrow() as model:
        by_hand = getattr(captum, name)(model, *([net.conv2] if with_layer else []))
        target = {} if name == "LayerActivation" else {"target": TARGETS}
        seed(1)
        expected = by_hand.attribute(IMAGES.clone().requires_grad_(), **target, **options)
        seed(1)
        images = IMAGES.clone()
        found = adapted(made)(model, images, TARGETS, **options)
    assert found.shape[0] == 3
    assert found.any()
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach())
    assert images.equal(IMAGES)
    assert images.grad is None
    assert not images.requires_grad
    assert all(weight.grad is None for weight in net.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in net.modules())


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            lambda net: captum.Saliency(lambda images: net(images).softmax(1)),
            {},
            "made with a function, .* cannot take",
        ),
        (lambda net: captum.LayerGradCam(net, nn.Conv2d(3, 3, 1)), {}, "made for a layer of another model"),
        (lambda net: captum.LayerGradCam, {}, "cannot be made from a model alone.*lambda model: LayerGradCam"),
        (lambda net: captum.IntegratedGradients, {"return_convergence_delta": True}, "returned a tuple.*leave out"),
        (lambda net: captum.IntegratedGradients, {"steps": 3}, "IntegratedGradients does not take.*'steps'"),
        (lambda net: captum.Occlusion, {}, "Occlusion does not take what it was given: missing.*sliding_window_shapes"),
        (lambda net: captum.Occlusion, {"sliding_window_shapes": (3, 9, 9)}, "Occlusion refused.*cannot exceed"),
        (lambda net: lambda model: 3, {}, "takes a model and returned a int"),
    ],
)
def test_what_captum_cannot_do_is_said(net, model, make, options, message):
    with pytest.raises(AuditError, match=message):
        adapted(make(net))(model, IMAGES, TARGETS, **options)


def test_a_callable_of_the_users_is_left_alone():
    class Method:
        def __call__(self, model, images, targets):
            return images

    def with_options(model, images, targets, *, steps=3):
        return images

    for each in (
        Method(),
        Method,
        with_options,
        lambda *given: given,
        partial(with_options, steps=2),
        "gradient",
        None,
    ):
        assert adapted(each) is None
    assert adapted(nn.Identity()) is None


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_it_works_under_the_callers_grad_mode(net, caller):
    expected = gradient(net, IMAGES, TARGETS).abs()
    with caller():
        found = adapted(captum.Saliency)(net, IMAGES.clone(), TARGETS.clone())
    torch.testing.assert_close(found.clone(), expected)


def test_captum_is_not_imported_to_look_for_its_attributions():
    program = (
        "import sys; from pytest_cnnaudit.lenses.methods import method_of\n"
        "method_of('rise'), method_of(lambda model, images, targets: images)\n"
        "assert 'captum' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
