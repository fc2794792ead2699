from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Returns(nn.Module):
    """Returns what `wrap` makes of logits."""

    def __init__(self, wrap, classes=4):
        super().__init__()
        self.linear, self.wrap = nn.Linear(3, classes), wrap

    def forward(self, images):
        return self.wrap(self.linear(images.mean((2, 3))))


def test_normalisation_is_inside(tiny_net):
    net = tiny_net().float()
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    expected = net((IMAGES - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
    torch.testing.assert_close(AuditModel(net, mean=mean, std=std)(IMAGES), expected.detach())
    torch.testing.assert_close(AuditModel(net)(IMAGES), net(IMAGES).detach())


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda logits: logits, None),
        (lambda logits: SimpleNamespace(logits=logits), None),
        (lambda logits: {"logits": logits, "loss": None}, None),
        (lambda logits: (logits, logits + 1), lambda returned: returned[0]),
        (lambda logits: {"head": logits}, lambda returned: returned["head"]),
    ],
)
def test_logits_are_found_in_what_the_module_returns(wrap, output):
    module = Returns(wrap)
    expected = module.linear(IMAGES.mean((2, 3)))
    torch.testing.assert_close(AuditModel(module, output=output)(IMAGES), expected.detach())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Returns(lambda logits: (logits, logits)), "a tuple of 2, not a tensor.*output="),
        (Returns(lambda logits: [logits]), "a list of 1"),
        (Returns(lambda logits: {"head": logits, "aux": 1}), "a dict with the keys 'head', 'aux'.*output="),
        (Returns(lambda logits: None), "a NoneType"),
        (Returns(lambda logits: logits.log() * torch.nan), "NaN or infinite logits for 2 of 2 images"),
        (Returns(lambda logits: logits / torch.tensor([[0.0], [1.0]])), "NaN or infinite logits for 1 of 2 images"),
        (Returns(lambda logits: logits, classes=1), r"shape \(2, 1\) for 2 images"),
        (Returns(lambda logits: logits[:1]), r"shape \(1, 4\) for 2 images"),
        (Returns(lambda logits: logits[:, :, None, None]), r"shape \(2, 4, 1, 1\)"),
        (Returns(lambda logits: logits[:, 0]), r"shape \(2,\)"),
    ],
)
def test_what_is_no_logits_is_refused_with_the_models_name_and_advice(module, message):
    with pytest.raises(AuditError, match=message) as caught:
        AuditModel(module, name="mine")(IMAGES)
    assert "'mine'" in str(caught.value)


def test_images_with_another_number_of_channels_than_the_normalisation_are_refused(tiny_net):
    with pytest.raises(AuditError, match="normalises 3 channels, but the images have 1"):
        AuditModel(tiny_net(), mean=(0.5,) * 3, std=(0.5,) * 3)(IMAGES[:, :1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": (0.5,) * 3}, "mean and std together"),
        ({"std": (0.5,) * 3}, "mean and std together"),
        ({"mean": (0.5,) * 3, "std": (0.5,)}, "3 means and 1 stds"),
        ({"mean": (0.5,), "std": (0,)}, "above 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tiny_net, arguments, message):
    with pytest.raises(AuditError, match=message):
        AuditModel(tiny_net(), **arguments)


def test_what_is_no_module_is_refused():
    with pytest.raises(AuditError, match=r"needs a torch\.nn\.Module, but was given function"):
        AuditModel(lambda images: images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_precision_of_weights_takes_the_same_images_and_passes_their_gradient(tiny_net, dtype):
    net = tiny_net()
    expected = AuditModel(net)(IMAGES).float()
    images = IMAGES.clone().requires_grad_()
    with AuditModel(net.to(dtype), mean=(0.0,) * 3, std=(1.0,) * 3).borrow() as model:
        logits = model(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert logits.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(logits.float().detach(), expected, rtol=0.05, atol=0.05)
    assert next(net.parameters()).dtype == dtype


def test_the_gradient_reaches_the_images_but_not_the_weights(tiny_net):
    net = tiny_net()
    images = IMAGES.clone().requires_grad_()
    AuditModel(net)(images).sum().backward()
    assert images.grad.any()
    assert all(weight.grad is None for weight in net.parameters())


def test_a_module_without_weights_is_a_model_too():
    class Mean(nn.Module):
        def forward(self, images):
            return images.mean((2, 3))

    assert AuditModel(Mean(), mean=(0.5,) * 3, std=(0.5,) * 3)(IMAGES).shape == (2, 3)


def test_it_is_called_by_its_name_or_its_modules_class(tiny_net):
    assert AuditModel(tiny_net()).name == "TinyNet"
    assert AuditModel(tiny_net(), name="v2").name == "v2"


def test_classes_have_names_or_numbers(tiny_net):
    model = AuditModel(tiny_net(), class_names=["cat", "dog"])
    assert [model.class_name(label) for label in (0, 1, 2, -1)] == ["cat", "dog", "class 2", "class -1"]
    assert AuditModel(tiny_net()).class_name(3) == "class 3"


def test_images_of_another_size_than_input_size_are_named_with_the_size_to_load():
    model = AuditModel(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), input_size=(8, 8))
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 3)
    with pytest.raises(AuditError, match=r"takes images of 8×8 .* was given 8×9; .* size=\(8, 8\)"):
        model(torch.rand(2, 3, 8, 9))
