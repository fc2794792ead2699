import pytest
import torch

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.lenses import grad_cam, gradient
from pytest_cnnaudit.lenses.localization import saliency_maps
from pytest_cnnaudit.results import Cost

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])


@pytest.mark.filterwarnings(
    "ignore:Setting forward, backward hooks:UserWarning", "ignore:Input Tensor:UserWarning"
)  # captum
def test_it_is_the_saliency_of_captum(resnet20_model, cifar):
    from captum.attr import Saliency

    images, labels = cifar[0][:8], cifar[1][:8]
    with resnet20_model.borrow() as model:
        theirs = Saliency(model).attribute(images.clone().requires_grad_(), target=labels, abs=False)
        torch.testing.assert_close(gradient(model, images, labels), theirs, rtol=0, atol=1e-5)


def test_it_costs_one_forward_and_one_backward_pass_a_sample(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        gradient(model, IMAGES, TARGETS)
        assert model.cost == Cost(3, 3)


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("lens", ["gradient", "grad_cam"])
def test_a_lens_works_under_the_callers_grad_mode(tiny_net, caller, lens):
    net = tiny_net()
    function, options = (gradient, {}) if lens == "gradient" else (grad_cam, {"layer": net.bn2})
    with AuditModel(net).borrow() as model:
        expected = function(model, IMAGES, TARGETS, **options)
    with caller():
        inside = IMAGES.clone()  # an inference tensor under inference_mode
        with AuditModel(net).borrow() as model:
            found = function(model, inside, TARGETS.clone(), **options)
    torch.testing.assert_close(found.clone(), expected)


@pytest.mark.parametrize("lens", ["gradient", "grad_cam"])
def test_batch_mates_never_change_a_map(tiny_net, lens):
    net, images = tiny_net(), IMAGES.double()
    with AuditModel(net).borrow() as model:

        def maps(chosen):
            options = {} if lens == "gradient" else {"layer": net.bn2}
            return {"gradient": gradient, "grad_cam": grad_cam}[lens](model, images[chosen], TARGETS[chosen], **options)

        alone = torch.cat([maps([position]) for position in (2, 0, 1)])
        torch.testing.assert_close(alone, maps([2, 0, 1]), rtol=0, atol=1e-12)


def test_no_gradient_reaches_the_weights(tiny_net):
    net = tiny_net()
    with AuditModel(net).borrow() as model:
        gradient(model, IMAGES, TARGETS)
        saliency_maps(grad_cam(model, IMAGES, TARGETS, layer=net.bn2), (8, 8))
    assert all(weight.grad is None for weight in net.parameters())
