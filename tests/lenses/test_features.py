"""Features are what they are said to be, and nothing runs after them."""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.features import features_from, features_into, last_linear

IMAGES = torch.rand(3, 3, 8, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two linear layers at the end, given by position and by name, and what may come between and after."""

    def __init__(self, *, weigh=False, pointwise=False):
        super().__init__()
        self.conv, self.squeeze, self.hidden, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 5), None
        self.head = nn.Conv2d(4, 2, 1) if pointwise else nn.Linear(5, 2)
        self.relu, self.scale, self.weigh, self.ran = nn.ReLU(inplace=True), nn.Identity(), weigh, 0

    def forward(self, images):
        maps = self.conv(images)
        if self.weigh:
            maps = self.scale(maps * self.squeeze(maps.mean((2, 3))).sigmoid()[:, :, None, None])
        if isinstance(self.head, nn.Conv2d):
            return self.head(maps).mean((2, 3))
        vectors = self.relu(self.hidden(maps.mean((2, 3))))
        logits = self.head(input=vectors)
        self.ran += 1
        return logits


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def name_of(module):
    with AuditModel(module).borrow() as borrowed:
        found = last_linear(borrowed, IMAGES)
        assert borrowed.cost.forward == len(IMAGES)
        assert not any(part._forward_hooks for part in module.modules())
    return found


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (Net(), "head"),
        (Net(weigh=True), "head"),
        (Net(pointwise=True), None),
        (Net(weigh=True, pointwise=True), None),  # its linear layer weighs channels
        (nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(144, 3), nn.ReLU(), nn.Linear(3, 4)), nn.ReLU()), "1.2"),
    ],
)
def test_the_classifier_is_the_last_linear_layer_unless_maps_come_after_it(module, name):
    assert name_of(module.eval()) == name


def test_a_linear_layer_on_tokens_is_no_classifier():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.each = nn.Linear(48, 2)

        def forward(self, images):
            return self.each(images.flatten(2)).mean(1)

    assert name_of(Tokens()) is None


def test_a_classifier_that_runs_twice_is_refused():
    shared = nn.Linear(144, 144)
    with pytest.raises(AuditError, match=r"'1' runs 2 times in a forward pass.*name one that runs once"):
        name_of(nn.Sequential(nn.Flatten(), shared, nn.ReLU(), shared))


def test_what_goes_into_the_classifier_and_no_further(net):
    with torch.no_grad():
        expected = net.relu(net.hidden(net.conv(IMAGES).mean((2, 3))))
    assert torch.allclose(features_into(net, IMAGES, net.head), expected)
    assert net.ran == 0
    assert not any(part._forward_pre_hooks for part in net.modules())


def test_what_a_layer_returns_averaged_over_positions_or_as_it_is(net):
    with torch.no_grad():
        maps = net.conv(IMAGES)
        vectors = net.hidden(maps.mean((2, 3)))
    assert torch.allclose(features_from(net, IMAGES, net.conv), maps.mean((2, 3)))
    assert vectors.min() < 0  # the ReLU that follows changes them in place
    assert torch.allclose(features_from(net, IMAGES, net.hidden), vectors)
    assert net.ran == 0


def test_features_of_low_precision_are_numbers_that_numpy_knows(net):
    low = net.bfloat16()
    for features in (features_into(low, IMAGES.bfloat16(), low.head), features_from(low, IMAGES.bfloat16(), low.conv)):
        assert features.dtype == torch.float32


def test_what_is_no_vector_an_image_is_refused_by_name(net):
    unused = nn.Linear(48, 1)
    tokens = nn.Sequential(nn.Flatten(2), unused, nn.Flatten())
    with pytest.raises(AuditError, match=r"'tokens' is given \(3, 3, 48\) for 3 images, not one vector each"):
        features_into(tokens, IMAGES, unused, "tokens")
    assert not unused._forward_pre_hooks
    with pytest.raises(AuditError, match="'unused' did not run"):
        features_into(net, IMAGES, unused, "unused")
    with pytest.raises(AuditError, match=r"'tokens' returns \(3, 3, 1\)"):
        features_from(tokens, IMAGES, unused, "tokens")
