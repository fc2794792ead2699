"""Patches are the right part of the right image, for all channels of all layers in one pass."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel, Samples
from pytest_cnnaudit.audits.patch_rows import Patch
from pytest_cnnaudit.questions.activations import ActivationQuestions

IMAGES = torch.rand(14, 3, 12, 9, generator=torch.Generator().manual_seed(0)).double()
SAMPLES = Samples.from_tensors(IMAGES, [0, 1] * 7, ids=[f"image {number}" for number in range(14)])


def asks(module, samples=SAMPLES, **options):
    return ActivationQuestions(AuditModel(module), samples, device="cpu", **options)


@pytest.fixture
def net(tiny_net):
    return tiny_net()


def test_they_are_those_of_brute_force_whatever_the_batch_size(net):
    with torch.no_grad():
        maps = {"conv1": net.conv1(IMAGES)}
        maps["conv2"] = net.conv2(net.relu(net.bn1(maps["conv1"])))
    for batch_size in (1, 4, 14):
        found = asks(net, batch_size=batch_size).top_patches(["conv1", "conv2"], k=5)
        for layer, each in maps.items():
            values, samples = each.amax((2, 3)).T.sort(dim=1, descending=True)
            top = found.top[layer]
            assert np.array_equal(top.samples, samples[:, :5].numpy())
            assert top.values == pytest.approx(values[:, :5].numpy())
            for channel, (numbers, places) in enumerate(zip(top.samples, top.places, strict=True)):
                picked = [each[sample, channel, y, x] for sample, (y, x) in zip(numbers, places, strict=True)]
                assert [float(value) for value in picked] == pytest.approx(top.values[channel].tolist())


def test_a_patch_is_what_the_filter_was_made_for():
    """Each image has one bright spot; a 3×3 blob finds it, and its patch is the spot with its surroundings."""
    images = torch.zeros(6, 3, 16, 16)
    spots = [(4, 5), (0, 0), (15, 7), (8, 15), (7, 7), (15, 15)]
    for number, (y, x) in enumerate(spots):
        images[number, :, y, x] = 1 - number / 10
    conv = nn.Conv2d(3, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[0.1, 0.1, 0.1], [0.1, 1, 0.1], [0.1, 0.1, 0.1]]).expand(1, 3, 3, 3))
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    found = asks(model, Samples.from_tensors(images, [0] * 6)).top_patches("0", k=6)
    patches = found.patches["0"][0]
    assert [patch.unit for patch in patches] == spots
    assert [patch.position for patch in patches] == list(range(6))
    assert all(patch.field == (3, 3) for patch in patches)
    assert [patch.box for patch in patches] == [
        (max(y - 1, 0), max(x - 1, 0), min(y + 2, 16), min(x + 2, 16)) for y, x in spots
    ]
    for number, picture in enumerate(found.exhibits[0].rows[0].pictures):
        (y, x), shade = spots[number], round(255 * (1 - number / 10))
        expected = np.zeros((3, 3))
        for dy in range(3):
            for dx in range(3):
                if not (0 <= y + dy - 1 < 16 and 0 <= x + dx - 1 < 16):
                    expected[dy, dx] = 128  # beyond the image
        expected[1, 1] = shade
        assert picture.pixels.shape == (3, 3, 3)
        assert np.abs(picture.pixels[:, :, 0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("box", "field", "grey"),
    [
        ((0, 2, 3, 6), (5, 4), (slice(0, 2), slice(None))),
        ((5, 2, 8, 6), (5, 4), (slice(3, 5), slice(None))),
        ((2, 0, 6, 1), (4, 3), (slice(None), slice(0, 2))),
        ((2, 7, 6, 8), (4, 3), (slice(None), slice(1, 3))),
        ((0, 0, 8, 8), (8, 8), (slice(0, 0), slice(0, 0))),
        ((2, 2, 4, 4), (3, 3), (slice(0, 0), slice(0, 0))),  # smaller than others, but not for a border
    ],
)
def test_what_lies_beyond_the_image_is_grey(box, field, grey):
    image = torch.ones(3, 8, 8)
    cut = Patch("", 0, 1.0, (0, 0), box, field).cut(image)
    expected = torch.ones_like(cut)
    expected[:, grey[0], grey[1]] = 0.5
    assert torch.equal(cut, expected)
    inside = box[2] - box[0] < field[0] and box[0] > 0 and box[2] < 8
    assert cut.shape[1:] == (field if not inside else (2, 2))


def test_a_unit_that_sees_nothing_is_grey():
    assert torch.equal(
        Patch("", 0, 0.0, (0, 0), (0, 0, 0, 0), (0, 0)).cut(IMAGES[0]), torch.full((3, 1, 1), 0.5).double()
    )


def test_every_convolution_in_one_pass(net):
    found = asks(net, batch_size=4).top_patches()
    assert list(found.top) == ["conv1", "conv2"]
    fields = found.cost.forward - len(SAMPLES) - 5  # does each layer run once, and in which order are images fed?
    assert 0 < fields <= 2 * (12 + 9)
    assert found.cost.backward == 0
    assert found.active.n == 12


def test_the_passes_go_no_further_than_the_last_layer(net):
    ran = []
    net.linear.register_forward_hook(lambda *_: ran.append(1))
    asks(net).top_patches(["conv2", "conv1"])
    assert len(ran) == 3  # those that look at one image as a whole


def test_channels_that_are_named_are_shown(net):
    found = asks(net).top_patches("conv2", channels=[4, 1, 4], k=3)
    (exhibit,) = found.exhibits
    assert list(found.patches["conv2"]) == [4, 1]
    assert [row.title for row in exhibit.rows] == ["channel 4", "channel 1"]
    assert [len(row.pictures) for row in exhibit.rows] == [3, 3]
    assert found.notes == ("2 of 6 channels are shown; name others with channels=.",)
    assert [row.title for row in asks(net).top_patches("conv2", 5).exhibits[0].rows] == ["channel 5"]
    assert asks(net).top_patches("conv2", channels=np.int64(3)).patches["conv2"].keys() == {3}


def test_pictures_say_where_they_come_from(net):
    found = asks(net).top_patches("conv1", channels=2, k=1)
    ((patch,),) = found.patches["conv1"].values()
    (picture,) = found.exhibits[0].rows[0].pictures
    assert patch.sample == SAMPLES.ids[found.top["conv1"].samples[2, 0]]
    assert picture.alt.startswith(f"{patch.sample}, unit {patch.unit[0]}, {patch.unit[1]}: activation ")


def test_fewer_samples_than_patches(net):
    found = asks(net, SAMPLES[:4]).top_patches("conv1")
    assert {len(patches) for patches in found.patches["conv1"].values()} == {4}


def test_a_slice_of_samples_has_its_own_positions(net):
    part = SAMPLES[[9, 3, 12, 5]]
    found = asks(net, part).top_patches("conv1", k=4)
    patch = found.patches["conv1"][0][0]
    assert part[patch.position].id == patch.sample
    y, x = patch.unit
    with torch.no_grad():
        assert float(net.conv1(part[patch.position].image[None])[0, 0, y, x]) == pytest.approx(patch.activation)


def test_a_channel_that_never_rises_says_so(net):
    with torch.no_grad():
        net.conv1.bias[3] = -100
    found = asks(net).top_patches("conv1")
    assert [row.status for row in found.exhibits[0].rows] == ["", "", "", "never above zero", "", ""]
    assert (found.active.count, found.active.n) == (5, 6)


def test_a_vector_sees_the_whole_image(net):
    found = asks(net).top_patches("linear", k=2)
    for patches in found.patches["linear"].values():
        assert {patch.box for patch in patches} == {(0, 0, 12, 9)}


def test_large_patches_are_shown_smaller():
    images = torch.rand(2, 3, 300, 200)
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    found = asks(model, Samples.from_tensors(images, [0, 1])).top_patches("1")
    assert {picture.pixels.shape for row in found.exhibits[0].rows for picture in row.pictures} == {(128, 85, 3)}


class Twice(nn.Module):
    """One convolution runs twice, one not at all, and one once."""

    def __init__(self):
        super().__init__()
        self.once, self.twice, self.never = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        return self.head(self.twice(self.twice(self.once(images))).mean((2, 3)))


def test_a_layer_that_runs_twice_is_an_error_by_name_and_left_out_with_a_note_otherwise():
    audit = asks(Twice().double().eval())
    with pytest.raises(AuditError, match="'twice' runs 2 times"):
        audit.top_patches(["once", "twice"])
    with pytest.raises(AuditError, match="'never' did not run"):
        audit.top_patches("never")
    found = audit.top_patches()
    assert list(found.top) == ["once"]
    assert found.notes[0].endswith("forward pass: twice (2 times), never (0 times).")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layer": "conv3"}, "no layer 'conv3' in TinyNet. Did you mean 'conv"),
        ({"layer": []}, "names no layer"),
        ({"layer": "conv1", "channels": 6}, r"no channel 6 in the layer 'conv1'; it has 6 \(0 to 5\)"),
        ({"layer": "conv1", "channels": [0, -1]}, "no channel -1"),
        ({"layer": "conv1", "channels": []}, "names no channel"),
        ({"layer": "conv1", "k": 0}, "k=0 is no number of patches"),
    ],
)
def test_what_cannot_be_meant_is_refused(net, asked, message):
    with pytest.raises(AuditError, match=message):
        asks(net).top_patches(**asked)


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(AuditError, match=r"Sequential has no nn\.Conv2d"):
        asks(nn.Sequential(nn.Flatten(), nn.Linear(324, 2)).double()).top_patches()


def test_maps_that_are_not_numbers_are_refused_with_a_sample():
    class Logarithm(nn.Module):
        def forward(self, images):
            return images.log()

    images = IMAGES.clone().clamp(min=0.1)
    images[11] = 0
    model = nn.Sequential(Logarithm(), nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    samples = Samples.from_tensors(images, [0] * 14)
    with pytest.raises(AuditError, match=r"'1' returns NaN or infinite values for 1 of 14 images, 11 among them"):
        asks(model, samples).top_patches("1")


def test_the_model_is_left_as_it_was(net, untouched):
    check = untouched(net.train())
    asks(net).top_patches()
    with pytest.raises(AuditError):
        asks(net).top_patches("relu")
    check()


def test_two_runs_find_the_same(resnet20_model, cifar_samples):
    runs = [
        ActivationQuestions(resnet20_model, cifar_samples[:64], device="cpu").top_patches("layer2") for _ in range(2)
    ]
    assert runs[0].patches == runs[1].patches
    assert len(runs[0].exhibits[0].rows) == 24
