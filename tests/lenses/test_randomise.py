"""Layers are re-initialised in the order of the computation, the output first, in a copy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.lenses.randomise import Cascade, computation_order, cut_points, reinitialise

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Scrambled(nn.Module):
    """Registered in another order than it runs in; one layer runs twice, one never."""

    def __init__(self):
        super().__init__()
        self.head, self.unused, self.norm = nn.Linear(5, 3), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(5)
        self.second, self.relu, self.first = nn.Conv2d(5, 5, 1), nn.ReLU(), nn.Conv2d(3, 5, 3)

    def forward(self, images):
        maps = self.second(self.relu(self.norm(self.second(self.first(images)))))
        return self.head(maps.mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Scrambled()
    net.train()(IMAGES)
    return net.eval()


def layers_of(net):
    return computation_order(lambda: net(IMAGES), net).layers


def changed(module, other):
    """The names of parameters and buffers that differ."""
    before = module.state_dict()
    return {name for name, value in other.state_dict().items() if not torch.equal(value, before[name])}


def test_the_order_is_that_of_the_computation_and_not_of_the_registration(net):
    found = computation_order(lambda: net(IMAGES), net)
    assert found.layers == (("first",), ("second",), ("norm",), ("head",))
    assert found.idle == ("unused",)
    assert not any(part._forward_pre_hooks for part in net.modules())


def test_hooks_are_gone_after_a_pass_that_failed(net):
    with pytest.raises(RuntimeError):
        computation_order(lambda: net(IMAGES[:, :2]), net)
    assert not any(part._forward_pre_hooks for part in net.modules())


def test_the_cascade_goes_from_the_output_down_and_back(net):
    before = copy.deepcopy(net.state_dict())
    cascade = Cascade(net, layers_of(net), seed=3)
    of_layer = [
        {"head.weight", "head.bias"},
        {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"},  # its weights are still 1 and 0
        {"second.weight", "second.bias"},
        {"first.weight", "first.bias"},
    ]
    for count in (0, 1, 2, 3, 4, 2, 0):
        cascade.to(count)
        assert changed(net, cascade.module) == set().union(*of_layer[:count])
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_layer_keeps_its_values_while_those_below_follow(net):
    cascade = Cascade(net, layers_of(net), seed=3)
    cascade.to(1)
    head = cascade.module.head.weight.clone()
    cascade.to(4)
    assert torch.equal(cascade.module.head.weight, head)
    again, other = Cascade(net, layers_of(net)[2:], seed=3), Cascade(net, layers_of(net), seed=4)
    again.to(1)
    other.to(1)
    assert torch.equal(again.module.head.weight, head)  # whatever else there is
    assert not torch.equal(other.module.head.weight, head)


def test_the_random_state_of_the_caller_is_left_alone(net):
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    Cascade(net, layers_of(net), seed=3)
    assert torch.equal(torch.rand(3), expected)


def test_it_draws_on_the_cpu_and_leaves_the_generators_of_gpus_alone(net, monkeypatch):
    moved, seeded = [], []
    monkeypatch.setattr(Scrambled, "cpu", lambda self: moved.append(self) or nn.Module.cpu(self), raising=False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    cascade = Cascade(net, layers_of(net), seed=3)
    assert len(moved) == 1
    assert moved[0] is not net
    assert moved[0] is not cascade.module  # which stays where it is
    assert seeded == []


def test_a_copy_that_moves_to_another_type_of_tensor_still_follows(net):
    """As a copy that goes to another device, whose buffers are then other tensors."""
    cascade = Cascade(net, layers_of(net), seed=3)
    cascade.module.double()
    cascade.to(4)
    assert cascade.module.norm.running_var.tolist() == [1] * 5
    assert not torch.equal(cascade.module.head.weight, net.head.weight.double())


class Own(nn.Module):
    """Parameters without `reset_parameters`, and a layer inside."""

    def __init__(self):
        super().__init__()
        self.scale, self.inner = nn.Parameter(3 + 0.5 * torch.randn(2000)), nn.Linear(2000, 3)
        self.fixed = nn.Parameter(torch.full((4,), 7.0))

    def forward(self, images):
        return self.inner(images.flatten(1)[:, :1] * self.scale) + self.fixed[0]


def test_what_has_no_reset_is_drawn_with_the_mean_and_deviation_that_it_had():
    torch.manual_seed(0)
    module = Own()
    before = copy.deepcopy(module)
    reinitialise(module, seed=1)
    assert changed(before, module) == {"scale"}
    assert module.scale.mean().item() == pytest.approx(3, abs=0.05)
    assert module.scale.std().item() == pytest.approx(0.5, abs=0.05)
    assert abs(np.corrcoef(module.scale.detach(), before.scale.detach())[0, 1]) < 0.1


def test_what_a_block_has_of_its_own_counts_with_its_start():
    module = Own()
    assert layers_of(module) == (("",), ("inner",))


def test_weights_that_a_parametrization_hides_are_drawn_too():
    """`reset_parameters` of the layer reaches what is computed from them, and not them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(192, 3)))
    layers = layers_of(net)
    cascade = Cascade(net, layers, seed=1)
    cascade.to(len(layers))
    names = {"1.parametrizations.weight.original0", "1.parametrizations.weight.original1"}
    assert names <= changed(net, cascade.module)


def test_weights_that_attention_uses_without_running_their_layer_go_with_it():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, images):
            tokens = images.flatten(2)[..., :8]
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    net = Attends().eval()
    assert layers_of(net) == (("attention", "attention.out_proj"), ("head",))
    cascade = Cascade(net, layers_of(net), seed=1)
    cascade.to(2)
    assert {"attention.in_proj_weight", "attention.out_proj.weight"} <= changed(net, cascade.module)


def test_of_a_weight_that_two_layers_share_the_one_nearer_to_the_output_decides():
    first, last = nn.Linear(192, 192), nn.Linear(192, 192)
    last.weight = first.weight
    net = nn.Sequential(nn.Flatten(), first, last)
    cascade = Cascade(net, layers_of(net), seed=1)
    cascade.to(1)
    assert "1.weight" in changed(net, cascade.module)
    assert cascade.module[1].weight is cascade.module[2].weight


def test_signals_neither_vanish_nor_explode_through_a_deep_network():
    """With torch's own initialisation, logits of images differ by less than their rounding after 26 layers."""
    torch.manual_seed(0)
    parts = [part for _ in range(26) for part in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    net = nn.Sequential(nn.Conv2d(3, 16, 3), *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        logits = net(IMAGES)
        assert logits.std(0).max() / logits.abs().max() < 1e-5
        cascade = Cascade(net, layers_of(net), seed=1)
        cascade.to(len(cascade))
        logits = cascade.module(IMAGES)
        assert 0.005 < logits.std(0).max() / logits.abs().max() < 10
        assert 1e-4 < logits.abs().max() < 1e4


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [(3, 8, [1, 2, 3]), (8, 8, [*range(1, 9)]), (39, 8, [1, 6, 12, 17, 23, 28, 34, 39]), (5, 1, [5]), (1, 1, [1])],
)
def test_stages_are_spaced_evenly_from_the_last_layer_alone_to_all(layers, stages, expected):
    assert cut_points(layers, stages) == expected


def test_a_module_that_cannot_be_copied_is_an_error_that_says_so(net):
    net.handle = (each for each in ())  # a generator
    with pytest.raises(AuditError, match=r"Scrambled cannot be copied by copy.deepcopy .*generator"):
        Cascade(net, layers_of(net), seed=1)
