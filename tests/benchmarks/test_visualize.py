"""Gradient ascent for 16 channels at once against lucent, in one run: the same layer, channels, steps and size.

    pytest -m benchmark tests/benchmarks/test_visualize.py

Process time is given over its floor: as many plain forward and input-gradient passes of the network cut off at the
layer, weights frozen, in contiguous order, on one thread.
lucent runs the whole network, with its weights as they are loaded.
"""

import sys
import types

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.audits.tapped import fast_layer
from pytest_cnnaudit.lenses.ascent import ascend, start_images
from pytest_cnnaudit.lenses.objectives import channel_objective
from pytest_cnnaudit.lenses.recipes import recipe_of

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

STEPS, CHANNELS = 32, list(range(16))


@pytest.fixture
def lucent():
    """lucent's render. It wants IPython, to show pictures, and two names that kornia has moved since."""
    kornia = pytest.importorskip("kornia", reason="needs torch-lucent: pip install --no-deps torch-lucent kornia")
    display = types.ModuleType("IPython.display")
    sys.modules.setdefault("IPython", types.ModuleType("IPython")).display = display
    sys.modules.setdefault("IPython.display", display)
    kornia.get_rotation_matrix2d = kornia.geometry.transform.get_rotation_matrix2d
    kornia.warp_affine = kornia.geometry.transform.warp_affine
    pytest.importorskip("lucent", reason="needs torch-lucent: pip install --no-deps torch-lucent kornia")
    from lucent.optvis import objectives, param, render

    def visualize(network, layer, size):
        objective = objectives.Objective.sum(
            [objectives.channel(layer, each, batch=place) for place, each in enumerate(CHANNELS)]
        )
        return render.render_vis(
            network,
            objective,
            lambda: param.image(size, batch=len(CHANNELS)),
            thresholds=(STEPS,),
            progress=False,
            show_image=False,
            fixed_image_size=size,
        )

    return visualize


def squeezenet(shared_models):
    network = shared_models.load("imagenet_squeezenet1_1")
    return network, "features.9", network.features[:10], 128


def resnet20(shared_models):
    network = shared_models.load("cifar10_resnet20")
    cut = nn.Sequential(network.conv1, network.bn1, network.relu, network.layer1, network.layer2)
    return network, "layer2", cut, 32


def fast_enough(over):
    return over["ours"] <= 1.1 and 2 * over["ours"] <= over["lucent"]


@pytest.mark.parametrize("make", [squeezenet, resnet20], ids=["squeezenet-128", "resnet20-32"])
def test_16_targets_at_once_take_little_more_than_their_passes(make, shared_models, lucent, compare):
    network, layer, cut, size = make(shared_models)
    as_loaded = make(shared_models)[0]  # weights that ask for gradients, as lucent's users give it
    mean, std = shared_models.IMAGENET
    audit_model = AuditModel(network, mean=mean, std=std)
    recipe = recipe_of("olah", {"steps": STEPS})
    centre = torch.tensor(mean)
    start = start_images("noise", len(CHANNELS), (size, size), recipe=recipe, centre=centre)

    def plain():
        for _ in range(cost.forward // len(CHANNELS)):
            images = start.detach().requires_grad_()
            torch.autograd.grad(cut(images)[:, 0].mean((1, 2)).sum(), images)

    with audit_model.borrow() as model:
        objective = channel_objective(*fast_layer(model, start, layer), CHANNELS)  # as `Audit.visualize` does

        def ours():
            return ascend(objective, start, recipe=recipe, centre=centre)

        before = model.cost
        made = ours()
        cost = model.cost - before
        title = f"{type(network).__name__}, 16 of {layer}"
        works = {"floor": plain, "ours": ours, "lucent": lambda: lucent(as_loaded, layer.replace(".", "_"), size)}
        over = compare(title, works, 5, brief=("lucent",), holds=fast_enough)
    assert STEPS * len(CHANNELS) <= cost.forward == cost.backward <= (STEPS + 2) * len(CHANNELS)  # redirected: some
    assert made.scores[:, -1].mean() > made.scores[:, 0].mean()
    assert fast_enough(over)
