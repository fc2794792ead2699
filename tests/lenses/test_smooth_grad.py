import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.gradient import gradient
from pytest_cnnaudit.lenses.smooth_grad import smooth_grad
from pytest_cnnaudit.results import Cost

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])


@pytest.mark.filterwarnings(
    "ignore:Setting forward, backward hooks:UserWarning", "ignore:Input Tensor:UserWarning"
)  # captum
def test_it_is_that_of_captum_with_the_same_noise(resnet20_model, cifar):
    from captum.attr import NoiseTunnel, Saliency

    images, labels = cifar[0][:4], cifar[1][:4]
    with resnet20_model.borrow() as model:
        torch.manual_seed(5)
        tunnel = NoiseTunnel(Saliency(model))
        theirs = tunnel.attribute(images, nt_samples=6, stdevs=0.1, target=labels, abs=False)
        torch.manual_seed(5)
        noise = torch.normal(0, torch.full((24, 3, 32, 32), 0.1)).view(4, 6, 3, 32, 32).transpose(0, 1)
        ours = smooth_grad(model, images, labels, noise=noise)
    assert not torch.allclose(ours, gradient(resnet20_model, images, labels), atol=1e-3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


class Square(nn.Module):
    """Scores Σ c x², whose gradient 2 c x, averaged over copies, shows what noise there was."""

    def forward(self, images):
        return torch.stack([k * images.square().sum((1, 2, 3)) for k in range(1, 5)], 1)


def noise_of(images, **options):
    found = smooth_grad(Square(), images, torch.zeros(len(images), dtype=torch.long), **options)
    return found / 2 - images


def test_the_noise_is_normal_with_the_level_of_the_images_range():
    images = IMAGES * torch.tensor([1.0, 0.5, 0.1])[:, None, None, None]
    noise = noise_of(images, copies=1, noise_level=0.2)
    many = torch.cat(
        [noise_of(images, copies=1, noise_level=0.2, seeds=torch.arange(3) + 3 * turn) for turn in range(200)], dim=1
    ).flatten(1)
    spread = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
    assert noise.shape == images.shape
    torch.testing.assert_close(many.std(1) / spread, torch.full((3,), 0.2), rtol=0.02, atol=0)
    standard = many / (0.2 * spread[:, None])
    torch.testing.assert_close(standard.mean(1), torch.zeros(3), rtol=0, atol=0.02)
    assert float((standard.abs() < 1).float().mean()) == pytest.approx(0.6827, abs=0.01)
    assert float((standard.abs() < 2).float().mean()) == pytest.approx(0.9545, abs=0.005)
    assert float(standard.pow(4).mean()) == pytest.approx(3, abs=0.15)


def test_copies_samples_and_seeds_draw_differently_and_a_seed_draws_the_same_again():
    images = IMAGES[:1].repeat(3, 1, 1, 1)
    seeds = torch.tensor([3, 4, 3])
    noise = noise_of(images, copies=1, seeds=seeds)
    assert noise[0].equal(noise[2])
    assert not noise[0].equal(noise[1])
    two = noise_of(images, copies=2, seeds=seeds)
    assert not torch.allclose(two, noise)
    # Noise is half as wide in variance: the copies are independent.
    assert float(two.var() / noise.var()) == pytest.approx(0.5, abs=0.15)


def test_without_noise_it_is_the_gradient(tiny_net):
    net = tiny_net().float()
    expected = gradient(net, IMAGES, TARGETS)
    torch.testing.assert_close(smooth_grad(net, IMAGES, TARGETS, noise_level=0, copies=3), expected)
    torch.testing.assert_close(smooth_grad(net, IMAGES, TARGETS, noise=torch.zeros(3, *IMAGES.shape)), expected)


def test_it_costs_a_forward_and_a_backward_pass_a_copy(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        smooth_grad(model, IMAGES, TARGETS, copies=5, at_once=2)
        assert model.cost == Cost(15, 15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copies": 0}, "copies=0"),
        ({"noise_level": -1}, "noise_level=-1"),
        (
            {"noise": torch.zeros(3, 3, 8, 8)},
            r"noise of shape \(3, 3, 8, 8\) does not fit .*give \(copies, 3, 3, 8, 8\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tiny_net, options, message):
    with pytest.raises(AuditError, match=message):
        smooth_grad(tiny_net(), IMAGES, TARGETS, **options)
