"""Layers are read as soon as they have answered, and the pass goes no further."""

from collections import Counter

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.lenses.tap import check_runs_once, runs, tap

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """In-place changes after every layer, one layer that runs twice, and a tail that remembers whether it ran."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.linear, self.unused = nn.ReLU(inplace=True), nn.Linear(4, 2), nn.Linear(1, 1)
        self.ran = Counter()

    def forward(self, images):
        first = self.conv1(images)
        first = self.relu(first)
        second = self.conv2(first)
        second += first
        self.ran["tail"] += 1
        return self.linear(self.relu(second).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def read(model, images, *names):
    found = {}
    tap(
        model,
        images,
        {name: getattr(model, name) for name in names},
        lambda name, maps: found.update({name: maps.clone()}),
    )
    return found


def test_what_a_layer_returns_is_read_before_it_is_changed_in_place(net):
    plain = net.conv1(IMAGES)
    assert plain.min() < 0
    assert torch.equal(read(net, IMAGES, "conv1", "linear")["conv1"], plain)


def test_the_pass_ends_after_the_last_of_the_layers_whatever_their_order(net):
    assert set(read(net, IMAGES, "conv2", "conv1")) == {"conv1", "conv2"}
    assert net.ran["tail"] == 0
    read(net, IMAGES, "linear")
    assert net.ran["tail"] == 1


def test_a_vector_is_a_map_of_one_position(net):
    assert read(net, IMAGES, "linear")["linear"].shape == (2, 2, 1, 1)


def test_no_graph_is_kept(net):
    assert not read(net, IMAGES.clone().requires_grad_(), "conv1")["conv1"].requires_grad
    assert torch.is_grad_enabled()


def test_how_often_each_layer_runs(net):
    layers = {name: getattr(net, name) for name in ("conv1", "relu", "unused")}
    counts = runs(net, IMAGES, layers)
    assert [counts[name] for name in layers] == [1, 2, 0]
    assert net.ran["tail"] == 1
    check_runs_once(1, "conv1")
    with pytest.raises(AuditError, match="The layer 'relu' runs 2 times"):
        check_runs_once(2, "relu")


def test_a_layer_that_does_not_run_is_named(net):
    with pytest.raises(AuditError, match="The layer 'unused' did not run"):
        read(net, IMAGES, "conv1", "unused")


class Odd(nn.Module):
    def __init__(self, returned):
        super().__init__()
        self.part, self.returned = nn.Identity(), returned
        self.part.forward = lambda _: self.returned

    def forward(self, images):
        self.part(images)
        return images.mean((2, 3))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ((IMAGES, IMAGES), "The layer 'part' returns a tuple"),
        (torch.zeros(2, 5, 7), r"The layer 'part' returns \(2, 5, 7\) for 2 images"),
        (torch.zeros(3, 5), r"returns \(3, 5\) for 2 images"),
        (torch.zeros(2, 0), r"returns \(2, 0\)"),
    ],
)
def test_what_is_no_map_is_refused(returned, message):
    with pytest.raises(AuditError, match=message):
        read(Odd(returned), IMAGES, "part")


@pytest.mark.parametrize("fault", ["reader", "model"])
def test_nothing_is_left_behind_whatever_happens(net, fault):
    def breaks(*_):
        raise ValueError(fault)

    if fault == "model":
        net.relu.forward = breaks
    with pytest.raises(ValueError, match=fault):
        tap(net, IMAGES, {"conv1": net.conv1, "linear": net.linear}, breaks)
    read(Net(), IMAGES, "conv1")
    assert not any(part._forward_hooks for part in net.modules())
    assert torch.is_grad_enabled()


def test_a_model_that_catches_exceptions_does_not_catch_the_end_of_the_pass(net):
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.went_on = net.conv1, False

        def forward(self, images):
            try:
                self.conv1(images)
            except Exception:  # noqa: BLE001
                self.went_on = True
            return images

    stubborn = Stubborn()
    read(stubborn, IMAGES, "conv1")
    assert not stubborn.went_on
