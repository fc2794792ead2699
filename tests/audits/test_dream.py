"""DeepDream as a measurement: real networks dream of more, and what is shown is what was dreamt."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.results import Cost

IMAGES = torch.rand(5, 3, 16, 20, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
SAMPLES = Samples.from_tensors(IMAGES, [0, 1, 0, 1, 0], ids=list("abcde"))


class Net(nn.Module):
    """The first layer takes 5×5 pixels or more; what follows it changes its output in place."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.head = nn.Conv2d(3, 6, 5), nn.ReLU(inplace=True), nn.Linear(6, 2)
        self.twice, self.unused = nn.Identity(), nn.Conv2d(1, 1, 1)

    def forward(self, images):
        return self.twice(self.head(self.twice(self.relu(self.conv(images)).mean((2, 3)))))


@pytest.fixture
def net():
    return Net().eval()


def asks(net, samples=SAMPLES, **options):
    return Audit(AuditModel(net), samples, device="cpu", **options)


def activity(layer, images):
    with torch.no_grad():
        return layer(images).square().mean((1, 2, 3)).double().numpy() / 2


@pytest.mark.parametrize("layer", ["layer1", "layer2", ["layer1", "layer3"], {"layer2": 1, "layer3": 0.5}])
def test_a_real_network_sees_more_of_it(resnet20_model, cifar_samples, layer):
    audit = Audit(resnet20_model, cifar_samples[:4], device="cpu")
    found = audit.dream(None, layer, octaves=2)
    assert found.growth >= 1.5
    assert found.images.shape == (4, 3, 32, 32)
    assert 0 <= found.images.min() < found.images.max() <= 1
    assert (found.per_sample["after"] > found.per_sample["before"]).all()


def test_what_is_said_is_of_the_whole_images_before_and_after(net):
    found = asks(net).dream(None, "conv", octaves=2, steps=4)
    np.testing.assert_allclose(found.per_sample["before"], activity(net.conv, IMAGES), rtol=1e-5)
    np.testing.assert_allclose(found.per_sample["after"], activity(net.conv, torch.from_numpy(found.images)), rtol=1e-5)
    growth = found.per_sample["after"] / found.per_sample["before"]
    assert found.growth == pytest.approx(np.median(growth))
    assert found.growth > 1
    assert found.ids == SAMPLES.ids


def test_layers_are_weighted(net):
    audit = asks(net)
    both = audit.dream(None, {"conv": 2.0, "relu": 0.5}, octaves=1, steps=1)
    conv, relu = (audit.dream(None, name, octaves=1, steps=1).per_sample["before"] for name in ("conv", "relu"))
    np.testing.assert_allclose(both.per_sample["before"], 2 * conv + 0.5 * relu, rtol=1e-5)
    assert both.settings["layer"] == "conv (2), relu (0.5)"
    assert audit.dream(None, ["conv", "relu"], octaves=1, steps=1).settings["layer"] == "conv, relu"


def test_images_may_be_a_tensor_of_bytes_or_a_single_one(net):
    audit = asks(net, None)
    whole = audit.dream(IMAGES, "conv", octaves=2, steps=2)
    one = audit.dream(IMAGES[3], "conv", octaves=2, steps=2)
    np.testing.assert_allclose(one.images[0], whole.images[3], atol=1e-4)
    assert whole.ids == ("0", "1", "2", "3", "4")
    before = (IMAGES * 255).round().byte()
    found = audit.dream(before, "conv", octaves=1, steps=1, step_size=1e-9)
    np.testing.assert_allclose(found.images, before / 255, atol=1e-6)


def test_images_are_left_as_they_were_and_dream_alike_in_any_batch(net):
    before = IMAGES.clone()
    found = asks(net).dream(None, "conv", octaves=3, octave_scale=1.2, steps=3)
    one_by_one = asks(net, batch_size=1).dream(None, "conv", octaves=3, octave_scale=1.2, steps=3)
    np.testing.assert_allclose(one_by_one.images, found.images, atol=1e-4)
    assert torch.equal(IMAGES, before)
    again, other = (asks(net, seed=seed).dream(None, "conv", octaves=2, steps=3).images for seed in (0, 1))
    np.testing.assert_array_equal(again, asks(net).dream(None, "conv", octaves=2, steps=3).images)
    assert np.abs(again - other).max() > 1e-3


def test_passes_are_counted_and_end_at_the_layer(net):
    ran = []
    net.head.register_forward_hook(lambda *_: ran.append(1))
    found = asks(net).dream(None, "conv", octaves=3, octave_scale=1.2, steps=4)
    # Is the layer there; in which order are images fed; the steps; before and after.
    assert found.cost == Cost(1 + 2 + 5 * 3 * 4 + 2 * 5, 5 * 3 * 4)
    assert len(ran) == 3


def test_the_exhibit_shows_the_image_its_octaves_and_the_dream(net):
    found = asks(net).dream(None, "conv", octaves=3, octave_scale=1.2, steps=2)
    (exhibit,) = found.exhibits
    assert exhibit.columns == ("before", "octave 1", "octave 2", "after")
    assert [row.title for row in exhibit.rows] == list("abcde")
    for row, before, after in zip(exhibit.rows, IMAGES, found.images, strict=True):
        assert np.array_equal(row.pictures[0].pixels, pictures.image(before))
        assert np.array_equal(row.pictures[-1].pixels, pictures.image(torch.from_numpy(after)))
        sizes = [picture.pixels.shape[:2] for picture in row.pictures[1:]]
        assert sizes == [(round(16 / 1.2**n), round(20 / 1.2**n)) for n in (2, 1, 0)]
    assert found.settings["octaves"] == "3"
    assert found.settings["step_size"] == "0.00588"  # its default


def test_of_many_the_first_are_shown(net):
    images = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = asks(net, batch_size=7).dream(images, "conv", octaves=1, steps=1)
    (exhibit,) = found.exhibits
    assert [row.title for row in exhibit.rows] == [f"{each:02d}" for each in range(24)]
    assert exhibit.text.endswith("The first 24 of 30.")
    assert found.images.shape == (30, 3, 8, 8)


def test_layers_that_answer_nothing_have_no_growth(net):
    with torch.no_grad():
        net.conv.bias.fill_(-100)
    found = asks(net).dream(None, "relu", octaves=1, steps=1)
    assert np.isnan(found.growth)
    assert found.notes == ("5 of 5 images excite the layers to nothing as they are; growth leaves them out.",)


@pytest.mark.parametrize(
    ("images", "layer", "settings", "message"),
    [
        (None, "cnv", {}, "no layer 'cnv' in Net. Did you mean 'conv'"),
        (None, "twice", {}, "Layer 'twice': The layer runs 2 times"),
        (None, "unused", {}, "Layer 'unused': The layer did not run"),
        (None, [], {}, r"layer=\[\] names no layer to dream of"),
        (None, {"conv": 0}, {}, "names no layer to dream of"),
        (None, "conv", {"octave": 3}, "DeepDream has no setting 'octave'. Did you mean 'octaves'"),
        (None, "conv", {"seed": 3}, "DeepDream has no setting 'seed'"),
        (None, "conv", {"octaves": 0}, "octaves=0 does not do for DeepDream"),
        (
            None,
            "conv",
            {"octaves": 6},
            r"'Net' does not take images of 3×4, as large as an octave or a tile: .*\. Give",
        ),
        (None, "conv", {"tile": 4}, r"does not take images of 3×3, as large as an octave or a tile"),
        (IMAGES[0, 0], "conv", {}, r"Images to dream of are Samples .*, not a tensor of shape \(16, 20\)"),
        ("elephant.png", "conv", {}, "not str"),
        (IMAGES * 3, "conv", {}, r"images are in \[0, 1\]"),
        (IMAGES[:, :1], "conv", {}, "does not take images of 1×16×20"),
    ],
)
def test_what_cannot_be_dreamt_of_is_refused(net, untouched, images, layer, settings, message):
    check = untouched(net)
    audit = asks(net)
    with pytest.raises(AuditError, match=message):
        audit.dream(images, layer, **settings)
    assert not audit.measurements
    check()


def test_a_model_of_one_size_takes_one_octave():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 18, 2))
    audit = Audit(AuditModel(net, input_size=(16, 20)), SAMPLES, device="cpu")
    with pytest.raises(AuditError, match=r"takes images of 16×20 alone .* dream with octaves=1"):
        audit.dream(None, "0")
    assert audit.dream(None, "0", octaves=1).growth > 1
    # Stopped at the layer, a network without such a declaration may be shown smaller images.
    assert Audit(AuditModel(net), SAMPLES, device="cpu").dream(None, "0", octaves=2).growth > 1


def test_the_model_is_left_as_it_was(net, untouched):
    check = untouched(net.train())
    asks(net).dream(None, ["conv", "relu"], octaves=2, steps=2)
    check()
