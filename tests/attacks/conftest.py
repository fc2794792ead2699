"""What the tests of attacks share: small images for real and tiny models, a model with known distances, promises."""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.attacks.norms import length

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


@pytest.fixture
def doubles(request):
    """References that make tensors without a dtype make doubles."""
    if "compared" in request.fixturenames:
        request.getfixturevalue("compared")  # first: the session's models are of single precision
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def patches(resnet20_model, cifar):
    """(images, labels): the middle 16×16 of real images, where ResNet-20 gets it right. A pass costs it a quarter."""
    images, labels = cifar[0][:, :, 8:24, 8:24].contiguous(), cifar[1]
    with resnet20_model.borrow() as model, torch.no_grad():
        right = model(images).argmax(1) == labels
    return images[right], labels[right]


@pytest.fixture(params=["resnet20", "tiny"])
def compared(request, tiny_net):
    """A borrowed model in double precision, images (some values are 0 or 1), and the labels it gives them."""
    if request.param == "resnet20":
        known = request.getfixturevalue("resnet20_model")
        model = AuditModel(request.getfixturevalue("resnet20").double(), mean=known.mean, std=known.std)
        images = request.getfixturevalue("patches")[0][:8].double()
    else:
        images = drawn_images(0, 12)
        model = AuditModel(balance(tiny_net(), (images - 0.5) / 0.25), mean=(0.5,) * 3, std=(0.25,) * 3)
    with model.borrow() as borrowed:
        with torch.no_grad():
            labels = borrowed(images).argmax(1)
        yield borrowed, images, labels


def drawn_images(seed, count=4, *, stretch=1.4, dtype=torch.float64):
    """Random images, the more values of them 0 or 1 the higher `stretch`."""
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return (images * stretch - (stretch - 1) / 2).clamp(0, 1)


@pytest.fixture(scope="session")
def drawn():
    """`drawn_images`, and labels among four classes."""

    def draw(seed, count=4, **settings):
        labels = torch.randint(4, (count,), generator=torch.Generator().manual_seed(seed))
        return drawn_images(seed, count, **settings), labels

    return draw


def balance(net, images):
    """The net with another bias, under which no class wins everywhere."""
    with torch.no_grad():
        net.linear.bias -= net(images).mean(0)
    return net


@pytest.fixture(scope="session")
def balanced():
    return balance


class Linear(nn.Module):
    """logit₁ − logit₀ = ⟨w, x⟩ + b."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, images):
        score = (self.weight * images.flatten(1)).sum(1) + self.bias
        return torch.stack([-score / 2, score / 2], 1)


@pytest.fixture(scope="session")
def linear():
    """Makes, from a seed: a linear model, images of 12 values near 0.5, its labels, their distances by norm."""

    def make(seed, count=4):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(12, generator=generator, dtype=torch.float64)
        images = 0.48 + 0.04 * torch.rand(count, 3, 2, 2, generator=generator, dtype=torch.float64)
        bias = 0.2 * weight.abs().max() * (-1) ** seed - 0.5 * weight.sum()
        score = images.flatten(1) @ weight + bias
        distances = {norm: score.abs() / length(weight.view(1, 3, 2, 2), dual) for norm, dual in DUAL.items()}
        assert max(distance.max() for distance in distances.values()) < 0.4  # no border is in the way
        return AuditModel(Linear(weight, bias)), images, (score > 0).long(), distances

    return make


@pytest.fixture(scope="session")
def unfoolable():
    """A model that says 1 to every image of 12 values, and has a gradient, and images."""
    weight = torch.linspace(-1, 1, 12, dtype=torch.float64)
    images = torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return AuditModel(Linear(weight, torch.tensor(100.0, dtype=torch.float64))), images


@pytest.fixture(scope="session")
def assert_answers():
    """Asserts what every minimum-norm attack promises of its answers; returns how many fool."""

    def check(model, images, labels, result, *, targeted=False):
        assert result.shape == images.shape
        assert result.dtype == images.dtype
        assert 0 <= result.min() <= result.max() <= 1
        with torch.no_grad():
            hit = model(result).argmax(1) == labels
        fooled = hit if targeted else ~hit
        assert result[~fooled].equal(images[~fooled])  # the image itself where nothing was found
        return int(fooled.sum())

    return check


@pytest.fixture(scope="session")
def assert_batch_is_no_matter(tiny_net):
    """Asserts that neither batch size nor mates nor order change what `attack(model, images, labels, …)` finds."""

    def check(attack, seed, order, cut, at_once):
        images = drawn_images(seed, len(order))
        with AuditModel(balance(tiny_net(seed), images)).borrow() as model:
            with torch.no_grad():
                labels = model(images).argmax(1)
            labels[0] = (labels[0] + 1) % 4  # one is fooled before it starts
            together = attack(model, images, labels, torch.arange(len(order)))
            order = torch.tensor(order)
            parts = [
                attack(model, images[part], labels[part], part, at_once=at_once) for part in order.tensor_split([cut])
            ]
        torch.testing.assert_close(torch.cat(parts), together[order], rtol=0, atol=1e-9)

    return check
