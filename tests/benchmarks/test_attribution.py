"""Attribution methods against captum, zennit, pytorch-grad-cam and torchcam, in one run.

    pytest -m benchmark tests/benchmarks/test_attribution.py -s

ResNet-20, a batch of 64, one thread. Each method is held against its floor: the plain passes that it inherently needs
(for the CAM family: a forward pass and the backward pass above the layer), hand-written and measured in turns with it,
because the machine's pace drifts. Figures are the median of the ratios over the rounds.
"""

import logging

import pytest
import torch

from pytest_cnnaudit.lenses.cams import class_activation_maps, eigen_cam, grad_cam, grad_cam_plus_plus, layer_cam
from pytest_cnnaudit.lenses.gradient import gradient, gradient_x_input
from pytest_cnnaudit.lenses.integrated_gradients import integrated_gradients
from pytest_cnnaudit.lenses.occlusion import occlusion
from pytest_cnnaudit.lenses.rise import rise
from pytest_cnnaudit.lenses.score_cam import score_cam
from pytest_cnnaudit.lenses.smooth_grad import smooth_grad

pytestmark = pytest.mark.benchmark

COUNT, POINTS = 64, 10


def plain_gradient(model, images, labels):
    pixels = images.clone().requires_grad_()
    return torch.autograd.grad(model(pixels).gather(1, labels[:, None]).sum(), pixels)[0]


def plain_forward(model, images):
    with torch.no_grad():
        return model(images)


def one_hot(labels):
    return torch.nn.functional.one_hot(labels, 10).float()


def test_gradient(bench, compare, within):
    captum, zennit = pytest.importorskip("captum.attr"), pytest.importorskip("zennit.attribution")
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    over = compare(
        "gradient",
        {
            "floor": lambda: plain_gradient(model, images, labels),
            "ours": lambda: gradient(model, images, labels),
            "captum": lambda: captum.Saliency(model).attribute(images.clone().requires_grad_(), labels),
            "zennit": lambda: zennit.Gradient(model)(images.clone(), one_hot(labels)),
        },
        9,
        holds=within,
    )
    assert within(over)


def test_gradient_x_input(bench, compare, within):
    captum = pytest.importorskip("captum.attr")
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    over = compare(
        "gradient × input",
        {
            "floor": lambda: plain_gradient(model, images, labels),
            "ours": lambda: gradient_x_input(model, images, labels),
            "captum": lambda: captum.InputXGradient(model).attribute(images.clone().requires_grad_(), labels),
        },
        9,
        holds=within,
    )
    assert within(over)


def test_smooth_grad(bench, compare, within):
    captum, zennit = pytest.importorskip("captum.attr"), pytest.importorskip("zennit.attribution")
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    tunnel = captum.NoiseTunnel(captum.Saliency(model))
    over = compare(
        f"SmoothGrad, {POINTS} copies",
        {
            "floor": lambda: [plain_gradient(model, images, labels) for _ in range(POINTS)],
            "ours": lambda: smooth_grad(model, images, labels, copies=POINTS),
            "captum": lambda: tunnel.attribute(images, nt_samples=POINTS, stdevs=0.15, target=labels),
            "captum, one at a time": lambda: tunnel.attribute(
                images, nt_samples=POINTS, nt_samples_batch_size=1, stdevs=0.15, target=labels
            ),
            "zennit": lambda: zennit.SmoothGrad(model, n_iter=POINTS)(images.clone(), one_hot(labels)),
        },
        3,
        holds=within,
    )
    assert within(over)


def test_integrated_gradients(bench, compare, within):
    captum, zennit = pytest.importorskip("captum.attr"), pytest.importorskip("zennit.attribution")
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    method = captum.IntegratedGradients(model)
    over = compare(
        f"integrated, {POINTS} steps",
        {
            "floor": lambda: [plain_gradient(model, images, labels) for _ in range(POINTS)],
            "ours": lambda: integrated_gradients(model, images, labels, steps=POINTS),
            "captum": lambda: method.attribute(images, target=labels, n_steps=POINTS),
            "captum, in chunks": lambda: method.attribute(
                images, target=labels, n_steps=POINTS, internal_batch_size=COUNT
            ),
            "zennit": lambda: zennit.IntegratedGradients(model, n_iter=POINTS)(images.clone(), one_hot(labels)),
        },
        3,
        holds=within,
    )
    assert within(over)


OURS = {
    "GradCAM": grad_cam,
    "GradCAMPlusPlus": grad_cam_plus_plus,
    "LayerCAM": layer_cam,
    "EigenCAM": eigen_cam,
}


def above(net, features, labels):
    """The floor's part above `layer2`: its forward pass, and the gradient of the scores there."""
    features.requires_grad_()
    logits = net.linear(net.layer3(features).mean((2, 3)))
    return torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), features)[0]


@pytest.mark.parametrize("name", OURS)
def test_cam_family(bench, compare, within, name):
    """At `layer2`, so that the backward pass above the layer is a third of the whole one, and that below is seen."""
    library, torchcam = pytest.importorskip("pytorch_grad_cam"), pytest.importorskip("torchcam.methods")
    captum = pytest.importorskip("captum.attr")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    logging.getLogger("torchcam").setLevel(logging.ERROR)
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    net, layer = model.module, model.module.layer2

    def floor():
        if name == "EigenCAM":
            plain_forward(model, images)
            return
        with torch.no_grad():
            normalised = (images - model._mean) / model._std
            features = net.layer2(net.layer1(net.bn1(net.conv1(normalised)).relu()))
        above(net, features, labels)

    def by_pytorch_grad_cam():
        with getattr(library, name)(model=model, target_layers=[layer]) as cam:
            cam(images.clone().requires_grad_(), [ClassifierOutputTarget(int(label)) for label in labels])

    works = {
        "floor": floor,
        "ours": lambda: OURS[name](model, images, labels, layer=layer),
        "pytorch-grad-cam": by_pytorch_grad_cam,
    }
    if name != "EigenCAM":

        def by_torchcam():
            made = {"GradCAM": "GradCAM", "GradCAMPlusPlus": "GradCAMpp", "LayerCAM": "LayerCAM"}[name]
            with getattr(torchcam, made)(model, layer) as cam:
                cam(labels.tolist(), model(images.clone().requires_grad_()))

        works["torchcam"] = by_torchcam
    if name == "GradCAM":
        works["captum"] = lambda: captum.LayerGradCam(model, layer).attribute(images, labels)
    limit = 1.2 if name == "EigenCAM" else 1.05  # its floor is the pass alone, without the eigenvectors
    over = compare(f"{name} at layer2", works, 15, holds=lambda over: within(over, limit))
    assert within(over, limit)


def test_several_cams_share_both_passes(bench, compare):
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    layer = model.module.layer3
    before = model.cost
    class_activation_maps(model, images, labels, layer=layer)
    cost = model.cost - before
    assert (cost.forward, cost.backward) == (COUNT, COUNT)
    shared = ("grad_cam", "grad_cam_plus_plus", "layer_cam")
    over = compare(
        "three CAMs at layer3",
        {
            "floor": lambda: plain_forward(model, images),
            "ours": lambda: class_activation_maps(model, images, labels, layer=layer, methods=shared),
            "one by one": lambda: [
                method(model, images, labels, layer=layer) for method in (grad_cam, grad_cam_plus_plus, layer_cam)
            ],
        },
        15,
        holds=lambda over: over["ours"] <= 1.1,
    )
    assert over["ours"] <= 1.1  # above the layer are a mean and a linear layer
    assert over["ours"] <= over["one by one"] / 2.5


def test_score_cam(bench, compare, within):
    library, torchcam = pytest.importorskip("pytorch_grad_cam"), pytest.importorskip("torchcam.methods")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    logging.getLogger("torchcam").setLevel(logging.ERROR)
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images[:16], job.labels[:16]
    layer = model.module.layer3
    before = model.cost
    score_cam(model, images, labels, layer=layer, at_once=COUNT)
    forwards = (model.cost - before).forward

    def by_torchcam():
        with torchcam.ScoreCAM(model, layer, batch_size=COUNT, input_shape=(3, 32, 32)) as cam:
            cam(labels.tolist(), plain_forward(model, images))

    def by_pytorch_grad_cam():
        with library.ScoreCAM(model=model, target_layers=[layer]) as cam:
            cam.batch_size = COUNT
            cam(images, [ClassifierOutputTarget(int(label)) for label in labels])

    over = compare(
        "Score-CAM at layer3",
        {
            "floor": lambda: [plain_forward(model, job.images) for _ in range(forwards // COUNT)],
            "ours": lambda: score_cam(model, images, labels, layer=layer, at_once=COUNT),
            "torchcam": by_torchcam,
            "pytorch-grad-cam": by_pytorch_grad_cam,
        },
        2,
        holds=lambda over: within(over, 1.1),
    )
    assert within(over, 1.1)


def test_occlusion(bench, compare, within):
    captum = pytest.importorskip("captum.attr")
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    method = captum.Occlusion(model)
    over = compare(
        "occlusion, 49 patches",
        {
            "floor": lambda: [plain_forward(model, images) for _ in range(50)],
            "ours": lambda: occlusion(model, images, labels, window=8, stride=4),
            "captum": lambda: method.attribute(images, (3, 8, 8), (3, 4, 4), 0.5, labels),
        },
        2,
        holds=lambda over: within(over, 1.1),
    )
    assert within(over, 1.1)


def test_rise(bench, compare):
    job = bench("resnet20_model", COUNT)
    model, images, labels = job.model, job.images, job.labels
    over = compare(
        "RISE, 50 masks",
        {
            "floor": lambda: [plain_forward(model, images) for _ in range(50)],
            "ours": lambda: rise(model, images, labels, masks=50),
        },
        2,
        holds=lambda over: over["ours"] <= 1.1,
    )
    assert over["ours"] <= 1.1
