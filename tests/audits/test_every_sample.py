"""Every sample as a tile: each once, with its last state, worst first; and bars that know whom they count."""

import itertools
import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit import Audit, AuditModel, Samples
from pytest_cnnaudit.audits import every_sample
from pytest_cnnaudit.audits.every_sample import EVERY, counted, in_turn, with_tiles
from pytest_cnnaudit.engine import Part
from pytest_cnnaudit.questions.neighbours import NeighbourQuestions
from pytest_cnnaudit.results import Chart


def tiles_of(found):
    """The rows of the one exhibit of tiles."""
    (exhibit,) = [each for each in found.exhibits if getattr(each, "kind", "") == "samples"]
    assert found.exhibits[-1] is exhibit
    return exhibit.rows


def few(tiles):
    """At most so many tiles, so that some have to make room; and none left out for being few."""
    return patch.multiple(every_sample, TILES=tiles, _FEW=0)


def samples_of(images, labels=None, **options):
    return Samples.from_tensors(images, [0] * len(images) if labels is None else labels, **options)


def kept_tiles(ranks, images, size=4):
    """What is kept of each of several batches."""
    samples = samples_of(images)
    for batch in samples.batches(size):
        found = Part(batch.positions, {})
        yield with_tiles(found, batch, np.array(ranks)[batch.positions], lambda i: ("", {"label": "0"}))


# Which are kept ------------------------------------------------------------------------------------------------------


@given(
    ranks=st.lists(st.sampled_from([0.0, 0.25, 1.0, math.inf, math.nan]), min_size=1, max_size=17),
    tiles=st.integers(1, 8),
    data=st.data(),
)
def test_those_of_the_lowest_rank_are_kept_in_whatever_order_batches_come(ranks, tiles, data):
    images = torch.zeros(len(ranks), 1, 2, 2)
    with few(tiles):
        parts = list(kept_tiles(ranks, images))
        merged = parts[0]
        for part in parts[1:]:
            merged = merged.merge(part)
        shuffled, *others = data.draw(st.permutations(parts))
        for part in others:
            shuffled = shuffled.merge(part)
    ids = samples_of(images).ids
    worst = sorted(range(len(ranks)), key=lambda i: (-math.inf if math.isnan(ranks[i]) else ranks[i], i))[:tiles]
    for found in (merged, shuffled):
        assert [row.title for row in found.kept[EVERY].shown] == [ids[i] for i in worst]


@given(
    values=st.lists(st.tuples(st.integers(0, 2), st.just(0.0) | st.floats(1e-3, 1e4)), min_size=1, max_size=20),
)
def test_groups_come_in_turn_and_each_by_its_values(values):
    group, value = (np.array(each) for each in zip(*values, strict=True))
    rank = in_turn(*((group == each, value) for each in (2, 0)))
    assert np.isinf(rank[group == 1]).all()
    place = {2: 0, 0: 1, 1: 2}
    for one, other in itertools.permutations(range(len(values)), 2):
        if place[group[one]] < place[group[other]]:
            assert rank[one] < rank[other]
        elif group[one] == group[other] != 1 and value[one] < value[other]:
            assert rank[one] <= rank[other]
            if value[other] - value[one] > 1e-4 * value[other]:
                assert rank[one] < rank[other]


class TwoPixels(nn.Module):
    """The first pixel says how sure it is that the class is 0, the second turns it over."""

    def forward(self, images):
        sure, turned = images[:, 0, 0, 0], images[:, 0, 0, 1]
        return torch.stack([1 + sure, 5 * turned], 1)


def cascade_of(falls):
    """An audit, and attacks that fool whom they are given: −1 for whom none does, None for what is wrong as it is."""
    n = len(falls)
    images = torch.zeros(n, 1, 1, 2)
    images[:, 0, 0, 0] = torch.arange(n) / n
    samples = samples_of(images, [int(fall is None) for fall in falls], ids=[f"sample {each}" for each in range(n)])

    def attack(number):
        def attack(model, images, labels):
            found = images.clone()
            met = (images[:, 0, 0, 0] * n).round().long().tolist()
            found[:, 0, 0, 1] = torch.tensor([float(falls[each] == number) for each in met])
            return found

        attack.__name__ = f"attack {number}"
        return attack

    return lambda **options: Audit(AuditModel(TwoPixels()), samples, device="cpu", **options), attack


def expected(found, tiles):
    """Ids and statuses of the worst, from what is told of each sample."""
    each = found.per_sample
    order = []
    for i, name in enumerate(found.ids):
        if each["broken_by"][i] >= 0:
            order.append((0, each["perturbation"][i], i, name, "fooled"))
        elif not each["correct"][i]:
            order.append((1, 1 - each["clean_confidence"][i], i, name, "misclassified"))
        elif each["settled"][i]:
            order.append((2, each["adversarial_confidence"][i], i, name, "robust"))
        else:
            order.append((3, each["adversarial_confidence"][i], i, name, "spared"))
    return [(name, status) for *_, name, status in sorted(order)][:tiles]


@settings(max_examples=100)
@given(
    falls=st.lists(st.sampled_from([None, -1, -1, -1, 0, 1, 2]), min_size=1, max_size=14),
    attacks=st.integers(1, 3),
    at_least=st.sampled_from([None, 0.0, 0.2, 0.5, 0.8, 1.0]),
    tiles=st.integers(1, 10),
    batch_size=st.integers(1, 5),
)
def test_after_any_number_of_rounds_each_of_the_worst_is_told_once_as_it_ended(
    falls, attacks, at_least, tiles, batch_size
):
    audit, attack = cascade_of(falls)
    asked = audit(batch_size=batch_size)
    cascade = [attack(number) for number in range(attacks)]
    with few(tiles):
        try:
            if at_least is None:
                asked.attack(eps=1.0, attack=cascade)
            else:
                asked.assert_robust(eps=1.0, min_accuracy=at_least, attack=cascade)
        except AssertionError:
            pass
    (found,) = asked.measurements
    rows = tiles_of(found)
    assert [(row.title, row.status) for row in rows] == expected(found, tiles)
    for row in rows:
        if row.status == "fooled":
            number = found.per_sample["broken_by"][found.ids.index(row.title)]
            assert (row.figures["by"], row.figures["attacked"][:7]) == (f"attack {number}", "class 1")
        else:
            assert list(row.figures) == ["label", "prediction"]


def test_an_early_verdict_shows_who_was_spared_and_how_many_were_left_out():
    audit, attack = cascade_of([-1] * 20)
    asked = audit()
    asked.assert_robust(eps=1.0, min_accuracy=0.5, attack=[attack(0), attack(1)])
    rows = tiles_of(asked.measurements[0])
    assert [row.status for row in rows] == ["robust"] * 10 + ["spared"] * 10
    assert asked.measurements[0].exhibits[-1].text == "Every sample, worst first."
    assert not asked.measurements[0].complete
    audit, attack = cascade_of([0] * 20)
    asked = audit(batch_size=1)
    with pytest.raises(AssertionError):
        asked.assert_robust(eps=1.0, min_accuracy=0.7, attack=attack(0))
    assert [row.status for row in tiles_of(asked.measurements[0])] == ["fooled"] * 7
    assert asked.measurements[0].exhibits[-1].text == "7 of 20 samples, worst first."


@pytest.mark.parametrize("seed", range(2))
def test_in_random_order_each_that_was_met_is_told_once(seed):
    audit, attack = cascade_of([-1, 0] * 50)
    asked = audit(seed=seed)
    with pytest.raises(AssertionError):
        asked.assert_robust(eps=1.0, min_accuracy=0.95, attack=attack(0), confidence=0.9)
    (found,) = asked.measurements
    assert len(found.ids) < 100
    assert [(row.title, row.status) for row in tiles_of(found)] == expected(found, 512)


def test_more_than_fit_are_counted():
    audit, attack = cascade_of([-1] * 600)
    found = audit().attack(eps=1.0, attack=attack(0))
    assert len(tiles_of(found)) == 512
    assert found.exhibits[-1].text == "512 of 600 samples, worst first."


def test_few_samples_have_no_tiles(tiny_model, tiny_samples):
    audit = Audit(tiny_model, tiny_samples[:4], device="cpu")
    for found in (
        audit.attack(eps=0.1, attack="fgsm"),
        audit.min_perturbation("linf", steps=3),
        audit.robustness_curve(eps=[0.1]),
        audit.saliency("gradient"),
    ):
        assert [each for each in found.exhibits if getattr(each, "kind", "") == "samples"] == []
        for chart in (each for each in found.exhibits if isinstance(each, Chart)):
            assert chart.series[0].samples is None  # there is nothing to show for a click
            assert "Select" not in chart.text


# What a tile shows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "shown"), [((192, 96), (96, 48)), ((97, 200), (47, 96)), ((1000, 3), (96, 1))])
def test_a_large_image_is_averaged_over_areas(size, shown):
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    (part,) = kept_tiles([0.0, 1.0, 2.0], images)
    for row, image in zip(part.kept[EVERY].shown, images, strict=True):
        (picture,) = row.pictures
        assert picture.pixels.shape == (*shown, 3)
        assert (picture.form, picture.alt) == ("photo", row.title)
        assert picture.pixels.mean() == pytest.approx(float(image.mean()) * 255, abs=3)
        if size == (192, 96):
            blocks = image.view(3, 96, 2, 48, 2).mean((2, 4)).permute(1, 2, 0)
            np.testing.assert_allclose(picture.pixels, blocks * 255, atol=0.51)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_small_image_is_left_alone(channels):
    images = torch.rand(2, channels, 96, 7, generator=torch.Generator().manual_seed(0))
    (part,) = kept_tiles([0.0, 1.0], images)
    for row, image in zip(part.kept[EVERY].shown, images, strict=True):
        (picture,) = row.pictures
        seen = image if channels == 3 else image[:1].expand(3, -1, -1)
        np.testing.assert_array_equal(picture.pixels, (seen * 255).round().permute(1, 2, 0))
        assert picture.form == "lossless"
        assert picture.pixels.base is None  # or the whole batch would stay in memory


# Each audit's --------------------------------------------------------------------------------------------------------


def test_the_tiles_of_an_attack(tiny):
    found = tiny.attack(eps=0.12, attack="fgsm")
    rows = tiles_of(found)
    assert [(row.title, row.status) for row in rows] == expected(found, 8)
    assert {row.status for row in rows} == {"fooled", "robust"}
    label = tiny.model.class_name(tiny.samples[int(rows[0].title)].label)
    assert list(rows[0].figures) == ["label", "prediction", "attacked", "‖δ‖", "by"]
    assert rows[0].figures["label"] == label
    assert rows[0].figures["prediction"].startswith(f"{label} 0.")
    assert not rows[0].figures["attacked"].startswith(label)
    assert (rows[0].figures["‖δ‖"], rows[0].figures["by"]) == ("30.6/255", "fgsm")


def test_smallest_perturbations_come_first_and_what_is_wrong_as_it_is_before_them(tiny_model, tiny_samples):
    images = torch.stack([sample.image for sample in tiny_samples])
    audit = Audit(tiny_model, samples_of(images, [0, 1, 2, 0, 0, 1, 2, 3]), device="cpu")  # the fourth is wrong
    found = audit.min_perturbation("linf", steps=5)
    rows, size = tiles_of(found), found.per_sample["perturbation"]
    assert [row.title for row in rows] == [found.ids[i] for i in np.argsort(size, kind="stable")]
    assert [row.status for row in rows] == ["misclassified"] + [""] * 7
    assert rows[1].figures["‖δ‖"] == f"{255 * float(np.sort(size)[1]):.3g}/255"


def test_a_curve_tells_where_each_sample_falls(tiny):
    eps = [0.03, 0.07, 0.12, 0.17]
    found = tiny.robustness_curve("linf", eps)
    falls = dict(zip(found.ids, found.per_sample["falls"].tolist(), strict=True))
    rows = tiles_of(found)
    assert [falls[row.title] for row in rows] == sorted(falls.values())
    for row in rows:
        radius = f"{255 * eps[falls[row.title]]:.3g}/255" if falls[row.title] < 4 else None
        assert (row.status, row.figures.get("falls at")) == ("fooled" if radius else "robust", radius)


@pytest.mark.parametrize("batch_size", [3, 8])
def test_misses_come_first_and_by_how_little_is_in_the_box(tiny_model, tiny_samples, batch_size):
    images = torch.stack([sample.image for sample in tiny_samples])
    boxes = [each.boxes[0] for each in tiny_samples]
    boxes = [boxes[0], boxes[0], boxes[0], boxes[3], boxes[4], None, boxes[6], boxes[0]]
    samples = samples_of(images, [each.label for each in tiny_samples], boxes=boxes)
    found = Audit(tiny_model, samples, device="cpu", batch_size=batch_size).saliency("gradient")
    each = found.per_sample
    order = sorted(range(8), key=lambda i: (not each["scored"][i], each["hit"][i], each["energy"][i], i))
    rows = tiles_of(found)
    assert [row.title for row in rows] == [found.ids[i] for i in order]
    assert [row.status for row in rows] == [
        "" if not each["scored"][i] else "hit" if each["hit"][i] else "miss" for i in order
    ]
    assert {"hit", "miss", ""} == {row.status for row in rows}
    assert list(rows[0].figures) == ["label", "prediction", "energy in box"]
    assert list(rows[-1].figures) == ["label", "prediction"]  # it has no box


def test_the_tiles_of_grids_show_what_is_in_the_cell(resnet20_model, cifar_samples):
    found = Audit(resnet20_model, cifar_samples[:40], device="cpu").saliency("gradient", grid=2)
    originals = {
        (sample.image * 255).round().byte().permute(1, 2, 0).numpy().tobytes() for sample in cifar_samples[:40]
    }
    rows = tiles_of(found)
    assert len(rows) == len(found.ids) > 4
    assert {row.pictures[0].pixels.tobytes() for row in rows} <= originals
    assert len({row.pictures[0].pixels.tobytes() for row in rows}) == len(rows)
    assert list(rows[0].figures) == ["label", "energy in cell"]


def test_neighbours_that_agree_least_come_first(resnet20_model, cifar_samples):
    samples = cifar_samples[:40]
    with few(30), patch("pytest_cnnaudit.audits.neighbours.TILES", 30):
        found = NeighbourQuestions(resnet20_model, samples, device="cpu", batch_size=7).neighbours(k=3)
    agree = found.per_sample["feature"]
    order = np.argsort(np.where(found.per_sample["scored"], agree, np.inf), kind="stable")[:30]
    rows = tiles_of(found)
    assert [row.title for row in rows] == [found.ids[i] for i in order]
    assert [row.figures["features agree"] for row in rows] == [f"{round(agree[i] * 3)} of 3" for i in order]
    for row, i in zip(rows, order, strict=True):
        np.testing.assert_array_equal(row.pictures[0].pixels, (samples[int(i)].image * 255).round().permute(1, 2, 0))
        nearest = found.nearest["feature"].positions[i, 0]
        assert row.status == ("hit" if found.per_sample["label"][nearest] == found.per_sample["label"][i] else "miss")
    assert found.exhibits[-1].text == "30 of 40 samples, worst first."


# Charts --------------------------------------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(0, 1, width=32) | st.just(math.inf), min_size=5, max_size=40),
    bins=st.integers(1, 24),
)
def test_every_sample_is_counted_in_exactly_one_bin(values, bins):
    values = np.array(values, dtype=np.float32)
    finite, endless = values[np.isfinite(values)], bool(np.isinf(values).any())
    top = float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
    edges, ids = np.linspace(0, top, bins + 1), [str(each) for each in range(len(values))]
    bars = counted(values, edges, ids, open_ended=endless)
    assert [len(each) for each in bars.samples] == list(bars.counts)
    assert sorted(itertools.chain(*bars.samples)) == sorted(ids)
    np.testing.assert_array_equal(bars.counts[:bins], np.histogram(finite, edges)[0])
    assert len(bars.counts) == bins + endless
    for place, names in enumerate(bars.samples):
        for name in names:
            value = values[int(name)]
            last = place == len(edges) - 2
            assert bars.edges[place] <= value and (value < bars.edges[place + 1] or last or endless)


@pytest.mark.parametrize("norm", ["linf", "l0"])
def test_the_histogram_of_perturbations_knows_its_samples(tiny, norm):
    found = tiny.min_perturbation(norm, steps=5)
    (bars,) = found.exhibits[0].series
    scale = 255 if norm == "linf" else 1
    size = dict(zip(found.ids, found.per_sample["perturbation"] * scale, strict=True))
    assert sorted(itertools.chain(*bars.samples)) == sorted(found.ids)
    for low, high, names in zip(bars.edges, bars.edges[1:], bars.samples, strict=False):
        assert all(low <= size[name] <= high for name in names)


def test_a_point_of_the_curve_knows_who_falls_there(tiny_model, tiny_samples):
    images = torch.stack([sample.image for sample in tiny_samples])
    audit = Audit(tiny_model, samples_of(images, [0, 1, 2, 0, 0, 1, 2, 3]), device="cpu")  # the fourth is wrong
    found = audit.robustness_curve("linf", [0.03, 0.07, 0.12, 0.17])
    (line,) = found.exhibits[0].series
    assert line.samples[0] == ["3"]
    told = set()
    for at, names in enumerate(line.samples[1:]):
        here = (found.per_sample["falls"] == at) & found.per_sample["correct"]
        assert names == [found.ids[i] for i in np.flatnonzero(here)]
    for y, names in zip(line.y, line.samples, strict=True):
        told |= set(names)
        assert y == 1 - len(told) / 8
    assert len(told) < 8  # the others never fall


def test_the_histogram_of_energies_knows_its_samples(tiny):
    found = tiny.saliency("gradient")
    chart = found.exhibits[-2]
    (bars,) = chart.series
    energy = dict(zip(found.ids, found.per_sample["energy"], strict=True))
    assert (len(bars.counts), bars.edges[0], bars.edges[-1]) == (20, 0, 1)
    assert sorted(itertools.chain(*bars.samples)) == sorted(found.ids)
    for low, high, names in zip(bars.edges, bars.edges[1:], bars.samples, strict=False):
        assert all(low <= energy[name] <= high + 1e-9 for name in names)
    assert chart.x_marks[0].at == np.median(found.per_sample["energy"])


# Forms, and early ends -----------------------------------------------------------------------------------------------


def test_what_the_model_sees_keeps_its_numbers_and_large_maps_are_for_the_eye(tiny_model, tiny_samples, tiny):
    rows = tiny.attack(eps=0.12, attack="fgsm").exhibits[0].rows
    assert [picture.form for picture in rows[0].pictures] == ["numbers", "numbers", "lossless", "lossless"]

    def forms(audit):
        (worst,) = [each for each in audit.saliency("gradient").exhibits if each.title == "Least on the object"]
        return [picture.form for picture in worst.rows[0].pictures]

    assert forms(tiny) == ["numbers", "lossless", "lossless"]
    images = torch.stack([sample.image for sample in tiny_samples]).repeat_interleave(9, 2).repeat_interleave(9, 3)
    large = samples_of(images, [each.label for each in tiny_samples], boxes=[(0, 0, 72, 72)] * 8)
    whole = AuditModel(nn.Sequential(nn.AvgPool2d(9), tiny_model.module).eval())
    assert forms(Audit(whole, large, device="cpu")) == ["numbers", "photo", "photo"]


def test_an_early_end_is_told_apart_from_a_complete_measurement(tiny_model, tiny_samples):
    audit = Audit(tiny_model, tiny_samples, device="cpu", batch_size=1)
    whole = (
        audit.min_perturbation("linf", steps=3),
        audit.saliency("gradient"),
        audit.saliency_faithfulness("gradient"),
    )
    assert [each.complete for each in whole] == [True] * 3
    early = (
        audit.assert_min_perturbation("linf", median=0.001, steps=3),
        audit.assert_saliency_localized("gradient", metric="energy_in_box", min_score=0.01),
    )
    assert all(len(each.ids) < 8 for each in early)
    assert [each.complete for each in early] == [False] * 2
