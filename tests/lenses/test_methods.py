"""What every attribution method promises, whatever the model, the images and the caller's settings are."""

import gc
import inspect
import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.adapters import adapted
from pytest_cnnaudit.lenses.gradient import gradient
from pytest_cnnaudit.lenses.methods import METHODS, method_of

QUICK = {
    "smooth_grad": {"copies": 3},
    "integrated_gradients": {"steps": 3},
    "occlusion": {"window": 5, "stride": 3},
    "rise": {"masks": 6, "cells": 3},
}
"""Options that make a method cheap."""

every_method = pytest.mark.parametrize("name", METHODS)


def explain(name, model, images, targets, layer, **options):
    method = METHODS[name]
    if method.layer:
        options["layer"] = layer
    return method.function(model, images, targets, **{**QUICK.get(name, {}), **options})


def drawn(count, height=8, width=8, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, height, width, generator=generator, dtype=dtype)
    return images, torch.randint(4, (count,), generator=generator)


class NoPool(nn.Module):
    """A network for images of 9×7 that flattens its maps, with an in-place and a functional ReLU."""

    def __init__(self):
        super().__init__()
        self.layer, self.conv = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 1)
        self.head = nn.Linear(5 * 7 * 5, 4)

    def forward(self, x):
        x = self.layer(x)
        x = torch.relu_(x)
        return self.head(torch.relu(self.conv(x)).flatten(1))


@every_method
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 12), (13, 5)])
def test_any_batch_and_any_size_will_do(tiny_net, name, count, height, width):
    net = tiny_net()
    images, targets = drawn(count, height, width)
    found = explain(name, net, images, targets, net.bn2)
    assert found.shape == (count, 3 if METHODS[name].pixels else 1, height, width)
    assert found.dtype == images.dtype
    assert found.isfinite().all()
    assert found.any()
    assert not found.requires_grad


@every_method
def test_a_model_without_a_global_pool_will_do(name):
    torch.manual_seed(0)
    net = NoPool().double()
    found = explain(name, net, *drawn(2, 9, 7), net.layer)
    assert found.any()
    assert found.isfinite().all()


@every_method
def test_batch_mates_never_change_a_map(tiny_net, name):
    net = tiny_net()
    images, targets = drawn(5)
    seeds = torch.tensor([5, 3, 8, 5, 1])

    def maps(chosen):
        options = {"seeds": seeds[chosen]} if METHODS[name].draws else {}
        return explain(name, net, images[chosen], targets[chosen], net.bn2, **options)

    together = maps([3, 0, 1, 4, 2])
    alone = torch.cat([maps([place]) for place in (3, 0, 1, 4, 2)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "name", [name for name in METHODS if "at_once" in inspect.signature(METHODS[name].function).parameters]
)
@given(count=st.integers(1, 5), at_once=st.integers(1, 12))
def test_how_many_images_go_at_once_changes_nothing(tiny_net, name, count, at_once):
    net = tiny_net()
    images, targets = drawn(count)
    sizes = []
    handle = net.register_forward_hook(lambda _model, inputs, _logits: sizes.append(len(inputs[0])))
    expected = explain(name, net, images, targets, net.bn2)
    passes, whole = sum(sizes), sizes.copy()
    assert max(whole) <= count
    sizes.clear()
    found = explain(name, net, images, targets, net.bn2, at_once=at_once)
    handle.remove()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert sum(sizes) == passes
    # But for the pass that shows the layer, which is of the whole batch.
    assert max(sizes[1:] if METHODS[name].layer else sizes) <= at_once


@every_method
@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_it_works_under_the_callers_grad_mode_and_with_inference_tensors(tiny_net, name, caller):
    net = tiny_net()
    images, targets = drawn(2)
    expected = explain(name, net, images, targets, net.bn2)
    with caller():
        mine = images.clone(), targets.clone()  # inference tensors under inference_mode
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = explain(name, net, *mine, net.bn2)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == modes
    torch.testing.assert_close(found.clone(), expected)
    torch.testing.assert_close(explain(name, net, *mine, net.bn2), expected)


@every_method
def test_frozen_weights_and_a_model_in_train_mode_give_the_same(tiny_net, name):
    net = tiny_net()
    images, targets = drawn(3)
    expected = explain(name, net, images, targets, net.bn2)
    net.train().requires_grad_(False)
    before = deepcopy(net.state_dict())
    found = explain(name, AuditModel(net), images, targets, net.bn2)
    torch.testing.assert_close(found, expected)
    assert all(part.training for part in net.modules())
    assert not any(weight.requires_grad for weight in net.parameters())
    assert all(value.equal(before[key]) for key, value in net.state_dict().items())


class Wrapped(nn.Module):
    """Takes its images with something else, and returns its logits among other things."""

    def __init__(self, net, wrap):
        super().__init__()
        self.net, self.wrap = net, wrap

    def forward(self, images, scale=None):
        return self.wrap(self.net(images if scale is None else images * scale))


@every_method
@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda logits: (logits.detach() * 0, logits), lambda out: out[1]),
        (lambda logits: {"aside": None, "scores": logits}, lambda out: out["scores"]),
        (lambda logits: {"logits": logits}, None),
    ],
)
def test_logits_are_found_in_tuples_and_dicts(tiny_net, name, wrap, output):
    net = tiny_net()
    images, targets = drawn(2)
    model = AuditModel(Wrapped(net, wrap), output=output)
    torch.testing.assert_close(
        explain(name, model, images, targets, net.bn2), explain(name, net, images, targets, net.bn2)
    )


@every_method
def test_a_function_that_adds_further_inputs_will_do(tiny_net, name):
    net = tiny_net()
    images, targets = drawn(2)
    model = Wrapped(net, lambda logits: (logits,))
    found = explain(name, lambda given: model(given, torch.ones(1).double())[0], images, targets, net.bn2)
    torch.testing.assert_close(found, explain(name, net, images, targets, net.bn2))


def state_of(net, images):
    """Everything of a module and of the world that a method must leave as it was."""
    return {
        "modules": [id(part) for part in net.modules()],
        "forwards": [vars(part).get("forward") for part in net.modules()],
        "modes": [part.training for part in net.modules()],
        "hooks": [
            list(getattr(part, table))
            for part in net.modules()
            for table in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        ],
        "weights": [
            (id(weight), weight.requires_grad, weight.grad is None, weight._version) for weight in net.parameters()
        ],
        "buffers": [buffer.clone().tolist() for buffer in net.buffers()],
        "images": (images.requires_grad, images.grad is None, images._version, images.sum().item()),
        "random": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


class Broken(RuntimeError):
    pass


@every_method
@pytest.mark.parametrize("fails_at", [None, 1, 2])
def test_nothing_is_left_behind_after_a_call_nor_after_an_exception(tiny_net, name, fails_at):
    net = tiny_net().train()
    net.linear.requires_grad_(False)
    net.bn2.eval()
    net.conv1.register_forward_hook(lambda _module, _inputs, _returned: None)  # of the user's
    images, targets = drawn(2)
    calls = 0

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            nonlocal calls
            calls += 1
            logits = net(images)
            if calls == fails_at:
                raise Broken
            return logits

    model = AuditModel(Model())
    before = state_of(net, images)
    try:
        explain(name, model, images, targets, net.bn2)
        finished = True
    except Broken:
        finished = False
    assert finished == (fails_at is None or calls < fails_at)
    assert state_of(net, images) == before
    deepcopy(net)


@every_method
def test_no_graph_is_kept_alive(tiny_net, name):
    """Every tensor of a call is gone as soon as its result is, without the garbage collector's help."""
    net = tiny_net()
    images, targets = drawn(2)
    explain(name, net, images, targets, net.bn2)

    def tensors():
        return [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]

    gc.disable()
    gc.freeze()  # what there is so far is left out
    try:
        found = explain(name, net, images, targets, net.bn2)
        assert [id(each) for each in tensors()] == [id(found)]
        assert found.grad_fn is None
        del found
        assert tensors() == []
    finally:
        gc.unfreeze()
        gc.enable()


def resident():
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells no memory of a process")
@every_method
def test_memory_is_flat_over_200_batches(tiny_net, name):
    net = tiny_net(width=16).float()  # 64 KiB for each of its maps: a graph that stays would be 100 MiB in the end
    images, targets = drawn(1, 32, 32, dtype=torch.float32)
    options = {
        "smooth_grad": {"copies": 1},
        "integrated_gradients": {"steps": 1},
        "occlusion": {"window": 32, "stride": 32},
        "rise": {"masks": 1},
        "score_cam": {"at_once": 16},
    }.get(name, {})
    with AuditModel(net).borrow() as model:
        for _ in range(20):
            explain(name, model, images, targets, net.bn2, **options)
        before = resident()
        for _ in range(200):
            explain(name, model, images, targets, net.bn2, **options)
    assert resident() - before < 8 * 2**20


def test_the_table_says_what_each_method_takes():
    for name, method in METHODS.items():
        parameters = inspect.signature(method.function).parameters
        assert method.layer == ("layer" in parameters), name
        assert method.draws == ("seeds" in parameters), name
        assert list(parameters)[:3] == ["model", "images", "targets"]
        assert all(each.kind == each.KEYWORD_ONLY for each in list(parameters.values())[3:]), name


def test_a_method_is_found_by_its_name_by_its_function_or_by_its_parameters():
    assert method_of("gradient") is METHODS["gradient"]
    assert method_of(gradient) is METHODS["gradient"]

    def own(model, images, targets, *, layer, seeds=None):
        return images

    found = method_of(own)
    assert (found.function, found.layer, found.draws, found.pixels) == (own, True, True, False)
    assert method_of(max).function is max  # a builtin whose parameters nobody knows


def test_a_method_of_captum_is_found(tiny_net):
    captum = pytest.importorskip("captum.attr")
    net = tiny_net().float()
    images, targets = drawn(2, dtype=torch.float32)
    found = method_of(captum.Saliency).function(net, images, targets, abs=False)
    torch.testing.assert_close(found, gradient(net, images, targets))
    assert adapted(gradient) is None


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("lime", "no saliency method 'lime'; use 'gradient', .* or a callable"),
        (3, r"given a int; it takes the name of a method, a callable \(model, images, targets\)"),
    ],
)
def test_what_is_no_method_is_refused(choice, message):
    with pytest.raises(AuditError, match=message):
        method_of(choice)
