"""What a neuron responds to: the strongest units, cut to their receptive fields, and gradients inside of them."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.lenses.neuron import neuron_gradient
from pytest_cnnaudit.lenses.receptive_field import receptive_fields

IMAGES = torch.rand(12, 3, 20, 24, generator=torch.Generator().manual_seed(0))
LABELS = [0, 1, 2] * 4
SAMPLES = Samples.from_tensors(IMAGES, LABELS, ids=[f"image {each}" for each in range(12)])


class Net(nn.Module):
    """The last of eight channels never responds; a layer that runs twice, and one that does not run."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.relu, self.active, self.linear = nn.ReLU(), nn.ReLU(), nn.Linear(8, 5)
        self.head, self.unused = nn.Linear(5, 3), nn.Linear(2, 2)
        with torch.no_grad():
            self.two.bias[7] = -100.0

    def forward(self, images):
        maps = self.active(self.two(self.relu(self.one(images))))
        return self.head(self.relu(self.linear(maps.mean((2, 3)))))


@pytest.fixture
def net():
    return Net().eval()


def asks(net, samples=SAMPLES, **options):
    return Audit(AuditModel(net, class_names=("cat", "dog", "emu")), samples, device="cpu", **options)


def maps_of(net):
    with torch.no_grad():
        return net.active(net.two(net.relu(net.one(IMAGES))))


def sheet_and_rows(found):
    sheet, rows = found.exhibits
    assert sheet.columns[0] == "patches"
    assert rows.columns[::2] == ("patch", "sample")
    return sheet.rows[0].pictures, rows.rows


@pytest.mark.parametrize("batch_size", [None, 5])
def test_the_strongest_samples_come_first_each_with_its_strongest_unit(net, batch_size):
    maps = maps_of(net)[:, 3]
    found = asks(net, batch_size=batch_size).neuron("active", 3, k=4)
    strongest = maps.flatten(1).amax(1)
    assert len(set(strongest.tolist())) == 12
    np.testing.assert_allclose(found.per_sample["activation"], strongest, rtol=1e-5)
    units = np.stack([found.per_sample["row"], found.per_sample["column"]], 1)
    assert units.tolist() == [list(divmod(int(each), 12)) for each in maps.flatten(1).argmax(1)]
    assert found.per_sample["label"].tolist() == LABELS
    assert found.ids == SAMPLES.ids
    _, rows = sheet_and_rows(found)
    order = strongest.argsort(descending=True)[:4].tolist()
    assert [row.title for row in rows] == [f"image {each}" for each in order]
    assert rows[0].figures == {
        "activation": f"{float(strongest.max()):.2f}",
        "label": ("cat", "dog", "emu")[LABELS[order[0]]],
        "unit": f"({units[order[0], 0]}, {units[order[0], 1]})",
    }
    assert found.strongest == pytest.approx(float(strongest.max()))
    assert found.active == pytest.approx(float((strongest > 0).float().mean()))
    labels = [LABELS[each] for each in order]
    assert found.one_class.count == max(map(labels.count, labels))
    assert found.one_class.n == 4


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "gradient"])
def test_patches_are_receptive_fields_and_nothing_of_the_gradient_lies_outside(net, method):
    audit = asks(net)
    found = audit.neuron("two", 3, method=method, k=5)
    _, rows = sheet_and_rows(found)
    for row in rows:
        place = SAMPLES.ids.index(row.title)
        unit = found.per_sample["row"][place], found.per_sample["column"][place]
        with audit.model.borrow() as model:
            (box,) = receptive_fields(model, IMAGES[place], {"two": net.two}, {"two": np.array([[3, *unit]])})["two"]
            gradient = neuron_gradient(
                model,
                IMAGES[place : place + 1],
                layer=net.two,
                channel=3,
                unit=(int(unit[0]), int(unit[1])),
                rule=method,
            )[0]
        top, left, bottom, right = box
        assert (bottom - top) * (right - left) <= 25  # 3×3 of every other of 3×3
        outside = torch.ones(20, 24, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        assert gradient.any()
        assert not gradient[:, outside].any()
        patch, drawn, whole = (picture.pixels for picture in row.pictures)
        image = pictures.image(IMAGES[place])
        assert np.array_equal(patch, image[top:bottom, left:right])
        grey, signed = drawn.astype(float) - 127.5, gradient[:, top:bottom, left:right].permute(1, 2, 0).numpy()
        assert (np.sign(grey)[np.abs(grey) > 1] == np.sign(signed)[np.abs(grey) > 1]).all()
        assert np.corrcoef(grey.ravel(), signed.ravel())[0, 1] > 0.99
        assert np.abs(grey).max() > 120  # each map on its own scale
        changed = (whole != image).any(2)
        assert changed.any()
        assert not changed[outside.numpy()].any()


def test_the_sheet_has_all_patches_beside_all_gradients_in_order(net):
    found = asks(net).neuron("two", 3, k=6, unit=(4, 5))
    (patches, gradients), rows = sheet_and_rows(found)
    larger = 360 // (3 * 5 + 2)
    assert patches.pixels.shape == gradients.pixels.shape == (larger * (2 * 5 + 1), larger * (3 * 5 + 2), 3)
    for column, sheet in ((0, patches), (1, gradients)):
        for number, row in enumerate(rows):
            top, left = number // 3 * 6, number % 3 * 6
            as_it_was = sheet.pixels[::larger, ::larger]
            assert np.array_equal(as_it_was[top : top + 5, left : left + 5], row.pictures[column].pixels)


def test_a_unit_is_looked_at_in_every_sample(net):
    found = asks(net).neuron("active", 1, (3, 4))
    np.testing.assert_allclose(found.per_sample["activation"], maps_of(net)[:, 1, 3, 4], atol=1e-6)
    assert set(found.per_sample["row"]) == {3}
    assert set(found.per_sample["column"]) == {4}
    assert found.settings["unit"] == "(3, 4)"
    assert asks(net).neuron("active", 1, [3, 4]).settings["unit"] == "(3, 4)"  # as from a file
    assert asks(net).neuron("active", 1).settings["unit"] == "the strongest"


def test_a_vectors_entry_sees_the_whole_image(net):
    found = asks(net).neuron("linear", 2, k=2)
    _, rows = sheet_and_rows(found)
    for row in rows:
        image = IMAGES[SAMPLES.ids.index(row.title)]
        assert np.array_equal(row.pictures[0].pixels, pictures.image(image))


def test_a_neuron_that_never_responds_says_so(net):
    found = asks(net).neuron("active", 7, k=3)
    assert found.strongest == found.active == 0
    assert found.notes == (
        "3 of the 3 maps shown are zero: nothing comes through the ReLUs.",
        "The neuron responds to no sample with more than 0; those shown are the nearest to it.",
    )
    _, rows = sheet_and_rows(found)
    assert [row.title for row in rows] == ["image 0", "image 1", "image 2"]  # of equals the first
    assert all(set(np.unique(row.pictures[1].pixels)) <= {127, 128} for row in rows)
    assert asks(net).neuron("two", 7, k=3).notes[0].startswith("The neuron responds to no sample")


def test_one_pass_over_the_samples_up_to_the_layer(net):
    ran = []
    net.linear.register_forward_hook(lambda _, args, __: ran.append(len(args[0])))
    found = asks(net).neuron("two", 3, k=5)
    # Whole is the first pass alone: does the layer run once?
    assert ran == [1]
    assert found.cost.backward == 5
    # One, the samples, those that are shown, and what finds the receptive fields: no more than for each row and column.
    assert 1 + 12 + 5 < found.cost.forward <= 1 + 12 + 5 + 2 * (20 + 24)


def test_fewer_samples_than_asked_for_are_all_shown(net):
    found = asks(net).neuron("two", 3, k=50)
    assert len(sheet_and_rows(found)[1]) == 12


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "gradient"])
def test_a_neuron_of_a_real_network(resnet20_model, cifar_samples, method):
    found = Audit(resnet20_model, cifar_samples[:60], device="cpu").neuron("layer2.0", 12, method=method)
    _, rows = sheet_and_rows(found)
    assert len(rows) == 9
    assert found.strongest == found.per_sample["activation"].max() > 0
    assert not found.notes
    assert found.cost.backward == 9


@pytest.mark.parametrize(
    ("layer", "channel", "options", "message"),
    [
        ("tow", 0, {}, "no layer 'tow' in Net. Did you mean 'two'"),
        ("relu", 0, {}, "Layer 'relu': The layer runs 2 times"),
        ("unused", 0, {}, "Layer 'unused': The layer did not run"),
        ("two", 8, {}, "Layer 'two': channel=8 is not one of the layer's 8: 0 to 7"),
        ("two", -1, {}, "channel=-1 is not one"),
        ("two", 0, {"unit": (10, 0)}, r"unit=\(10, 0\) is not in the layer's map of 10×12"),
        ("two", 0, {"unit": [0, 12]}, r"unit=\(0, 12\) is not in the layer's map"),
        ("linear", 0, {"unit": (0, 1)}, "map of 1×1"),
        ("two", 0, {"unit": 5}, r"unit=5 is no place in a map; give \(row, column\)"),
        ("two", 0, {"unit": (1, 2, 3)}, "is no place in a map"),
        ("two", 0, {"unit": (1, 2.5)}, "is no place in a map"),
        ("two", 0, {"method": "lrp"}, "no rule 'lrp' for ReLUs; use 'gradient'"),
        ("two", 0, {"k": 0}, "k=0 shows no samples"),
        ("one", 0, {}, "Layer 'one': There is no ReLU between the neuron and the image.* use 'gradient'"),
    ],
)
def test_what_there_is_not_is_refused(net, untouched, layer, channel, options, message):
    check = untouched(net)
    audit = asks(net)
    with pytest.raises(AuditError, match=message):
        audit.neuron(layer, channel, **options)
    assert not audit.measurements
    check()


def test_below_the_first_relu_the_gradient_is_the_filter(net):
    found = asks(net).neuron("one", 2, (8, 9), method="gradient", k=1)
    drawn = sheet_and_rows(found)[1][0].pictures[1].pixels.astype(float) - 127.5
    weight = net.one.weight[2].detach().permute(1, 2, 0).numpy()
    assert np.corrcoef(drawn.ravel(), weight.ravel())[0, 1] > 0.999


def test_a_response_that_is_not_finite_is_named_with_its_sample(net):
    class Divides(nn.Module):
        def forward(self, maps):
            return maps / maps.amax((1, 2, 3), keepdim=True)

    images = IMAGES.clone()
    images[7] = 0
    model = nn.Sequential(Divides(), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 20 * 24, 2))
    samples = Samples.from_tensors(images, LABELS)
    with pytest.raises(AuditError, match="The response of 0, channel 1 to 07 is not finite"):
        Audit(AuditModel(model), samples, device="cpu").neuron("0", 1)


def test_samples_are_needed(net):
    with pytest.raises(AuditError, match="needs samples"):
        asks(net, None).neuron("two", 0)


def test_the_model_is_left_as_it_was(net, untouched):
    check = untouched(net.train())
    for method in ("guided_backprop", "deconvnet", "gradient"):
        asks(net).neuron("two", 0, method=method, k=2)
    check()
