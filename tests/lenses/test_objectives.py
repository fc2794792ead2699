"""What images are made for: the score that the paper says, of each image alone, and no further than its layer."""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.objectives import activity_objective, channel_objective, class_objective, neuron
from pytest_cnnaudit.results import Cost

IMAGES = torch.rand(4, 3, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Net(nn.Module):
    """Maps, tokens and vectors; what follows each layer changes its output in place."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.embed, self.linear = nn.Conv2d(3, 5, 3), nn.Linear(5, 6), nn.Linear(6, 8)
        self.tail, self.ran = nn.Linear(8, 4), []
        self.double()

    def forward(self, images):
        maps = self.conv(images)
        self.ran.append("after conv")
        tokens = self.embed(maps.relu_().flatten(2).transpose(1, 2))
        self.ran.append("after embed")
        vectors = self.linear(tokens.mul_(2).mean(1))
        self.ran.append("after linear")
        return self.tail(vectors.tanh_())


def by_hand(net):
    maps = net.conv(IMAGES)
    tokens = net.embed(maps.relu().flatten(2).transpose(1, 2))
    vectors = net.linear((2 * tokens).mean(1))
    return maps, tokens, vectors, net.tail(vectors.tanh())


@pytest.fixture
def net():
    return Net().eval()


def test_a_class_is_its_logit_before_the_softmax(net):
    *_, logits = by_hand(net)
    scores = class_objective(net, torch.tensor([2, 0, 3, 2]))(IMAGES)
    torch.testing.assert_close(scores, logits[range(4), [2, 0, 3, 2]])
    assert scores.min() < 0  # as no probability is


def test_a_channel_is_the_mean_of_its_map_and_a_neuron_is_at_its_place(net):
    maps, *_ = by_hand(net)
    scores = channel_objective(net, net.conv, [4, 0, 1, 1], [None, (0, 0), (6, 4), (2, 3)])(IMAGES)
    expected = [maps[0, 4].mean(), maps[1, 0, 0, 0], maps[2, 1, 6, 4], maps[3, 1, 2, 3]]
    torch.testing.assert_close(scores, torch.stack(expected))
    without = channel_objective(net, net.conv, [4, 0, 1, 1])(IMAGES)
    torch.testing.assert_close(without, maps[range(4), [4, 0, 1, 1]].mean((1, 2)))


def test_channels_of_tokens_and_of_vectors(net):
    _, tokens, vectors, _ = by_hand(net)
    of_tokens = channel_objective(net, net.embed, [0, 5, 2, 2])(IMAGES)
    torch.testing.assert_close(of_tokens, tokens[range(4), :, [0, 5, 2, 2]].mean(1))
    of_vectors = channel_objective(net, net.linear, [7, 0, 3, 3])(IMAGES)
    torch.testing.assert_close(of_vectors, vectors[range(4), [7, 0, 3, 3]])


@pytest.mark.parametrize(("layer", "shape"), [("embed", r"\(35, 6\)"), ("linear", r"\(8,\)")])
def test_a_position_is_one_in_a_map(net, layer, shape):
    with pytest.raises(AuditError, match=rf"position=\(0, 1\) is one in a map, .* returns {shape} for an image"):
        channel_objective(net, getattr(net, layer), [0] * 4, [(0, 1)] * 4)(IMAGES)


@pytest.mark.parametrize(
    ("layer", "ran"), [("conv", []), ("embed", ["after conv"]), ("linear", ["after conv", "after embed"])]
)
def test_the_network_is_left_after_the_layer_and_passes_are_counted(net, layer, ran):
    with AuditModel(net).borrow() as model:
        pixels = IMAGES.clone().requires_grad_()
        scores = channel_objective(model, getattr(net, layer), [0, 1, 2, 3])(pixels)
        (slope,) = torch.autograd.grad(scores.sum(), pixels)
        assert model.cost == Cost(4, 4)
    assert slope.any()
    assert net.ran == ran
    assert not any(part._forward_hooks for part in net.modules())


def test_the_activity_is_half_the_mean_square_whose_slope_is_the_answer_itself(net):
    maps, _, vectors, _ = by_hand(net)
    scores = activity_objective(net, [net.linear, net.conv], [0.5, 2.0])(IMAGES)
    expected = 0.5 * vectors.square().mean(1) / 2 + 2.0 * maps.square().mean((1, 2, 3)) / 2
    torch.testing.assert_close(scores, expected)
    answer = maps.detach().requires_grad_()
    layer = nn.Identity()
    (slope,) = torch.autograd.grad(activity_objective(layer, [layer], [1.0])(answer).sum(), answer)
    torch.testing.assert_close(slope * maps[0].numel(), maps.detach())


def objectives(net):
    return {
        "class": class_objective(net, torch.tensor([2, 0, 3, 2])),
        "channel": channel_objective(net, net.conv, [4, 0, 1, 1], [None, (0, 0), None, (2, 3)]),
        "activity": activity_objective(net, [net.conv, net.linear], [1.0, 1.0]),
    }


@pytest.mark.parametrize("name", ["class", "channel", "activity"])
def test_each_score_is_of_its_own_image_alone(net, name):
    pixels = IMAGES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(objectives(net)[name](pixels)[1], pixels)
    assert slope[1].any()
    assert not slope[[0, 2, 3]].any()


def test_a_neuron_of_an_answer():
    maps = torch.arange(24.0).view(2, 3, 4)
    assert neuron(maps, 1, None) == maps[1].mean()
    assert neuron(maps, 1, (2, 3)) == 23
    assert neuron(maps[0], 2, None) == maps[0][:, 2].mean()  # tokens
    assert neuron(maps[0, 0], 2, None) == 2
