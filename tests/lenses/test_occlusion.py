import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.occlusion import occlusion
from pytest_cnnaudit.results import Cost

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])


@pytest.mark.parametrize(
    ("window", "stride"),
    [((8, 8), (4, 4)), ((7, 9), (5, 4)), ((32, 5), (32, 5))],  # the second is cut off at both borders
)
@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_it_is_that_of_captum(resnet20_model, cifar, window, stride, baseline):
    from captum.attr import Occlusion

    images, labels = cifar[0][:3], cifar[1][:3]
    with resnet20_model.borrow() as model:
        ours = occlusion(model, images, labels, window=window, stride=stride, baseline=baseline)
        theirs = Occlusion(model).attribute(images, (3, *window), (3, *stride), baseline, labels)
    assert ours.abs().amax() > 0.1
    assert theirs.amax(1).equal(theirs.amin(1))  # the same in all channels, where ours has one
    torch.testing.assert_close(ours, theirs[:, :1], rtol=0, atol=1e-5)


class Sum(nn.Module):
    """Class k is the sum of the pixels in the columns from 2k on, two of them."""

    def forward(self, images):
        return torch.stack([images[..., 2 * k : 2 * k + 2].sum((1, 2, 3)) for k in range(4)], 1)


def test_of_a_sum_it_is_what_lies_under_the_patch():
    images = IMAGES.double()
    found = occlusion(Sum(), images, TARGETS, window=2, stride=2, baseline=0)
    blocks = torch.nn.functional.avg_pool2d(images.sum(1, keepdim=True), 2) * 4
    expected = blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for place, target in enumerate(TARGETS):
        expected[place, :, :, : 2 * target] = 0
        expected[place, :, :, 2 * target + 2 :] = 0
    torch.testing.assert_close(found, expected)


def test_what_speaks_for_the_class_is_positive_and_what_speaks_against_it_negative():
    found = occlusion(lambda images: torch.cat([Sum()(images), -Sum()(images)], 1), IMAGES, TARGETS, baseline=0)
    against = occlusion(lambda images: torch.cat([Sum()(images), -Sum()(images)], 1), IMAGES, TARGETS + 4, baseline=0)
    assert found.amax() > 0
    assert found.amin() >= 0
    torch.testing.assert_close(against, -found)


def test_it_costs_a_forward_pass_for_the_image_and_for_each_patch(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        occlusion(model, IMAGES, TARGETS, at_once=2)  # patches of 2×2, one pixel apart
        assert model.cost == Cost(3 + 3 * 49, 0)
        before = model.cost
        occlusion(model, IMAGES, TARGETS, window=8)
        assert model.cost - before == Cost(6, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 9}, "window of 9×9 .* images of 8×8"),
        ({"window": (2, 9)}, "window of 2×9"),
        ({"window": 0}, "window of 0×0"),
        ({"window": 2, "stride": 3}, "stride of 3×3 .* up to the window"),
        ({"stride": 0}, "stride of 0×0"),
        ({"baseline": torch.zeros(2, 1, 1)}, "baseline of shape"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny_net, options, message):
    with pytest.raises(AuditError, match=message):
        occlusion(tiny_net(), IMAGES, TARGETS, **options)
