"""The user's module comes back as it was, whatever happens while it is borrowed."""

# ruff: noqa: NPY002 (the global generator is what must not change)

import contextlib
import copy
import operator
import random

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.model import borrow, state
from pytest_cnnaudit.results import Cost

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def state_of(module):
    """All that could be left changed."""
    return {
        "modes": [part.training for part in module.modules()],
        "requires_grad": [weight.requires_grad for weight in module.parameters()],
        "grads": [weight.grad for weight in module.parameters()],
        "grad values": [None if weight.grad is None else weight.grad.clone() for weight in module.parameters()],
        "weights": list(module.parameters()),
        "weight values": [weight.detach().clone() for weight in module.parameters()],
        "buffers": [buffer for part in module.modules() for buffer in part._buffers.values()],
        "buffer values": [buffer.clone() for buffer in module.buffers()],
        "names": list(module.state_dict()),
        "hooks": [
            len(hooks)
            for part in module.modules()
            for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        ],
        "tensor hooks": [bool(weight._backward_hooks) for weight in module.parameters()],
        "parts": list(module.modules()),
    }


def assert_untouched(module, before):
    after = state_of(module)
    for what, old in before.items():
        assert len(old) == len(after[what]), f"the number of {what} changed"
        same = (
            torch.equal
            if "values" in what
            else operator.is_
            if what in ("weights", "buffers", "grads")
            else operator.eq
        )
        assert all(a is b or same(a, b) for a, b in zip(old, after[what], strict=True)), f"{what} changed"


class Meddler(nn.Module):
    """Does to itself, in its forward pass, what a module should not do."""

    def __init__(self, net, *meddling):
        super().__init__()
        self.net, self.meddling = net, meddling
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("cache", None)

    def forward(self, images):
        for meddle in self.meddling:
            meddle(self)
        return self.net(images)


def change_buffer(module):
    module.calls += 1


def swap_buffer(module):
    module.calls = module.calls + 1


def fill_empty_buffer(module):
    module.cache = torch.ones(3)


def add_buffer(module):
    module.register_buffer("late", torch.ones(2))


def go_to_train_mode(module):
    module.train()


def thaw_a_layer(module):
    module.net.conv1.weight.requires_grad_(True)


def draw(module):
    torch.rand(1), np.random.rand(), random.random()


def fail(module):
    raise ValueError("a bug of the user's")


def interrupt(module):
    raise KeyboardInterrupt


MEDDLING = [
    change_buffer,
    swap_buffer,
    fill_empty_buffer,
    add_buffer,
    go_to_train_mode,
    thaw_a_layer,
    draw,
    fail,
    interrupt,
]


@settings(max_examples=60)
@given(data=st.data(), meddling=st.lists(st.sampled_from(MEDDLING), max_size=3, unique=True), backward=st.booleans())
def test_the_module_comes_back_untouched(tiny_net, data, meddling, backward):
    module = Meddler(tiny_net(), *meddling)
    for part in module.modules():
        part.training = data.draw(st.booleans())
    for weight in module.parameters():
        weight.requires_grad_(data.draw(st.booleans()))
        weight.grad = torch.ones_like(weight) if data.draw(st.booleans()) else None
    before = state_of(module)
    try:
        with AuditModel(module).borrow() as model:
            images = IMAGES.clone().requires_grad_(backward)
            logits = model(images)
            if backward:
                logits.sum().backward()
    except (ValueError, KeyboardInterrupt):
        assert fail in meddling or interrupt in meddling
    assert_untouched(module, before)
    copy.deepcopy(module)


def test_a_grad_that_is_made_inside_is_taken_away(tiny_net):
    net = tiny_net().train()
    before = state_of(net)
    with AuditModel(net).borrow() as model:
        for weight in net.parameters():
            weight.requires_grad_(True)
        model(IMAGES).sum().backward()
    assert_untouched(net, before)


def test_a_grad_that_is_accumulated_into_comes_back_with_its_values(tiny_net):
    net = tiny_net()
    for weight in net.parameters():
        weight.grad = torch.ones_like(weight)
    before = state_of(net)
    with AuditModel(net).borrow() as model:
        net.linear.weight.requires_grad_(True)
        model(IMAGES).sum().backward()
    assert_untouched(net, before)


def test_weights_are_frozen_and_every_part_is_in_eval_mode_inside(tiny_net):
    net = tiny_net().train()
    with AuditModel(net).borrow() as model:
        assert not any(part.training for part in model.modules())
        assert not any(weight.requires_grad for weight in model.parameters())
        assert torch.is_grad_enabled()


def test_a_model_in_train_mode_is_evaluated_in_eval_mode(tiny_net):
    net = tiny_net()
    expected = AuditModel(net)(IMAGES)
    assert AuditModel(net.train())(IMAGES).equal(expected)
    assert net.training


def test_overridden_eval_and_train_are_never_called(tiny_net):
    class Stubborn(type(tiny_net())):
        def eval(self):
            raise RuntimeError("no eval")

        def train(self, mode=True):
            raise RuntimeError("no train")

    net = Stubborn()
    assert AuditModel(net)(IMAGES).shape == (2, 4)
    assert net.training


@pytest.mark.parametrize("meddle", [draw, fail])
def test_the_random_generators_go_on_as_if_nothing_had_been(tiny_net, meddle):
    def numbers():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]

    def seeded():
        torch.manual_seed(1), np.random.seed(1), random.seed(1)

    seeded()
    expected = numbers()
    seeded()
    try:
        with AuditModel(Meddler(tiny_net(), draw, meddle)).borrow(seed=7) as model:
            model(IMAGES)
    except ValueError:
        pass
    assert numbers() == expected


@pytest.mark.parametrize("generator", [lambda: float(torch.rand(())), np.random.rand, random.random])
def test_what_is_drawn_inside_follows_from_the_seed(tiny_net, generator):
    drawn = []
    for seed in (3, 3, 4):
        with AuditModel(tiny_net()).borrow(seed=seed):
            drawn.append(generator())
        generator()
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("caller", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("meddle", [change_buffer, fail])
def test_the_callers_grad_mode_is_left_alone(tiny_net, caller, meddle):
    net = Meddler(tiny_net(), meddle)
    with caller():
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        try:
            with AuditModel(net).borrow() as model:
                images = IMAGES.clone().requires_grad_()
                assert model(images).requires_grad
        except ValueError:
            pass
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == modes


def test_inference_tensors_can_be_classified(tiny_net):
    with torch.inference_mode():
        images = IMAGES.clone()
    assert AuditModel(tiny_net(), mean=(0.5,) * 3, std=(0.5,) * 3)(images).shape == (2, 4)


def test_a_module_made_under_inference_mode_is_taken_or_refused_in_words(tiny_net):
    with torch.inference_mode():
        net = tiny_net()
    before = [weight.requires_grad for weight in net.parameters()]
    try:
        assert AuditModel(net)(IMAGES).shape == (2, 4)
    except AuditError as error:
        assert "inference" in str(error)
    assert [weight.requires_grad for weight in net.parameters()] == before


def test_borrowing_twice_at_once_gives_the_module_back_once_both_are_done(tiny_net):
    net = tiny_net().train()
    before = state_of(net)
    model = AuditModel(net)
    with model.borrow() as outer:
        outer(IMAGES)
        with model.borrow() as inner:
            inner(IMAGES)
        assert not net.training
        outer(IMAGES)
    assert_untouched(net, before)


def test_every_pass_of_a_sample_is_counted(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        assert model.cost == Cost(0, 0)
        with torch.no_grad():
            model(IMAGES)
        assert model.cost == Cost(2, 0)
        images = IMAGES.clone().requires_grad_()
        torch.autograd.grad(model(images).sum(), images)
        assert model.cost == Cost(4, 2)
        model(IMAGES[:1].clone().requires_grad_())
        assert model.cost == Cost(5, 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.export's own
def test_an_exported_module_works_and_is_restored(tiny_net):
    net = tiny_net().float()
    exported = torch.export.export(net, (IMAGES,)).module()
    before = state_of(exported)
    model = AuditModel(exported)
    images = IMAGES.clone().requires_grad_()
    with model.borrow() as inside:
        logits = inside(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images)
    torch.testing.assert_close(logits, AuditModel(net)(IMAGES))
    assert gradient.any()
    assert_untouched(exported, before)


def test_hooks_that_the_work_inside_leaves_behind_are_taken_away():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    kept = []
    net[0].register_forward_hook(lambda *_: kept.append("own"))
    with AuditModel(net).borrow() as model:
        net[0].register_forward_hook(lambda *_: kept.append("left behind"))
        net[2].register_forward_pre_hook(lambda *_: kept.append("left behind"))
        net[2].register_full_backward_hook(lambda *_: kept.append("left behind"))
        model(torch.rand(1, 3, 8, 8))
    kept.clear()
    net(torch.rand(1, 3, 8, 8, requires_grad=True)).sum().backward()
    assert kept == ["own"]


class Viewing(nn.Module):
    """Insists on maps in contiguous order."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 5, 3), nn.Linear(5 * 36, 2)

    def forward(self, images):
        maps = self.conv(images)
        return self.linear(maps.view(len(maps), -1))


def test_images_go_in_channels_last_order_where_the_module_takes_that(tiny_net):
    images = torch.rand(6, 3, 8, 8).double()
    orders = []
    net = tiny_net()
    with AuditModel(net).borrow() as model:
        expected, before = model(images), model.cost
        reordered = model.reordered(images)
        assert (model.cost - before).forward == 4  # two images in either order
        assert model.reordered(images) is reordered
        with torch.no_grad():
            handle = net.conv2.register_forward_hook(
                lambda _, __, out: orders.append(out.is_contiguous(memory_format=torch.channels_last))
            )
            torch.testing.assert_close(reordered(images), expected.detach())
            handle.remove()
        assert (model.cost - before).forward == 10  # on one bill
    assert orders == [True]


def test_one_image_alone_does_not_settle_the_order():
    class Merging(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 5, 3), nn.Linear(5, 2)

        def forward(self, images):
            maps = self.conv(images)
            return self.linear(maps.view(len(maps) * 5, 6, 6).mean((1, 2)).view(-1, 5))

    images = torch.rand(3, 3, 8, 8)
    with AuditModel(Merging()).borrow() as model:
        assert model.reordered(images[:1]) is not model
        assert model.reordered(images) is model
        assert model.reordered(images[:1]) is model


@pytest.mark.parametrize("fault", ["refuses", "differs"])
def test_a_module_that_depends_on_the_order_is_left_with_its_own(fault):
    class Differs(Viewing):
        def forward(self, images):
            maps = self.conv(images)
            return self.linear(torch.as_strided(maps, (len(maps), 180), (180, 1)))  # as it lies in memory

    net = Viewing() if fault == "refuses" else Differs()
    images = torch.rand(2, 3, 8, 8)
    with AuditModel(net).borrow() as model:
        assert model.reordered(images) is model
        assert model.reordered(images)(images).shape == (2, 2)


def test_a_module_that_somebody_moves_comes_home(monkeypatch):
    """As foolbox.PyTorchModel moves a model where there is a GPU; here the GPU is made up."""
    net, moved = nn.Conv2d(3, 3, 1), []
    homes = iter([{torch.device("cpu")}, {torch.device("cuda:0")}])
    monkeypatch.setattr(state, "_devices", lambda module: next(homes))
    monkeypatch.setattr(net, "to", moved.append)
    with AuditModel(net).borrow("cpu"):
        assert not moved
    assert moved == [torch.device("cpu")]


def test_where_another_order_is_no_faster_nobody_is_asked(monkeypatch, tiny_net):
    monkeypatch.setattr(borrow, "order_for", lambda device, dtype: torch.contiguous_format)
    with AuditModel(tiny_net()).borrow() as model:
        assert model.reordered(IMAGES) is model
        assert model.cost == Cost(0, 0)
        weights = model.fast(IMAGES).module.parameters()
        assert all(weight.is_contiguous() for weight in weights)


def test_the_order_is_that_of_the_precision_of_the_passes(monkeypatch, tiny_net):
    asked = []
    monkeypatch.setattr(borrow, "order_for", lambda device, dtype: asked.append(dtype) or torch.channels_last)
    for precision in ("float32", "bfloat16"):
        with AuditModel(tiny_net().float()).borrow() as model:
            model.fast(IMAGES, precision)
    assert asked == [torch.float32, torch.bfloat16]


def test_both_models_are_compared_in_single_precision(monkeypatch, tiny_net):
    inside, asked = [], []

    @contextlib.contextmanager
    def exactly(device):
        inside.append(device)
        yield
        inside.pop()

    class Listens(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny_net()

        def forward(self, images):
            asked.append(bool(inside))
            return self.net(images)

    monkeypatch.setattr(borrow, "in_single_precision", exactly)
    with AuditModel(Listens()).borrow() as model:
        fast = model.fast(IMAGES)
        model.reordered(IMAGES)
        assert fast is not model
        assert len(asked) >= 3
        assert all(asked)
        fast(IMAGES)
        assert not asked[-1]
