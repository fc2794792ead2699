"""Dead channels that were planted are found, and those of a healthy network pass."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel, Samples
from pytest_cnnaudit.questions.activations import ActivationQuestions

IMAGES = torch.rand(12, 3, 10, 8, generator=torch.Generator().manual_seed(0))
SAMPLES = Samples.from_tensors(IMAGES, [0, 1] * 6)


class Net(nn.Module):
    """Eight channels; an in-place ReLU that runs twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Linear(8, 2)
        self.norm, self.active, self.unused = nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(1, 1, 1)

    def forward(self, images):
        maps = self.active(self.norm(self.relu(self.conv(images) + 1)))
        return self.head(self.relu(maps).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def asks(module, samples=SAMPLES, **options):
    return ActivationQuestions(AuditModel(module), samples, device="cpu", **options)


def plant(net, *, silent=(), constant=()):
    with torch.no_grad():
        net.norm.weight[list(silent)], net.norm.bias[list(silent)] = 1.0, -100.0
        net.norm.weight[list(constant)], net.norm.bias[list(constant)] = 0.0, 3.0
    return net


def test_planted_dead_channels_are_found(net):
    found = asks(plant(net, silent=[2], constant=[5])).activations("active")
    assert np.flatnonzero(found.channels.dead).tolist() == [2, 5]
    assert (found.dead.count, found.dead.n, float(found.dead)) == (2, 8, 0.25)
    assert found.channels.sparsity[[2, 5]].tolist() == [1, 0]
    assert (found.channels.largest[5], found.channels.smallest[5]) == (3, 3)


def test_an_assertion_fails_far_beyond_what_healthy_networks_have(net):
    audit = asks(plant(net, silent=[2], constant=[5]))
    assert audit.assert_no_dead_channels("active").dead == 0.25
    with pytest.raises(AssertionError, match=r"assert dead channels 0\.25 .*2 of 8\) <= 0\.20") as failed:
        audit.assert_no_dead_channels("active", max_dead=0.2)
    assert "dead: channels 2, 5" in str(failed.value)
    plant(net, silent=[0])
    with pytest.raises(AssertionError, match=r"dead channels 0\.38 .*3 of 8\) <= 0\.25"):
        audit.assert_no_dead_channels("active")
    assert len(audit.measurements) == 3


def test_a_healthy_network_passes(resnet20_model, cifar_samples):
    audit = ActivationQuestions(resnet20_model, cifar_samples[:100], device="cpu")
    for layer in ("layer1", "layer2", "layer3"):
        assert audit.assert_no_dead_channels(layer).dead <= 0.125


@pytest.mark.parametrize("name", ["conv", "norm"])
def test_a_layer_before_the_relu_is_read_before_it_is_changed_and_its_reader_is_told(net, name):
    plant(net, silent=[2])
    with torch.no_grad():
        net.conv.bias[1] = -100
        expected = net.conv(IMAGES)
        if name == "norm":
            expected = net.norm((expected + 1).relu())
    found = asks(net, batch_size=5).activations(name)
    assert found.channels.smallest == pytest.approx(expected.amin((0, 2, 3)).double().numpy(), rel=1e-5)
    assert found.channels.smallest.min() < 0
    assert np.flatnonzero(found.channels.dead).tolist() == ([1] if name == "conv" else [1, 2])
    assert "dead if a ReLU follows, and only then" in found.notes[0]


def test_sparsity_is_a_figure_of_each_sample_in_their_order(net):
    found = asks(net, batch_size=5).activations("active")
    with torch.no_grad():
        maps = net.active(net.norm(net.relu(net.conv(IMAGES) + 1)))
    assert found.per_sample["sparsity"] == pytest.approx((maps <= 0).flatten(1).double().mean(1).numpy())
    assert found.sparsity == pytest.approx(float((maps <= 0).double().mean()))
    assert found.ids == SAMPLES.ids


@pytest.mark.parametrize("planted", range(9))
def test_an_assertion_stops_as_soon_as_few_enough_are_left_and_says_the_same_as_the_whole(net, planted):
    plant(net, silent=range(planted))
    audit = asks(net, batch_size=1)
    full = audit.activations("active").dead <= 0.5
    try:
        stopped = audit.assert_no_dead_channels("active", max_dead=0.5)
        assert full
        assert len(stopped.ids) < len(SAMPLES)
        assert stopped.notes[-1].startswith("Stopped as soon as the verdict was certain")
    except AssertionError:
        assert not full
        assert len(audit.measurements[-1].ids) == len(SAMPLES)


def test_one_pass_that_goes_no_further_than_the_layer(net):
    ran = []
    net.head.register_forward_hook(lambda *_: ran.append(1))
    found = asks(net, batch_size=4).activations("active")
    # Five more: does each layer run once, and in which order are images fed?
    assert (found.cost.forward, found.cost.backward) == (len(SAMPLES) + 5, 0)
    assert len(ran) == 3


def test_tiles_are_the_maps_with_dead_ones_first(net):
    found = asks(plant(net, silent=[2])).activations("active")
    images, first, second, chart = found.exhibits
    assert (images.kind, first.kind, second.kind) == ("rows", "grid", "grid")
    assert [row.title for row in images.rows] == list(SAMPLES.ids[:2])
    assert [row.title for row in first.rows] == [f"channel {each}" for each in (2, 0, 1, 3, 4, 5, 6, 7)]
    assert [row.status for row in first.rows] == ["dead"] + [""] * 7
    with torch.no_grad():
        maps = net.active(net.norm(net.relu(net.conv(IMAGES) + 1)))
    expected = (maps[1, 0] / maps[1, 0].max() * 255).round().byte().numpy()
    assert np.array_equal(second.rows[1].pictures[0].pixels, expected)
    assert not second.rows[0].pictures[0].pixels.any()
    assert sum(chart.series[0].counts) == 8


def test_where_a_layer_goes_below_zero_grey_is_zero(net):
    found = asks(net).activations("conv")
    maps = net.conv(IMAGES)[0, 3].detach()
    pixels = found.exhibits[1].rows[3].pictures[0].pixels.astype(float)
    assert pixels == pytest.approx((0.5 + maps / maps.abs().max() / 2).numpy() * 255, abs=1)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("actve", "no layer 'actve' in Net. Did you mean 'active'"),
        ("relu", "'relu' runs 2 times"),
        ("unused", "'unused' did not run"),
    ],
)
def test_layers_that_cannot_be_meant_are_refused_by_name(net, layer, message):
    with pytest.raises(AuditError, match=message):
        asks(net).activations(layer)


def test_maps_that_are_not_numbers_are_refused_with_a_sample(net):
    images = IMAGES.clone()
    images[7] = 0

    class Divides(nn.Module):
        def forward(self, maps):
            return maps / maps.amax((1, 2, 3), keepdim=True)

    model = nn.Sequential(Divides(), nn.Flatten(), nn.Linear(240, 2))
    samples = Samples.from_tensors(images, [0] * 12)
    with pytest.raises(AuditError, match=r"layer '0' returns NaN or infinite values for 1 of 12 images, 07 among them"):
        asks(model, samples).activations("0")


def test_images_that_the_model_does_not_take_are_named_by_their_shape(net):
    with pytest.raises(AuditError, match=r"does not take images of 1×8×8"):
        asks(net, Samples.from_tensors(torch.rand(2, 1, 8, 8), [0, 1])).activations("conv")


def test_a_threshold_that_is_no_share_is_refused(net):
    with pytest.raises(AuditError, match="max_dead=2 is not a share"):
        asks(net).assert_no_dead_channels("active", max_dead=2)


def test_the_model_is_left_as_it_was(net, untouched):
    check = untouched(net.train())
    asks(net).activations("active")
    with pytest.raises(AuditError):
        asks(net).activations("relu")
    check()
