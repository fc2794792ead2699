"""Guided backprop, the deconvnet and a neuron's gradient against captum, zennit and pytorch-grad-cam, in one run.

    pytest -m benchmark tests/benchmarks/test_guided.py -s

ResNet-20, a batch of 64, one thread. Each is held against its floor, a plain forward and backward pass for the images,
measured in turns with it, because the machine's pace drifts. Figures are the median of the ratios over the rounds.
"""

from copy import deepcopy

import pytest
import torch

from pytest_cnnaudit.lenses.guided_backprop import deconvnet, guided_backprop
from pytest_cnnaudit.lenses.neuron import neuron_gradient

pytestmark = pytest.mark.benchmark

COUNT, ROUNDS = 64, 25


def plain(model, images, labels):
    pixels = images.clone().requires_grad_()
    return torch.autograd.grad(model(pixels).gather(1, labels[:, None]).sum(), pixels)[0]


@pytest.mark.parametrize("rule", ["guided_backprop", "deconvnet"])
def test_a_rule_costs_no_more_than_the_plain_gradient(bench, compare, within, rule):
    captum, zennit = pytest.importorskip("captum.attr"), pytest.importorskip("zennit.attribution")
    from zennit import composites

    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    lens = {"guided_backprop": guided_backprop, "deconvnet": deconvnet}[rule]
    by_captum = {"guided_backprop": captum.GuidedBackprop, "deconvnet": captum.Deconvolution}[rule](model)
    composite = {"guided_backprop": composites.GuidedBackprop, "deconvnet": composites.DeconvNet}[rule]()
    one_hot = torch.nn.functional.one_hot(labels, 10).float()

    def by_zennit():
        with zennit.Gradient(model, composite) as attribution:
            return attribution(images.clone(), one_hot)

    works = {
        "floor": lambda: plain(model, images, labels),
        "ours": lambda: lens(model, images, labels),
        "captum": lambda: by_captum.attribute(images.clone().requires_grad_(), labels),
        "zennit": by_zennit,
    }
    if rule == "guided_backprop":
        library = pytest.importorskip("pytorch_grad_cam")
        theirs = library.GuidedBackpropReLUModel(deepcopy(model), device="cpu")  # it exchanges modules

        def by_pytorch_grad_cam():  # one image at a time
            for image, label in zip(images, labels, strict=True):
                theirs(image[None].clone(), int(label))

        works["pytorch-grad-cam"] = by_pytorch_grad_cam
    before = model.cost
    lens(model, images, labels)
    spent = model.cost - before
    assert (spent.forward, spent.backward) == (COUNT, COUNT)
    assert within(compare(rule, works, ROUNDS, brief=("pytorch-grad-cam",), holds=within))


def test_a_neuron_costs_the_passes_below_its_layer(bench, compare, within):
    captum = pytest.importorskip("captum.attr")
    job = bench("resnet20_model", COUNT)
    model, images = job.model, job.images
    net = model.module

    def floor():
        pixels = images.clone().requires_grad_()
        maps = net.layer2(net.layer1(net.bn1(net.conv1((pixels - model._mean) / model._std)).relu()))
        return torch.autograd.grad(maps[:, 5, 8, 8].sum(), pixels)

    by_captum = captum.NeuronGuidedBackprop(model, net.layer2)
    over = compare(
        "a neuron",
        {
            "floor": floor,
            "ours": lambda: neuron_gradient(model, images, layer=net.layer2, channel=5, unit=(8, 8)),
            "captum": lambda: by_captum.attribute(images.clone().requires_grad_(), (5, 8, 8)),
        },
        ROUNDS,
        holds=within,
    )
    assert within(over)
