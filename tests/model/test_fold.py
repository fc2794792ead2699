"""A folded module is the same function with the same gradients, or it is not used."""

import contextlib
import copy
import gc
import random
import types
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.model import borrow, fold
from pytest_cnnaudit.model.fold import folded

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def sloped(module, images):
    """Logits, and the gradient of those predicted."""
    images = images.clone().requires_grad_()
    logits = module(images)
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), images)
    return logits.detach(), gradient


def assert_same_function(module, other, images, tolerance):
    for one, two in zip(sloped(module, images), sloped(other, images), strict=True):
        assert (one - two).norm() <= tolerance * one.norm()


def batch_norms(module):
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


# The same function ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_small_network_is_the_same_in_double_precision(tiny_net, seed):
    net = tiny_net(seed)
    other = folded(net)
    assert batch_norms(other) == 0
    assert_same_function(net, other, IMAGES.double(), 1e-12)


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_resnet4b", "imagenet_squeezenet1_1"])
def test_a_real_network_is_the_same(shared_models, cifar, name):
    net = shared_models.load(name).requires_grad_(False)
    images = cifar[0][:8] if "cifar" in name else nn.functional.interpolate(cifar[0][:2], size=128, mode="bicubic")
    other = folded(net)
    assert batch_norms(other) == 0
    assert_same_function(net.double(), folded(net), images.double(), 1e-10)
    with AuditModel(net.float()).borrow() as model:
        assert model.fast(images) is not model
        weights = model.fast(images).module.parameters()
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights if weight.ndim == 4)
        assert_same_function(model, model.fast(images), images, 0.01)


def test_a_convolution_without_bias_and_a_batch_norm_without_weights_fold_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), nn.Flatten()).double()
    net(IMAGES.double())
    assert_same_function(net.eval(), folded(net), IMAGES.double(), 1e-12)


# Where it cannot be had ----------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Convolution and batch-norm, with something before them; in double precision."""

    def __init__(self, before=lambda images: images, rest=None, shape=None):
        super().__init__()
        self.before, self.shape = before, shape or (lambda x: x)
        self.rest = rest or nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(4))

    def forward(self, images):
        return 8 * self.last(self.shape(self.rest(self.before(images))))


class Straight(torch.autograd.Function):
    """Quantises, with the gradient of the identity."""

    @staticmethod
    def forward(ctx, images):
        return (images * 16).round() / 16

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Shared(nn.Module):
    """One convolution, two batch-norms."""

    def __init__(self):
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images):
        return self.two(self.conv(self.one(self.conv(images))))


class Aliased(nn.Module):
    """The trace calls the convolution by its first name, the forward pass by its second."""

    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images):
        return self.norm(self.second(images))


def by_value(images):
    return images if images.mean() > 0 else -images


def by_number(images):
    return images * (1 + 1e-3 * len(images))


def without_gradient(images):
    with torch.no_grad():
        contrast = (3 * images).exp()
    return images * contrast


def by_coin(images):
    return images.flip(3) if random.random() < 0.5 else images


def by_numpy(images):
    return images + 1e-7 * np.random.default_rng().random() + 0.01 * np.random.random()  # noqa: NPY002


def noisy(images):
    return images + 0.01 * torch.randn(1)


def dropping(images):
    return nn.functional.dropout(images, 0.1, training=True)


def hooked():
    net = Net()
    net.rest[0].register_forward_hook(lambda part, given, out: out * 1.5)
    return net


def prehooked():
    net = Net()
    net.register_forward_pre_hook(lambda part, given: (given[0] * 0.9,))
    return net


def hooked_backward(which):
    def make():
        net = Net()
        if which == "pre":
            net.rest[2].register_full_backward_pre_hook(lambda part, out: (out[0].clamp(min=0),))
        else:
            net.rest[2].register_full_backward_hook(lambda part, into, out: (into[0].clamp(min=0),))
        return net

    return make


class Uncopied(Net):
    def __deepcopy__(self, memo):
        raise TypeError("this module cannot be copied")


PLAIN_ONLY = {
    "cannot be traced": lambda: Net(by_value),
    "depends on the batch size": lambda: Net(by_number),
    "cannot be copied": Uncopied,
    "forward hook": hooked,
    "forward pre-hook": prehooked,
    "backward hook": hooked_backward("post"),
    "backward pre-hook": hooked_backward("pre"),
    "one part under two names": lambda: Net(rest=Aliased()),
    "random: Python's generator": lambda: Net(by_coin),
    "random: NumPy's generator": lambda: Net(by_numpy),
    "random: torch's generator": lambda: Net(noisy),
    "random: dropout": lambda: Net(dropping),
}
AS_GOOD = {
    "batch-norm before convolution": lambda: Net(rest=nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.ReLU())),
    "statistics of the batch": lambda: Net(
        rest=nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU())
    ),
    "its own backward pass": lambda: Net(Straight.apply),
    "part without gradient": lambda: Net(without_gradient),
    "shares a convolution": lambda: Net(rest=Shared()),
    "weight norm": lambda: Net(rest=nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))),
    "views that need an order": lambda: Net(shape=lambda x: x.view(x.shape[0] * 8, 1, 6, 6).view(x.shape[0], 8, 6, 6)),
}


def settled(make):
    """The module with settled batch-norms, in eval mode and double precision; and samples that it is right about."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = make()
        net.double().train()(IMAGES.double())
        net.eval()
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
                part.running_mean += 0.1 * torch.randn(part.num_features)
                part.running_var *= 1 + torch.rand(part.num_features)
        labels = net(IMAGES.double()).argmax(1)
    return net, Samples.from_tensors(IMAGES, labels)


def measured(net, samples, **options):
    audit = Audit(AuditModel(net), samples, device="cpu", **options)
    audit.attack("linf", 0.03, attack=["fgsm", "pgd"], steps=4)
    audit.min_perturbation("l2", steps=8)
    with contextlib.suppress(AssertionError):
        audit.assert_robust("linf", 0.03, min_accuracy=0.6, attack="pgd", steps=4)  # begins with one sample
    return audit.measurements


@pytest.mark.parametrize("make", [*PLAIN_ONLY.values(), *AS_GOOD.values()], ids=[*PLAIN_ONLY, *AS_GOOD])
def test_what_is_found_is_the_same_as_without_folding(monkeypatch, make):
    net, samples = settled(make)
    before = copy.deepcopy(net.state_dict())
    found = measured(net, samples)
    monkeypatch.setattr(borrow, "folded", lambda module: None)
    for one, plain in zip(found, measured(net, samples), strict=True):
        assert one.ids == plain.ids
        for name, values in plain.per_sample.items():
            np.testing.assert_allclose(one.per_sample[name], values, rtol=1e-5, atol=1e-7, err_msg=name)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("make", PLAIN_ONLY.values(), ids=PLAIN_ONLY)
def test_what_is_not_the_same_folded_is_used_as_it_is(make):
    net, _ = settled(make)
    with AuditModel(net).borrow() as model:
        assert model.fast(IMAGES) is model
        assert model.fast(IMAGES, "bfloat16") is model  # it is asked once
    with AuditModel(net).borrow() as model:
        assert model.fast(IMAGES[:1]) is model
    with AuditModel(net).borrow() as model:
        assert model.fast(IMAGES, "bfloat16").module is net


def test_one_image_alone_does_not_settle_that_both_agree():
    """In channels-last order, `view` cannot merge images and channels; with one image there is nothing to merge."""
    net, _ = settled(AS_GOOD["views that need an order"])
    with AuditModel(net).borrow() as model:
        assert model.fast(IMAGES[:1]) is not model
        assert model.fast(IMAGES[:2]) is model
        assert model.fast(IMAGES[:1]) is model


def test_what_agreed_is_not_asked_again(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        fast = model.fast(IMAGES)
        cost = model.cost
        assert (cost.forward, cost.backward) == (8, 8)  # four images, each model once
        assert model.fast(IMAGES) is fast
        assert model.fast(IMAGES[:1]) is fast
        assert model.cost == cost


def test_a_model_that_takes_one_image_at_a_time_is_never_given_more():
    def alone(images):
        if torch.is_tensor(images) and type(images) is torch.Tensor and len(images) != 1:
            raise RuntimeError("one image, please")
        return images

    torch.manual_seed(0)
    net = Net(alone).double().eval()
    net(IMAGES[:1].double())
    labels = torch.cat([net(image[None].double()).argmax(1) for image in IMAGES])
    assert len(measured(net, Samples.from_tensors(IMAGES, labels), batch_size=1)) == 3


# The user's module and the bill --------------------------------------------------------------------------------------


def test_the_module_is_left_as_it_is(resnet20):
    weights, parts = list(resnet20.parameters()), list(resnet20.modules())
    values = copy.deepcopy(resnet20.state_dict())
    orders = [weight.stride() for weight in weights]
    images = torch.rand(2, 3, 32, 32)
    with AuditModel(resnet20).borrow() as model:
        fast = model.fast(images)
        fast(images.requires_grad_()).sum().backward()
        assert fast.module is not resnet20
    assert all(one is other for one, other in zip(weights, resnet20.parameters(), strict=True))
    assert all(one is other for one, other in zip(parts, resnet20.modules(), strict=True))
    assert [weight.stride() for weight in weights] == orders
    assert all(weight.is_contiguous() and weight.grad is None and weight.requires_grad for weight in weights)
    assert all(torch.equal(values[name], value) for name, value in resnet20.state_dict().items())
    assert batch_norms(resnet20) == 19
    assert not {weight.data_ptr() for weight in weights} & {weight.data_ptr() for weight in fast.module.parameters()}


def test_no_weight_of_the_borrowed_model_belongs_to_the_copy(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        before = list(model.state_dict()), len(list(model.modules()))
        model.fast(IMAGES)
        assert (list(model.state_dict()), len(list(model.modules()))) == before


def test_passes_of_both_are_on_one_bill(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        fast = model.fast(IMAGES)
        before = model.cost
        fast(IMAGES.clone().requires_grad_()).sum().backward()
        model(IMAGES[:2])
        assert (model.cost - before).forward == 6 + 2
        assert (model.cost - before).backward == 6
        assert fast.cost == model.cost


def test_the_comparison_draws_nothing_from_the_generators(tiny_net):
    with AuditModel(tiny_net()).borrow(seed=5) as model:
        model.fast(IMAGES)
        after = torch.rand(1), random.random(), np.random.random()  # noqa: NPY002
    with AuditModel(tiny_net()).borrow(seed=5):
        assert after == (torch.rand(1), random.random(), np.random.random())  # noqa: NPY002


# Precision -----------------------------------------------------------------------------------------------------------


def test_in_bfloat16_attacks_run_fast_and_what_they_find_is_confirmed(resnet20_model, cifar_samples):
    seen = []

    def watching(model, images, labels):
        found = images + 0.02 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
        seen.append((model(images), model(images).dtype))
        return found.clamp(0, 1)

    samples = cifar_samples[:16]
    plain = Audit(resnet20_model, samples, device="cpu").attack(eps=1 / 255, attack="pgd", steps=3)
    audit = Audit(resnet20_model, samples, device="cpu", precision="bfloat16")
    found = audit.attack(eps=1 / 255, attack="pgd", steps=3)
    assert abs(found.robust_accuracy - plain.robust_accuracy) < 0.2
    audit.attack(eps=0.03, attack=watching)
    ((logits, dtype),) = seen
    expected = resnet20_model(torch.stack([sample.image for sample in samples])[found.per_sample["correct"]])
    assert dtype == torch.float32
    assert 1e-4 < (logits - expected).abs().max() / expected.abs().max() < 0.1  # rounded, but the same model
    np.testing.assert_allclose(found.per_sample["clean_confidence"], plain.per_sample["clean_confidence"], atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_bfloat16_finds_fools_the_model_itself(resnet20_model, cifar_samples, norm):
    """The pictures of the samples that fell, through the module in its own precision."""
    given = {}

    def remember(model, images, labels):
        from pytest_cnnaudit.attacks.nearest import nearest

        given["images"] = nearest(model, images, labels, norm=norm, steps=10)
        return given["images"]

    audit = Audit(resnet20_model, cifar_samples[:12], device="cpu", precision="bfloat16")
    found = audit.attack(norm, 10.0, attack=remember)
    correct, robust = found.per_sample["correct"], found.per_sample["robust"]
    fools = resnet20_model(given["images"]).argmax(1).numpy() != found.per_sample["label"][correct]
    np.testing.assert_array_equal(~robust[correct], fools)
    assert fools.sum() >= 6


@pytest.mark.parametrize("precision", ["int8", "float16", "", None])
def test_another_precision_is_refused(tiny_net, precision):
    with pytest.raises(AuditError, match=r"There is no precision .*; use 'float32' or 'bfloat16'"):
        Audit(AuditModel(tiny_net()), device="cpu", precision=precision)


class Branching(nn.Module):
    """Cannot be traced: what it does depends on values."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images) if images.sum() > 0 else -self.net(images)


@pytest.mark.parametrize("wrap", [lambda net: net, Branching], ids=["traced", "not to be traced"])
def test_the_copy_is_gone_with_the_last_who_holds_it(tiny_net, monkeypatch, wrap):
    """Without waiting to be collected: on a GPU it takes memory that another measurement needs."""
    net, held = wrap(tiny_net()), []
    net.table = torch.ones(3)

    def deepcopy(module):
        other = copy.deepcopy(module)
        held.extend(map(weakref.ref, [other, *other.parameters(), other.table]))
        return other

    monkeypatch.setattr(fold, "copy", types.SimpleNamespace(deepcopy=deepcopy))
    gc.collect()
    gc.disable()
    try:
        assert (folded(net) is None) == (wrap is Branching)
        assert len(held) > 5
        assert [each() for each in held] == [None] * len(held)
    finally:
        gc.enable()
