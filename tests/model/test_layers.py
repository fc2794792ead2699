import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel


def test_a_layer_is_found_by_its_name(resnet20):
    assert AuditModel(resnet20).layer("layer2.0.conv1") is resnet20.layer2[0].conv1


@pytest.mark.parametrize(
    ("wrong", "right"), [("layer2.0.cov1", "'layer2.0.conv1'"), ("layr3", "'layer3'"), ("", "'conv1'")]
)
def test_a_layer_that_is_not_there_is_named_with_the_closest_ones(resnet20, wrong, right):
    with pytest.raises(AuditError, match=f"no layer {wrong!r} in CifarResNet") as caught:
        AuditModel(resnet20).layer(wrong)
    assert right in str(caught.value)


def test_a_module_without_layers_says_so():
    with pytest.raises(AuditError, match="no layers"):
        AuditModel(nn.Identity()).layer("conv1")


@pytest.mark.parametrize(
    ("name", "first", "last", "shape"),
    [
        ("cifar10_resnet20", "conv1", "layer3", (3, 32, 32)),
        ("cifar10_resnet4b", "conv1", "layer2", (3, 32, 32)),
        ("mnist_wongkolter", "0", "3", (1, 28, 28)),
        ("imagenet_squeezenet1_1", "features.0", "features", (3, 227, 227)),
    ],
)
def test_the_first_convolution_and_the_last_feature_layer_of_the_shared_models(shared_models, name, first, last, shape):
    mean, std = shared_models.NORMALISATION[name]
    model = AuditModel(shared_models.load(name), mean=mean, std=std)
    assert model.first_conv() == first
    assert model.last_feature_layer(torch.rand(shape)) == last


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("resnet18", "conv1", "layer4"),
        ("densenet121", "features.conv0", "features"),
        ("squeezenet1_1", "features.0", "features"),
        ("mobilenet_v3_small", "features.0.0", "features"),
    ],
)
def test_the_first_convolution_and_the_last_feature_layer_of_torchvisions_models(name, first, last):
    torchvision = pytest.importorskip("torchvision")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AuditModel(torchvision.models.get_model(name, weights=None), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert model.first_conv() == first
    assert model.last_feature_layer(torch.rand(3, 96, 96)) == last


class Shared(nn.Module):
    """Its only ReLU runs twice, the second time last."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.relu, self.head = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3), nn.ReLU(), nn.Linear(5, 4)

    def forward(self, images):
        return self.head(self.relu(self.two(self.relu(self.one(images)))).mean((2, 3)))


def test_a_layer_that_runs_twice_is_not_the_last_feature_layer():
    assert AuditModel(Shared()).last_feature_layer(torch.rand(3, 8, 8)) == "two"


def test_looking_for_the_last_feature_layer_leaves_no_hook():
    net = Shared().train()
    AuditModel(net).last_feature_layer(torch.rand(3, 8, 8))
    assert not any(part._forward_hooks for part in net.modules())
    assert net.training


def test_the_first_convolution_is_the_one_that_takes_the_image():
    net = nn.Sequential(nn.Conv2d(7, 3, 1), nn.Conv2d(3, 5, 3))
    assert AuditModel(net).first_conv() == "0"
    assert AuditModel(net, mean=(0,) * 3, std=(1,) * 3).first_conv() == "1"


def test_a_model_without_convolutions_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(AuditError, match=r"Sequential has no nn\.Conv2d"):
        AuditModel(net).first_conv()
    with pytest.raises(AuditError, match=r"no layer that returns a feature map.*layer="):
        AuditModel(net).last_feature_layer(torch.rand(3, 2, 2))


def test_features_with_as_many_channels_as_classes_are_still_features():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    assert AuditModel(net).last_feature_layer(torch.rand(3, 8, 8)) == "1"
