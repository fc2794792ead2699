"""Noise that is called a class: against a linear network, whose answers are known."""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.fooling import fooling_images
from pytest_cnnaudit.results import Cost

SHAPE = (1, 2, 2)


class Linear(nn.Module):
    """Two classes; the logit of class 1 over class 0 is `slope` times the sum of the pixels, less an offset."""

    def __init__(self, slope, offset=0.0):
        super().__init__()
        self.slope, self.offset = slope, offset

    def forward(self, images):
        over = self.slope * images.flatten(1).sum(1) - self.offset
        return torch.stack([torch.zeros_like(over), over], 1)


def grey(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None].expand(-1, *SHAPE).clone()


def test_each_image_takes_as_many_steps_as_it_needs_and_no_more():
    """Steps of 0.01 in all four pixels raise the logit by 0.4: from −1 it takes six to be above 1, three from 0."""
    images = grey(0.475, 0.5, 0.56)
    with AuditModel(Linear(10.0, 20.0)).borrow() as model:
        found = fooling_images(model, images, torch.tensor([1, 1, 1]), confidence=0.73, eps=0.04, steps=40)
        certain = model(found).softmax(1)[:, 1] >= 0.73
        # 0.73 is a logit of 0.9946. One sees the first image at −1, −0.6, …; it stops at 0.6 where the ball ends.
        steps = ((found - images) / 0.01).amax((1, 2, 3))
    torch.testing.assert_close(steps, torch.tensor([4.0, 3.0, 0.0], dtype=torch.float64))
    assert certain.tolist() == [False, True, True]


def test_an_image_that_is_there_leaves_the_batch():
    images = grey(0.5, 0.56, 0.48)
    with AuditModel(Linear(10.0, 20.0)).borrow() as model:
        fooling_images(model, images, torch.tensor([1, 1, 1]), confidence=0.73, eps=0.2, steps=40)
        # Steps of 0.05, each 2: logits 0, 2.4 and −0.8 are all there after one, but for the second, after none. Those
        # that are found to be there have been through one pass more.
        assert model.cost == Cost(forward=3 + 2, backward=3)


def test_steps_are_a_limit():
    with AuditModel(Linear(10.0, 100.0)).borrow() as model:
        found = fooling_images(model, grey(0.1, 0.2), torch.tensor([1, 0]), confidence=0.9, eps=None, steps=5)
        assert model.cost == Cost(forward=2 + 4, backward=2 + 4)
    torch.testing.assert_close(found, grey(0.1 + 5 * 4 / 255, 0.2))


@pytest.mark.parametrize("eps", [2 / 255, 8 / 255, 0.3, None])
def test_images_stay_within_eps_and_in_range(eps):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, *SHAPE, generator=generator, dtype=torch.float64)
    before = images.clone()
    found = fooling_images(Linear(10.0, 1e4), images, torch.ones(5, dtype=torch.long), eps=eps, steps=300)
    assert torch.equal(images, before)
    torch.testing.assert_close(found, (before + (1 if eps is None else eps)).clamp(max=1), rtol=0, atol=1e-12)


def test_images_find_what_they_would_find_alone(tiny_net):
    net = tiny_net()
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    classes = torch.tensor([0, 1, 2, 3, 0, 1])
    limits = {"confidence": 0.4, "eps": 0.1, "steps": 6}
    together = fooling_images(net, images, classes, **limits)
    assert not torch.equal(together, images)
    for number in range(6):
        alone = fooling_images(net, images[number : number + 1], classes[number : number + 1], **limits)
        torch.testing.assert_close(alone[0], together[number], rtol=0, atol=1e-12)


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
def test_the_callers_modes_and_random_numbers_change_nothing(tiny_net, surrounding):
    net = tiny_net().requires_grad_(requires_grad=False)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = fooling_images(net, images, torch.tensor([0, 1]), steps=3)
    state = torch.get_rng_state()
    with surrounding():
        found = fooling_images(net, images.clone(), torch.tensor([0, 1]), steps=3)
    assert torch.equal(found, expected)
    assert not found.is_inference()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_may_write_into_its_input():
    class Writes(Linear):
        def forward(self, images):
            return super().forward(images.sub_(0.5).add_(0.5))

    images = grey(0.5)
    expected = fooling_images(Linear(1.0, 9.0), images, torch.tensor([1]), steps=3)
    torch.testing.assert_close(fooling_images(Writes(1.0, 9.0), images, torch.tensor([1]), steps=3), expected)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda images: Linear(1.0)(images.detach()), "do not depend on the image"),
        (lambda images: images.new_zeros(len(images), 2).requires_grad_() * 1, "do not depend on the image"),
        (lambda images: Linear(1.0)((images - 0.5).abs().sqrt() + images), "gradient of a class score is not finite"),
    ],
)
def test_a_gradient_that_cannot_be_followed_is_an_error(model, message):
    with pytest.raises(AuditError, match=message):
        fooling_images(model, grey(0.5), torch.tensor([0]))
