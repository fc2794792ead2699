"""A neuron's gradient: of the right unit, by the rule, from its layer down and no further up."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.neuron import neuron_gradient, responses
from pytest_cnnaudit.results import Cost

IMAGES = torch.rand(3, 3, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Net(nn.Module):
    """What follows the layer changes its output in place; the linear layer sees vectors."""

    def __init__(self, relu=F.relu):
        super().__init__()
        torch.manual_seed(1)
        self.one, self.two = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, stride=2)
        self.linear, self.last, self.relu = nn.Linear(6, 8), nn.Linear(8, 4), relu
        self.double()

    def forward(self, images):
        maps = self.two(self.relu(self.one(images)))
        return self.last(self.linear(F.relu(maps, inplace=True).mean((2, 3))).relu_())

    def by_hand(self, rule, channel, unit):
        """The gradient of a neuron of `two`: its kernel, sent back through the ReLU and `one`."""
        before = self.one(IMAGES)
        seed = torch.zeros(3, 6, 4, 3, dtype=torch.float64)
        seed[:, channel, unit[0], unit[1]] = 1
        back = F.conv_transpose2d(seed, self.two.weight, stride=2)
        back = F.pad(back, (0, before.shape[3] - back.shape[3], 0, before.shape[2] - back.shape[2]))
        if rule != "gradient":
            back = back * (back > 0)
        if rule != "deconvnet":
            back = back * (before > 0)
        return F.conv_transpose2d(back, self.one.weight, padding=1).detach()


@pytest.mark.parametrize("rule", ["gradient", "guided_backprop", "deconvnet"])
@pytest.mark.parametrize("unit", [(0, 0), (2, 1), (3, 2)])
def test_it_is_what_the_transposed_filters_give(rule, unit):
    net = Net()
    found = neuron_gradient(net, IMAGES, layer=net.two, channel=4, unit=unit, rule=rule)
    torch.testing.assert_close(found, net.by_hand(rule, 4, unit), rtol=0, atol=1e-12)
    outside = torch.ones(9, 7, dtype=torch.bool)
    outside[max(0, 2 * unit[0] - 1) : 2 * unit[0] + 4, max(0, 2 * unit[1] - 1) : 2 * unit[1] + 4] = False
    assert not found[:, :, outside].any()


def test_without_a_unit_it_is_the_strongest_of_each_image():
    net = Net()
    maps = net.two(net.one(IMAGES).relu())[:, 2]
    found = responses(net, IMAGES, layer=net.two, channel=2)
    assert not found.activations.requires_grad
    assert torch.equal(found.activations, maps.flatten(1).amax(1))
    assert [maps[i, y, x] for i, (y, x) in enumerate(found.units.tolist())] == maps.flatten(1).amax(1).tolist()
    assert len(set(map(tuple, found.units.tolist()))) > 1
    strongest = neuron_gradient(net, IMAGES, layer=net.two, channel=2)
    torch.testing.assert_close(
        strongest, neuron_gradient(net, IMAGES, layer=net.two, channel=2, unit=found.units), rtol=0, atol=0
    )
    for i, unit in enumerate(found.units.tolist()):
        torch.testing.assert_close(
            strongest[i], net.by_hand("guided_backprop", 2, unit)[i], rtol=0, atol=1e-12
        )  # whatever mates there are


def test_of_equals_the_first_unit_counts_and_a_unit_can_be_named():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(12, 2))
    nn.init.ones_(net[0].weight)
    images = torch.zeros(1, 1, 3, 4)
    images[0, 0, 1, 2] = images[0, 0, 2, 1] = 1
    assert responses(net, images, layer=net[0], channel=0).units.tolist() == [[1, 2]]
    found = responses(net, images, layer=net[0], channel=0, unit=(2, 3))
    assert (found.activations.tolist(), found.units.tolist()) == ([0], [[2, 3]])


def test_a_vectors_entry_is_a_neuron_as_well():
    net = Net()
    pixels = IMAGES.clone().requires_grad_()
    vectors = net.linear(net.two(net.one(pixels).relu()).relu().mean((2, 3)))[:, 5]
    (expected,) = torch.autograd.grad(vectors.sum(), pixels)
    found = responses(net, IMAGES, layer=net.linear, channel=5)
    torch.testing.assert_close(found.activations, vectors.detach())
    assert not found.units.any()
    torch.testing.assert_close(
        neuron_gradient(net, IMAGES, layer=net.linear, channel=5, rule="gradient"), expected, rtol=0, atol=1e-12
    )


def test_the_network_runs_up_to_the_layer_and_passes_are_counted():
    net, ran = Net(), []
    net.linear.register_forward_hook(lambda *_: ran.append("linear"))
    with AuditModel(net).borrow() as model:
        responses(model, IMAGES, layer=net.two, channel=0)
        assert model.cost == Cost(3, 0)
        neuron_gradient(model, IMAGES, layer=net.two, channel=0)
        assert model.cost == Cost(6, 3)
    assert not ran


@pytest.mark.filterwarnings("ignore:Setting backward hooks:UserWarning", "ignore:Input Tensor:UserWarning")  # captum
@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("gradient", "NeuronGradient"),
        ("guided_backprop", "NeuronGuidedBackprop"),
        ("deconvnet", "NeuronDeconvolution"),
    ],
)
def test_it_is_that_of_captum_where_every_relu_is_a_module_of_its_own(rule, name):
    import captum.attr

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4)
    )
    images = IMAGES.float()
    ours = neuron_gradient(net, images, layer=net[3], channel=6, unit=(1, 0), rule=rule)
    theirs = getattr(captum.attr, name)(net, net[3]).attribute(images.clone().requires_grad_(), (6, 1, 0))
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-5)
    assert ours.any()


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
def test_the_callers_modes_and_frozen_weights_change_nothing(surrounding):
    net = Net()
    expected = neuron_gradient(net, IMAGES, layer=net.two, channel=1)
    net.requires_grad_(requires_grad=False)
    with surrounding():
        found = neuron_gradient(net, IMAGES.clone(), layer=net.two, channel=1)
        seen = responses(net, IMAGES.clone(), layer=net.two, channel=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not seen.activations.is_inference()
    assert not any(part._forward_hooks for part in net.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel": 6}, "channel=6 is not one of the layer's 6: 0 to 5"),
        ({"channel": -1}, "channel=-1 is not one"),
        ({"channel": 0, "unit": (4, 0)}, r"unit=\(4, 0\) is not in the layer's map of 4×3"),
        ({"channel": 0, "unit": (0, -1)}, r"unit=\(0, -1\) is not"),
        ({"channel": 0, "rule": "lrp"}, "no rule 'lrp'"),
    ],
)
def test_what_there_is_not_is_refused(options, message):
    net = Net()
    with pytest.raises(AuditError, match=message):
        neuron_gradient(net, IMAGES, layer=net.two, **options)
    assert not any(part._forward_hooks for part in net.modules())
    assert torch._C._len_torch_function_stack() == 0


def test_below_the_first_relu_there_is_only_the_gradient_which_is_the_filter():
    net = Net()
    with pytest.raises(AuditError, match=r"no ReLU between the neuron and the image.*use 'gradient'"):
        neuron_gradient(net, IMAGES, layer=net.one, channel=0)
    found = neuron_gradient(net, IMAGES, layer=net.one, channel=3, unit=(4, 3), rule="gradient")
    torch.testing.assert_close(found[1, :, 3:6, 2:5], net.one.weight[3].detach())


def test_layers_that_do_not_do_are_refused():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.detached = nn.Linear(3, 8), nn.Conv2d(3, 3, 1)

        def forward(self, images):
            self.detached(images.detach())
            return self.embed(images.flatten(2).transpose(1, 2)).mean(1)

    net, images = Tokens(), IMAGES.float()
    with pytest.raises(AuditError, match=r"returns \(3, 63, 8\); neurons are looked at"):
        neuron_gradient(net, images, layer=net.embed, channel=0, rule="gradient")
    for rule in ("gradient", "guided_backprop"):
        with pytest.raises(AuditError, match="neuron does not depend on the image"):
            neuron_gradient(net, images, layer=net.detached, channel=0, rule=rule)
    with pytest.raises(AuditError, match="did not run"):
        responses(net, images, layer=nn.ReLU(), channel=0)
