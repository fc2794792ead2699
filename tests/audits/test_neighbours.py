"""Neighbours whose labels are known, and those of real networks, which agree more than those of pixels."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel, Samples
from pytest_cnnaudit.audits import neighbours
from pytest_cnnaudit.questions.neighbours import NeighbourQuestions


class Mean(nn.Module):
    """The feature is the mean of the first channel; the second, which is left out, rules the distance of the pixels."""

    def __init__(self):
        super().__init__()
        self.maps, self.linear = nn.Identity(), nn.Linear(1, 2)

    def forward(self, images):
        return self.linear(self.maps(images[:, :1]).mean((2, 3)))


def images_of(features, pixels):
    features, pixels = torch.tensor(features).double(), torch.tensor(pixels).double()
    return torch.stack([features, pixels], 1)[:, :, None, None].expand(-1, -1, 2, 2)


# Two by two by their features, two by two otherwise by their pixels; the odd one is alone with its label.
IMAGES = images_of([0.00, 0.01, 0.50, 0.51, 1.00], [0.1, 0.9, 0.1, 0.9, 0.5])
LABELS = [3, 3, 7, 7, 9]


def asks(module, samples, **options):
    names = [f"class {label}" for label in range(2)]
    return NeighbourQuestions(AuditModel(module, class_names=names), samples, device="cpu", **options)


@pytest.fixture
def mean_net():
    torch.manual_seed(0)
    return Mean().double().eval()


@pytest.fixture
def known(mean_net):
    return asks(mean_net, Samples.from_tensors(IMAGES, LABELS, ids=list("abcde")))


def test_labels_that_only_features_tell_apart(known):
    found = known.neighbours(k=1)
    assert found.nearest["feature"].positions.ravel().tolist() == [1, 0, 3, 2, 3]
    assert found.nearest["pixel"].positions.ravel().tolist() == [2, 3, 0, 1, 3]
    assert found.nearest["feature"].euclidean.ravel() == pytest.approx([0.01, 0.01, 0.01, 0.01, 0.49])
    # over 4 pixels of two channels: differences of 0.5, 0 twice over; of the last to the fourth, 0.49 and 0.4
    assert found.nearest["pixel"].squared.ravel() == pytest.approx([1, 1, 1, 1, 4 * (0.49**2 + 0.4**2)])
    assert (found.feature_agreement, found.pixel_agreement, found.gain) == (1, 0, 1)
    assert found.chance == pytest.approx(1 / 4)
    assert found.best == 1
    assert found.ids == tuple("abcde")
    assert found.per_sample["feature"].tolist() == [1, 1, 1, 1, 0]
    assert found.per_sample["pixel"].tolist() == [0, 0, 0, 0, 0]
    assert found.per_sample["scored"].tolist() == [True] * 4 + [False]
    assert (found.feature_agreement.n, found.chance.n) == (4, 4)
    assert found.notes == (
        "1 of 5 samples are the only ones of their label, and are not scored.",
        "1 of 5 samples have features that are all zero.",
    )


def test_a_sample_has_no_more_neighbours_of_its_label_than_there_are(known):
    found = known.neighbours(k=2)
    assert found.feature_agreement == found.best == 0.5
    assert found.chance == pytest.approx(1 / 4)
    assert "4 of 5 samples have fewer than 2 others of their label: agreement is at most 0.50." in found.notes


def test_by_the_angle_one_feature_says_only_its_sign(known):
    """Four features point the same way, so that order decides; the zero points nowhere, and is as far from all."""
    positions = known.neighbours(k=1).nearest["cosine"].positions.ravel().tolist()
    assert positions == [1, 2, 1, 1, 1]


def test_features_of_a_layer_are_averaged_over_its_positions(mean_net):
    images = torch.rand(6, 2, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    samples = Samples.from_tensors(images, [0] * 6)
    of_layer, default = (asks(mean_net, samples).neighbours(layer, k=2) for layer in ("maps", None))
    assert np.array_equal(of_layer.nearest["feature"].positions, default.nearest["feature"].positions)
    assert of_layer.nearest["feature"].squared == pytest.approx(default.nearest["feature"].squared)
    assert (of_layer.settings["features"], default.settings["features"]) == ("maps", "input of linear")


def test_without_a_linear_layer_the_last_map_is_taken():
    torch.manual_seed(0)
    pointwise = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).double()
    images = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    found = asks(pointwise, Samples.from_tensors(images, [0, 1] * 4)).neighbours(k=3)
    assert found.settings["features"] == "1"
    with torch.no_grad():
        features = pointwise[1](pointwise[0](images)).mean((2, 3))
    expected = torch.cdist(features, features).fill_diagonal_(torch.inf).sort(1)
    assert np.array_equal(found.nearest["feature"].positions, expected.indices[:, :3].numpy())
    assert found.nearest["feature"].euclidean == pytest.approx(expected.values[:, :3].numpy())


@given(st.data())
def test_neither_batches_nor_blocks_nor_the_order_of_samples_change_anything(tiny_net, data):
    images = torch.rand(13, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    labels, ids = np.arange(13) % 3, [f"image {number}" for number in range(13)]
    order = np.array(data.draw(st.permutations(range(13))))
    net, k = tiny_net(), data.draw(st.integers(1, 12))
    plain = asks(net, Samples.from_tensors(images, labels, ids=ids)).neighbours(k=k)
    moved = Samples.from_tensors(images, labels, ids=ids)[order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_IMAGES", data.draw(st.sampled_from([1, 10_000, 2**29])))
        found = asks(net, moved, batch_size=data.draw(st.integers(1, 13))).neighbours(k=k)
    for space, nearest in plain.nearest.items():
        assert np.array_equal(order[found.nearest[space].positions], nearest.positions[order])
        assert found.nearest[space].squared == pytest.approx(nearest.squared[order], abs=1e-14)
        assert np.array_equal(found.per_sample[space], plain.per_sample[space][order])
    assert found.feature_agreement == pytest.approx(plain.feature_agreement)


def test_features_of_all_samples_in_one_pass_and_images_block_by_block(tiny_net, counting, monkeypatch):
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    loaded = []

    def load(position):
        loaded.append(position)
        return images[position], position % 3, None, None

    counted = counting(tiny_net())
    samples = Samples(load, [str(number) for number in range(40)], source="numbers", workers=0)
    monkeypatch.setattr(neighbours, "_IMAGES", 2 * 10 * 3 * 8 * 8 * 8)  # two blocks of ten
    found = asks(counted, samples, batch_size=16).neighbours()
    probes = found.cost.forward - 40
    assert (counted.forwards, counted.backwards) == (40 + probes, 0) == (found.cost.forward, found.cost.backward)
    assert probes <= 1 + 8  # which layer is the last; whether the order of channels may change
    # the pass, the blocks, twice the first one alone, and the tiles
    drawn = len(loaded) - 40 - (40 + 30 + 20 + 10) - 2 - 40
    assert 0 < drawn <= 40


def test_a_row_is_the_sample_its_pixel_neighbours_and_its_feature_neighbours(known):
    worst_or_best, table, _ = known.neighbours(k=1).exhibits
    assert worst_or_best.title == "Features agree most with the label"
    assert worst_or_best.columns == ("sample", "pixel 1", "feature 1")
    first = worst_or_best.rows[0]
    assert (first.title, first.status) == ("a", "hit")
    assert first.figures == {"pixels agree": "0 of 1", "features agree": "1 of 1"}
    assert [picture.caption for picture in first.pictures] == ["class 3", "✗ class 7, 1.00", "✓ class 3, 0.01"]
    assert [picture.alt for picture in first.pictures] == [
        "a",
        "pixel neighbour 1 of a: c, another label",
        "feature neighbour 1 of a: b, the same label",
    ]
    for picture, position in zip(first.pictures, (0, 2, 1), strict=True):
        assert (picture.pixels == round(float(IMAGES[position, 0, 0, 0]) * 255)).all()
    assert [row.title for row in worst_or_best.rows] == ["a", "c"]  # one of each label
    assert [row.cells for row in table.rows] == [
        ("class 3", "2", "1.00", "0.00", ""),
        ("class 7", "2", "1.00", "0.00", ""),
    ]


def test_what_agrees_least_is_shown_first_then_by_how_near_the_wrong_ones_are(mean_net):
    features = [0.0, 0.10, 0.3, 0.31, 0.6, 0.61, 0.62]
    samples = Samples.from_tensors(images_of(features, [0.5] * 7), [0, 0, 0, 1, 1, 1, 1])
    worst, best, table, _ = asks(mean_net, samples).neighbours(k=1).exhibits
    assert [(row.title, row.status) for row in worst.rows] == [("2", "miss"), ("3", "miss")]
    assert [(row.title, row.status) for row in best.rows] == [("0", "hit"), ("4", "hit")]
    assert table.rows[0].cells == ("class 0", "3", "0.67", "0.67", "class 1 (1 of 1)")


def test_five_of_many_neighbours_are_shown(resnet20_model, cifar_samples):
    found = NeighbourQuestions(resnet20_model, cifar_samples[:60], device="cpu").neighbours(k=12)
    worst, best, _, _ = found.exhibits
    assert (len(worst.rows), len(best.rows)) == (12, 4)
    assert all(len(row.pictures) == 11 for row in (*worst.rows, *best.rows))
    assert "(the first 5 of 12)" in worst.text
    assert worst.rows[0].figures["features agree"].endswith("of 12")


def test_where_no_label_occurs_twice_neighbours_are_shown_and_not_judged(mean_net):
    audit = asks(mean_net, Samples.from_tensors(IMAGES, range(5)))
    found = audit.neighbours(k=2)
    (alone,) = found.exhibits
    assert np.isnan(found.feature_agreement)
    assert found.feature_agreement.n == found.chance.n == 0
    assert [row.status for row in alone.rows] == [""] * 5
    (row,) = (row for row in alone.rows if row.title == "0")
    assert (row.figures, row.pictures[1].caption) == ({}, "class 2, 1.00")
    with pytest.raises(AuditError, match="No label occurs twice among the 5 samples of tensors"):
        audit.assert_neighbours_agree(k=2, min_agreement=0)


def test_real_features_agree_far_more_than_pixels(resnet20_model, cifar_samples):
    audit = NeighbourQuestions(resnet20_model, cifar_samples, device="cpu")
    found = audit.assert_neighbours_agree()
    assert 0.82 <= found.feature_agreement <= 0.88  # measured: 0.85, and 0.87 by the angle
    assert 0.84 <= found.cosine_agreement <= 0.90
    assert 0.17 <= found.pixel_agreement <= 0.23  # 0.20
    assert found.chance == pytest.approx(0.1, abs=0.01)
    assert found.gain.ci95[0] >= 0.6
    assert audit.assert_neighbours_agree(metric="cosine", min_agreement=0.84) is audit.measurements[-1]
    assert {row.figures["features agree"] for row in found.exhibits[0].rows} == {"0 of 5"}
    assert {tuple(row.figures.values()) for row in found.exhibits[1].rows} == {("0 of 5", "5 of 5")}
    weakest = found.exhibits[-2].rows[0].cells
    assert (weakest[0], weakest[-1].split(" (")[0]) == ("class 3", "class 5")  # cats are taken for dogs


def test_the_deeper_the_layer_the_more_its_features_agree(resnet20_model, cifar_samples):
    audit = NeighbourQuestions(resnet20_model, cifar_samples[:250], device="cpu")
    first, second, third = (audit.neighbours(layer).feature_agreement for layer in ("layer1", "layer2", "layer3"))
    assert first + 0.03 < second < third - 0.3


def test_features_of_random_weights_are_no_better_than_pixels_and_fail(shared_models, cifar_samples):
    torch.manual_seed(0)
    random = shared_models.CifarResNet(20).eval()
    audit = asks(random, cifar_samples)
    with pytest.raises(AssertionError, match=r"assert feature agreement 0\.1\d .*n 500\) >= 0\.40") as failed:
        audit.assert_neighbours_agree()
    assert audit.measurements[-1].gain < 0.02
    story = str(failed.value)
    assert "features: input of linear, 64 numbers; k 5, 500 samples of tensors" in story
    assert "pixels agree 0.20, chance 0.0996" in story
    assert "weakest label: " in story


def test_a_last_stage_that_lost_its_weights_fails(resnet20_model, cifar_samples):
    broken = copy.deepcopy(resnet20_model.module)
    torch.manual_seed(0)
    for part in broken.layer3.modules():
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
            part.reset_parameters()
    audit = NeighbourQuestions(
        AuditModel(broken, mean=resnet20_model.mean, std=resnet20_model.std), cifar_samples, device="cpu"
    )
    with pytest.raises(AssertionError, match="feature agreement"):
        audit.assert_neighbours_agree()


def test_labels_in_disorder_fail(resnet20_model, cifar_samples):
    images = torch.stack([sample.image for sample in cifar_samples[:150]])
    labels = np.random.default_rng(0).integers(0, 10, 150)
    audit = NeighbourQuestions(resnet20_model, Samples.from_tensors(images, labels), device="cpu")
    with pytest.raises(AssertionError, match=r"feature agreement \(cosine\) 0\.\d+ .* >= 0\.50"):
        audit.assert_neighbours_agree(min_agreement=0.5, metric="cosine")
    assert abs(audit.measurements[0].feature_agreement - audit.measurements[0].chance) < 0.06


def test_features_that_are_all_the_same_say_so(mean_net):
    images = images_of([0.5] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    found = asks(mean_net, Samples.from_tensors(images, [0, 1] * 3)).neighbours(k=2)
    assert found.nearest["feature"].positions.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]
    assert "neighbours follow from the order of the samples alone" in found.notes[0]


@pytest.mark.parametrize("layer", ["maps", None])
def test_features_that_are_not_numbers_are_refused_with_the_sample(mean_net, layer):
    class Logarithm(nn.Module):
        def forward(self, images):
            return images.log()

    mean_net.maps = Logarithm()
    with pytest.raises(AuditError, match=r"The features of a \((input of linear|maps)\) are NaN or infinite"):
        asks(mean_net, Samples.from_tensors(IMAGES.flip(0), LABELS, ids=list("edcba"))).neighbours(layer, k=1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"k": 5}, r"k=5 is no number of neighbours among 5 samples; give 1 to 4\."),
        ({"k": 0}, "k=0 is no number of neighbours"),
        ({"k": 1, "layer": "map", "min_agreement": 0.5}, "no layer 'map' in Mean. Did you mean 'maps'"),
        ({"k": 1, "layer": "maps"}, "min_agreement= is needed: no one threshold fits every layer, here 'maps'"),
        ({"k": 1, "min_agreement": 2}, "min_agreement=2 is not a share"),
        ({"k": 1, "metric": "l1"}, "no metric 'l1' of feature space; use 'l2' or 'cosine'"),
        ({"k": 2, "min_agreement": 0.6}, r"min_agreement=0\.6 cannot be reached: .* at or below 0\.5;"),
    ],
)
def test_what_cannot_be_meant_is_refused(known, asked, message):
    with pytest.raises(AuditError, match=message):
        known.assert_neighbours_agree(**asked)


def test_the_model_is_left_as_it_was(tiny_net, untouched):
    net = tiny_net().train()
    check = untouched(net)
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    audit = asks(net, Samples.from_tensors(images, [0, 1] * 3))
    audit.neighbours(k=2)
    audit.neighbours("conv2", k=2)
    with pytest.raises(AuditError):
        audit.neighbours("relu", k=2)
    check()
