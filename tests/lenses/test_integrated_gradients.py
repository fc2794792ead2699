import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.integrated_gradients import integrated_gradients
from pytest_cnnaudit.results import Cost

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])
RULES = {
    "left": "riemann_left",
    "middle": "riemann_middle",
    "right": "riemann_right",
    "gauss_legendre": "gausslegendre",
}


@pytest.mark.filterwarnings(
    "ignore:Setting forward, backward hooks:UserWarning", "ignore:Input Tensor:UserWarning"
)  # captum
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("baseline", ["black", "image"])
def test_it_is_that_of_captum(resnet20, resnet20_model, cifar, rule, baseline):
    """In double precision: on the way from one image to another, rounding switches a ReLU."""
    from captum.attr import IntegratedGradients

    images, labels = cifar[0][:4].double(), cifar[1][:4]
    start = 0.0 if baseline == "black" else cifar[0][4:8].double()
    with AuditModel(resnet20.double(), mean=resnet20_model.mean, std=resnet20_model.std).borrow() as model:
        ours = integrated_gradients(model, images, labels, baseline=start, steps=8, rule=rule)
        theirs = IntegratedGradients(model).attribute(images, start, labels, n_steps=8, method=RULES[rule])
    assert ours.abs().amax() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


class Cubic(nn.Module):
    """Scores c Σ x³: the integral of 3 c x² from x′ to x is known."""

    def forward(self, images):
        return torch.stack([k * images.pow(3).sum((1, 2, 3)) for k in range(1, 5)], 1)


@pytest.mark.parametrize("baseline", [0.0, 0.5, torch.tensor([0.1, 0.2, 0.9]).double()[:, None, None]])
def test_of_a_cubic_score_it_is_the_integral(baseline):
    images = IMAGES.double()
    found = integrated_gradients(Cubic(), images, TARGETS, baseline=baseline, steps=2, rule="gauss_legendre")
    expected = (images.pow(3) - torch.as_tensor(baseline).pow(3)) * (TARGETS + 1)[:, None, None, None]
    torch.testing.assert_close(found, expected)  # two points of Gauss and Legendre are exact up to degree 3


@pytest.mark.parametrize(("rule", "order"), [("left", 1), ("right", 1), ("middle", 2)])
def test_the_error_falls_with_the_steps_as_the_rule_promises(rule, order):
    images = IMAGES.double()
    exact = images.pow(3) * (TARGETS + 1)[:, None, None, None]

    def error(steps):
        return float((integrated_gradients(Cubic(), images, TARGETS, steps=steps, rule=rule) - exact).norm())

    assert error(8) / error(16) == pytest.approx(2**order, rel=0.1)


def test_attributions_sum_to_what_the_image_adds_to_the_score_of_its_baseline(resnet20_model, cifar):
    images, labels = cifar[0][:8], cifar[1][:8]
    with resnet20_model.borrow() as model:
        sums = integrated_gradients(model, images, labels, baseline=0.5, steps=64).sum((1, 2, 3))
        with torch.no_grad():
            gain = (model(images) - model(torch.full_like(images, 0.5)))[range(8), labels]
    assert gain.abs().amax() > 5
    torch.testing.assert_close(sums, gain, rtol=0.02, atol=0.1)


def test_a_pixel_like_the_baseline_has_no_part(tiny_net):
    images = IMAGES.clone()
    images[:, :, 2, 3] = 0.25
    found = integrated_gradients(tiny_net().float(), images, TARGETS, baseline=0.25, steps=3)
    assert not found[:, :, 2, 3].any()
    assert found.any()


def test_it_costs_a_forward_and_a_backward_pass_a_step_and_no_more_than_asked_at_once(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        sizes = []
        model.register_forward_hook(lambda _model, inputs, _logits: sizes.append(len(inputs[0])))
        for at_once, largest in ((None, 3), (2, 2), (7, 6)):
            sizes.clear()
            before = model.cost
            integrated_gradients(model, IMAGES, TARGETS, steps=5, at_once=at_once)
            assert model.cost - before == Cost(15, 15)
            assert max(sizes) == largest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"rule": "trapezoid"}, "rule='trapezoid'; .* 'left', 'middle', 'right', 'gauss_legendre'"),
        (
            {"baseline": torch.zeros(4, 8, 8)},
            r"baseline of shape \(4, 8, 8\) does not fit images of shape \(3, 3, 8, 8\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tiny_net, options, message):
    with pytest.raises(AuditError, match=message):
        integrated_gradients(tiny_net(), IMAGES, TARGETS, **options)
