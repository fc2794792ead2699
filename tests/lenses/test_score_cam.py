import logging

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.score_cam import score_cam
from pytest_cnnaudit.results import Cost

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])


def scaled(maps):
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize("library", ["pytorch_grad_cam", "torchcam"])
def test_it_is_that_of_the_libraries_where_nothing_is_upsampled(resnet20_model, cifar, library):
    """Upsampled, they differ, from each other as well.

    pytorch-grad-cam aligns the centres of the corners' pixels, unlike for its other maps; torchcam stretches the masks
    before it upsamples them, so that they no longer reach from 0 to 1, as the paper has it.
    """
    pytest.importorskip(library)
    images, labels = cifar[0][:3], cifar[1][:3]
    with resnet20_model.borrow() as model:
        layer = model.module.layer1
        ours = score_cam(model, images, labels, layer=layer)[:, 0]
        if library == "torchcam":
            from torchcam.methods import ScoreCAM

            logging.getLogger("torchcam").setLevel(logging.ERROR)
            with ScoreCAM(model, layer, input_shape=(3, 32, 32)) as cam:
                with torch.no_grad():
                    logits = model(images)
                theirs = cam(labels.tolist(), logits)[0]
        else:
            from pytorch_grad_cam import ScoreCAM
            from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

            with ScoreCAM(model=model, target_layers=[layer]) as cam:
                theirs = torch.from_numpy(cam(images, [ClassifierOutputTarget(int(label)) for label in labels]))
    torch.testing.assert_close(scaled(ours), scaled(theirs), rtol=0, atol=1e-4)


class Strided(nn.Module):
    """A layer of 4×4 maps of an 8×8 image, the second of which is dead; as it is called, it counts its images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = nn.Conv2d(3, 5, 2, 2), nn.Linear(80, 4)
        with torch.no_grad():
            self.layer.weight[1] = 0

    def forward(self, images):
        return self.head(self.layer(images).relu().flatten(1))


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_it_is_the_algorithm_of_the_paper(baseline):
    net, images = Strided().double(), IMAGES.double()
    found = score_cam(net, images, TARGETS, layer=net.layer, baseline=baseline)
    absent = torch.full_like(images[:1], baseline)
    for image, target, map_ in zip(images, TARGETS, found, strict=True):
        activations = net.layer(image[None])[0].detach()
        gains = []
        for channel in activations:
            mask = interpolate(channel[None, None], (8, 8), mode="bilinear")[0, 0]
            # A dead channel's mask is 0 / 0 in the paper: here nothing of the image is seen.
            mask = (mask - mask.min()) / (mask.max() - mask.min()) if mask.max() > mask.min() else mask * 0
            seen = mask * image + (1 - mask) * absent
            gains.append((net(seen) - net(absent))[0, target].detach())
        weights = torch.stack(gains).exp() / torch.stack(gains).exp().sum()
        expected = (weights[:, None, None] * activations).sum(0).relu()
        torch.testing.assert_close(map_, interpolate(expected[None, None], (8, 8), mode="bilinear")[0])


def test_it_costs_a_pass_a_channel_and_dead_channels_share_one():
    net = Strided()
    with AuditModel(net).borrow() as model:
        score_cam(model, IMAGES, TARGETS, layer=net.layer, at_once=2)
        assert model.cost == Cost(3 + 3 + 4 * 3, 0)
        with torch.no_grad():
            net.layer.weight[1] = 1
        before = model.cost
        score_cam(model, IMAGES, TARGETS, layer=net.layer)
        assert model.cost - before == Cost(3 + 5 * 3, 0)


def test_no_more_images_go_through_the_model_at_once_than_asked():
    net = Strided()
    with AuditModel(net).borrow() as model:
        sizes = []
        model.register_forward_hook(lambda _model, inputs, _logits: sizes.append(len(inputs[0])))
        score_cam(model, IMAGES[:2], TARGETS[:2], layer=net.layer, at_once=3)
    assert sorted(sizes) == [2, 2, 2, 3, 3]  # the images, the baselines, and 8 masked ones


def test_a_layer_that_does_not_do_is_refused(tiny_net):
    net = tiny_net()
    with pytest.raises(AuditError, match="runs more than once"):
        score_cam(net, IMAGES.double(), TARGETS, layer=net.relu)
