"""Every question, wherever and in whichever precision a model runs: on a GPU, in double, and in half precision."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditModel, Samples
from pytest_cnnaudit.lenses.methods import METHODS

OTHER = AuditModel(nn.Sequential(nn.Conv2d(3, 5, 3)).eval(), name="other")
QUESTIONS = {
    "filters": lambda audit: audit.filters(),
    "filter_banks": lambda audit: audit.filter_banks(OTHER),
    "activations": lambda audit: audit.activations("bn1"),
    "top_patches": lambda audit: audit.top_patches(k=3),
    "neighbours": lambda audit: audit.neighbours(k=2),
    "neuron": lambda audit: audit.neuron("conv2", 1),
    "visualize": lambda audit: audit.visualize([0, ("conv2", 1)], size=16, steps=6),
    "visualize nguyen": lambda audit: audit.visualize([0, 1], size=16, steps=6, recipe="nguyen"),
    "visualize yosinski": lambda audit: audit.visualize([0, 1], size=16, steps=6, recipe="yosinski"),
    "dream": lambda audit: audit.dream(None, "conv1", octaves=1, steps=2),
    "fooling_images": lambda audit: audit.fooling_images([0, 1], noises=2, steps=3, size=8),
    "attack auto": lambda audit: audit.attack("linf", 2 / 255),
    "attack standard": lambda audit: audit.attack("linf", 2 / 255, auto="standard", steps=6),
    "attack square": lambda audit: audit.attack("l2", 0.1, attack="square", queries=40),
    "attack l1": lambda audit: audit.attack("l1", 1.0, attack="apgd-ce", steps=10),
    "attack targeted": lambda audit: audit.attack("l2", 0.2, attack="pgd", targeted=True),
    "attack fab": lambda audit: audit.attack("l2", 0.1, attack="fab-t", steps=6),
    "robustness_curve": lambda audit: audit.robustness_curve("linf", [1 / 255, 4 / 255]),
    "min_perturbation linf": lambda audit: audit.min_perturbation("linf"),
    "min_perturbation l2": lambda audit: audit.min_perturbation("l2", attack=["deepfool", "ddn"], steps=20),
    "carlini-wagner": lambda audit: audit.min_perturbation("l2", attack="carlini-wagner", steps=10, rounds=3),
    "min_perturbation l1": lambda audit: audit.min_perturbation("l1", attack="fmn"),
    "min_perturbation l0": lambda audit: audit.min_perturbation("l0", attack=["nearest", "sigma-zero"]),
    "gradient_masking": lambda audit: audit.gradient_masking("linf", 2 / 255),
    "fool": lambda audit: audit.fool(None, 2),
    **{
        f"saliency {name}": lambda audit, name=name: audit.saliency(name, **({"masks": 100} if name == "rise" else {}))
        for name in METHODS
    },
    "saliency grid": lambda audit: audit.saliency("gradient", grid=2),
    "saliency_faithfulness": lambda audit: audit.saliency_faithfulness("gradient", steps=4),
    "saliency_sanity": lambda audit: audit.saliency_sanity("gradient"),
}


def of(library, make):
    """A question with an attack or an attribution of another library, made for the audited network."""
    return lambda audit: make(audit, pytest.importorskip(library), audit.model.module)


WITH_OTHERS = {
    "foolbox pgd": of("foolbox", lambda audit, fb, _: audit.attack("l2", 0.5, attack=fb.attacks.L2PGD(steps=3))),
    "foolbox deepfool": of(
        "foolbox", lambda audit, fb, _: audit.attack("l2", 0.5, attack=fb.attacks.L2DeepFoolAttack(steps=5))
    ),
    "foolbox newton": of("foolbox", lambda audit, fb, _: audit.attack("l2", 0.5, attack=fb.attacks.NewtonFoolAttack())),
    "foolbox ddn": of(
        "foolbox", lambda audit, fb, _: audit.min_perturbation("l2", attack=fb.attacks.DDNAttack(steps=10))
    ),
    "torchattacks pgd": of(
        "torchattacks", lambda audit, ta, net: audit.attack("l2", 0.5, attack=ta.PGDL2(net, eps=0.5, steps=3))
    ),
    "torchattacks fab": of(
        "torchattacks",
        lambda audit, ta, net: audit.attack("linf", 0.1, attack=ta.FAB(net, eps=0.1, steps=3, n_classes=4)),
    ),
    "torchattacks cw": of(
        "torchattacks", lambda audit, ta, net: audit.min_perturbation("l2", attack=ta.CW(net, c=5, steps=10, lr=0.02))
    ),
    "captum of pixels": of("captum.attr", lambda audit, captum, net: audit.saliency(captum.Saliency(net))),
    "captum of a layer": of(
        "captum.attr", lambda audit, captum, net: audit.saliency(captum.LayerGradCam(net, net.conv2))
    ),
    "a callable in double": lambda audit: audit.attack("linf", 0.1, attack=lambda model, x, y: (0.95 * x).double()),
    "a callable in half": lambda audit: audit.min_perturbation("linf", attack=lambda model, x, y: (0.9 * x).half()),
}


STEADY = ("filters", "activations", "attack auto", "saliency grad_cam", "saliency gradient", "saliency eigen_cam")
"""Questions whose answers rounding changes little."""


@pytest.fixture(scope="module")
def net(tiny_net, images):
    """In double precision: rounding then decides next to nothing. It sees all of its classes in the images."""
    net = tiny_net(7)
    with torch.no_grad():
        net.linear.bias -= net(images.double()).mean(0)
    return net


@pytest.fixture(scope="module")
def model(net):
    return AuditModel(net, name="tiny")


@pytest.fixture(scope="module")
def images():
    images, colours = (
        torch.rand(16, 3, *size, generator=torch.Generator().manual_seed(seed))
        for seed, size in enumerate([(16, 16), (1, 1)])
    )
    return (images + colours) / 2


@pytest.fixture(scope="module")
def samples(net, images):
    with torch.no_grad():
        labels = net(images.double()).argmax(1)
    assert labels.bincount(minlength=4).all()
    boxes = [(i % 8, i % 5, i % 8 + 6, i % 5 + 8) for i in range(16)]
    return Samples.from_tensors(images, labels, boxes=boxes)


@pytest.fixture(scope="module")
def on_the_cpu(model, samples):
    return functools.cache(lambda name: QUESTIONS[name](Audit(model, samples, device="cpu", batch_size=8)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch reaches with CUDA")
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_measurement_on_a_gpu_is_that_on_the_cpu(name, on_the_cpu, model, samples):
    there = QUESTIONS[name](Audit(model, samples, device="cuda", batch_size=8))
    here = on_the_cpu(name)
    assert [each.name for each in there.metrics] == [each.name for each in here.metrics]
    assert list(map(float, there.metrics)) == pytest.approx(list(map(float, here.metrics)), 1e-4, 1e-5, nan_ok=True)
    assert (there.ids, there.settings) == (here.ids, here.settings)
    assert there.cost.backward == here.cost.backward
    assert abs(there.cost.forward - here.cost.forward) <= 4  # one of the two asks whether maps may be reordered
    assert there.per_sample.keys() == here.per_sample.keys()
    for column, values in here.per_sample.items():
        if values.dtype.kind in "biuf":
            np.testing.assert_allclose(there.per_sample[column], values, 1e-3, 1e-4, err_msg=column)
        else:
            assert (there.per_sample[column] == values).all(), column


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.bfloat16) for name in QUESTIONS),
        *((name, torch.float16) for name in ("attack auto", "min_perturbation l2", "dream", "neuron", "neighbours")),
        *((f"saliency {name}", torch.float16) for name in METHODS),
    ],
)
def test_a_model_in_half_precision_is_measured(name, dtype, on_the_cpu, net, samples):
    half = AuditModel(copy.deepcopy(net).to(dtype), name="tiny")
    there = QUESTIONS[name](Audit(half, samples, device="cpu", batch_size=8))
    here = on_the_cpu(name)
    assert [each.name for each in there.metrics] == [each.name for each in here.metrics]
    assert [math.isfinite(each) for each in there.metrics] == [math.isfinite(each) for each in here.metrics]
    assert there.ids == here.ids
    assert {column: values.shape for column, values in there.per_sample.items()} == {
        column: values.shape for column, values in here.per_sample.items()
    }
    if name in STEADY:
        rounding = 0.1 if dtype == torch.bfloat16 else 0.02
        assert list(map(float, there.metrics)) == pytest.approx(
            list(map(float, here.metrics)), rounding, rounding, nan_ok=True
        )


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", WITH_OTHERS)
def test_what_other_libraries_do_is_done_to_a_model_of_any_precision(name, dtype, net, samples):
    model = AuditModel(copy.deepcopy(net).to(dtype), name="tiny")
    found = WITH_OTHERS[name](Audit(model, samples, device="cpu", batch_size=8))
    assert len(found.ids) == 16
    assert not math.isnan(found.metrics[0])
    if "saliency" not in found.kind:
        clean = WITH_OTHERS[name](Audit(model, samples[:4], device="cpu")).clean_accuracy
        assert clean >= 0.75


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_passes_in_bfloat16_are_those_of_a_model_that_is_in_half_precision_anyway(dtype, net, samples):
    model = AuditModel(copy.deepcopy(net).to(dtype))
    plain, asked = (
        Audit(model, samples, device="cpu", precision=precision).attack("linf", 2 / 255, attack="pgd")
        for precision in ("float32", "bfloat16")
    )
    assert float(asked.robust_accuracy) == float(plain.robust_accuracy)
