"""Insertion and deletion where the curves are known, and against a straightforward implementation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.faithfulness import (
    area_under,
    block_order,
    blurred,
    deletion_curve,
    faithfulness_curves,
    insertion_curve,
    moved,
    pixel_order,
    random_order,
    replaced_pixels,
)
from pytest_cnnaudit.results import Cost

COUNT, HEIGHT, WIDTH = 3, 6, 5
PIXELS = HEIGHT * WIDTH
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(COUNT, 3, HEIGHT, WIDTH, generator=GENERATOR, dtype=torch.float64)
TARGETS, SEEDS = torch.tensor([1, 0, 1]), torch.tensor([5, 3, 8])


class OnePixel(nn.Module):
    """Class 1 where one pixel is above 0.5."""

    def __init__(self, row, column):
        super().__init__()
        self.row, self.column = row, column

    def forward(self, images):
        score = 40 * (images[:, :, self.row, self.column].mean(1) - 0.5)
        return torch.stack([-score, score], 1)


class Linear(nn.Module):
    """The logit of class 1 is w·x, that of class 0 is 0."""

    def __init__(self):
        super().__init__()
        self.weight = torch.randn(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def forward(self, images):
        score = (images * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], 1)


def orders(count=1):
    return torch.stack([random_order(SEEDS, PIXELS, step=step) for step in range(count)])


@pytest.mark.parametrize("turn", [0, 7, PIXELS - 1])
def test_the_probability_falls_when_the_one_pixel_that_counts_has_its_turn(turn):
    images = torch.ones(1, 3, HEIGHT, WIDTH)
    order = [each for each in range(PIXELS) if each != 2 * WIDTH + 3]
    order.insert(turn, 2 * WIDTH + 3)
    order = torch.tensor([order])
    model = OnePixel(2, 3)
    deletion = deletion_curve(model, images, torch.tensor([1]), order, steps=PIXELS, baseline=0.0)[0]
    expected = (torch.arange(PIXELS + 1) <= turn).float()
    torch.testing.assert_close(deletion, expected, rtol=0, atol=1e-6)
    assert area_under(deletion, PIXELS).item() == pytest.approx((turn + 0.5) / PIXELS)
    images[:, :, 2, 3] = 0  # class 0, and all around it is bright
    insertion = insertion_curve(model, images, torch.tensor([0]), order, steps=PIXELS, sigma=2.0)[0]
    torch.testing.assert_close(insertion, 1 - expected, rtol=0, atol=1e-3)


def test_of_a_linear_model_the_curve_is_known_and_no_order_is_better_than_the_true_one():
    model, baseline = Linear(), 0.5
    parts = (model.weight * (IMAGES - baseline)).sum(1)  # what each pixel adds to the logit
    signs = torch.where(TARGETS == 1, 1.0, -1.0).double()
    true = pixel_order(parts * signs[:, None, None], SEEDS)
    curve = deletion_curve(model, IMAGES, TARGETS, true, steps=PIXELS, baseline=baseline)
    gone = torch.cat([torch.zeros(COUNT, 1).double(), parts.flatten(1).gather(1, true).cumsum(1)], 1)
    expected = torch.sigmoid(signs[:, None] * (model(IMAGES)[:, 1:] - gone))
    torch.testing.assert_close(curve, expected)

    def areas(order):
        found = faithfulness_curves(model, IMAGES, TARGETS, order[None], steps=PIXELS, baseline=baseline)
        return area_under(found.deletion[0], PIXELS)

    best, worst = areas(true), areas(true.flip(1))
    assert (best < worst).all()
    for order in orders(20):
        assert (best <= areas(order)).all()
        assert (areas(order) <= worst).all()


def straightforward(model, image, target, order, steps, start, end):
    """One image after the other, one pixel after the other."""
    found = []
    for step in range(steps + 1):
        shown = start.clone()
        for pixel in order[: step * PIXELS // steps].tolist():
            shown[:, pixel // WIDTH, pixel % WIDTH] = end[:, pixel // WIDTH, pixel % WIDTH]
        found.append(model(shown[None]).softmax(1)[0, target].item())
    return found


@pytest.mark.parametrize("steps", [1, 4, 7, PIXELS])
@pytest.mark.parametrize("baseline", [0.3, torch.tensor([0.1, 0.5, 0.9]).double()[:, None, None]])
def test_curves_are_those_of_a_straightforward_implementation(tiny_net, steps, baseline):
    net, both = tiny_net(), orders(2)
    found = faithfulness_curves(net, IMAGES, TARGETS, both, steps=steps, baseline=baseline, sigma=0.8)
    assert found.deletion.shape == found.insertion.shape == (2, COUNT, steps + 1)
    for number, image in enumerate(IMAGES):
        blank = torch.zeros_like(image) + baseline
        dim = torch.from_numpy(
            np.stack([gaussian_filter(channel, 0.8, mode="nearest", radius=2) for channel in image.numpy()])
        )
        torch.testing.assert_close(blurred(image[None], 0.8)[0], dim)
        for place, order in enumerate(both[:, number]):
            target = TARGETS[number]
            expected = straightforward(net, image, target, order, steps, image, blank)
            assert found.deletion[place, number].tolist() == pytest.approx(expected, abs=1e-12)
            expected = straightforward(net, image, target, order, steps, dim, image)
            assert found.insertion[place, number].tolist() == pytest.approx(expected, abs=1e-12)
    alone = deletion_curve(net, IMAGES, TARGETS, both[1], steps=steps, baseline=baseline)
    torch.testing.assert_close(alone, found.deletion[1])
    alone = insertion_curve(net, IMAGES, TARGETS, both[1], steps=steps, sigma=0.8)
    torch.testing.assert_close(alone, found.insertion[1])


@pytest.mark.parametrize(("known", "passes"), [(False, 3 + 4 * 4), (True, 2 + 4 * 4)])
def test_ends_that_curves_share_are_paid_once(tiny_net, known, passes):
    with AuditModel(tiny_net()).borrow() as model:
        intact = model(IMAGES).softmax(1).gather(1, TARGETS[:, None])[:, 0] if known else None
        before = model.cost
        found = faithfulness_curves(model, IMAGES, TARGETS, orders(2), steps=5, intact=intact)
        assert model.cost - before == Cost(COUNT * passes, 0)
        assert torch.equal(found.deletion[..., 0], found.insertion[..., -1])


@given(at_once=st.integers(1, 40), steps=st.integers(1, 6))
def test_how_many_images_go_at_once_changes_nothing(tiny_net, at_once, steps):
    sizes = []
    net = tiny_net()
    handle = net.register_forward_hook(lambda _model, inputs, _logits: sizes.append(len(inputs[0])))
    expected = faithfulness_curves(net, IMAGES, TARGETS, orders(2), steps=steps)
    sizes.clear()
    found = faithfulness_curves(net, IMAGES, TARGETS, orders(2), steps=steps, at_once=at_once)
    handle.remove()
    assert max(sizes) <= at_once
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_batch_mates_change_nothing(tiny_net):
    net = tiny_net()
    together = faithfulness_curves(net, IMAGES, TARGETS, orders(2), steps=4)
    for each in range(COUNT):
        alone = faithfulness_curves(net, IMAGES[[each]], TARGETS[[each]], orders(2)[:, [each]], steps=4)
        torch.testing.assert_close(alone.deletion[:, 0], together.deletion[:, each], rtol=0, atol=1e-12)
        torch.testing.assert_close(alone.insertion[:, 0], together.insertion[:, each], rtol=0, atol=1e-12)
    maps = IMAGES.mean(1).round(decimals=1)
    assert torch.equal(pixel_order(maps[[2, 0]], SEEDS[[2, 0]]), pixel_order(maps, SEEDS)[[2, 0]])
    assert torch.equal(moved(maps[[2, 0]], SEEDS[[2, 0]]), moved(maps, SEEDS)[[2, 0]])


def test_the_largest_value_comes_first_and_every_pixel_once():
    maps = IMAGES.mean(1)
    order = pixel_order(maps, SEEDS)
    values = maps.flatten(1).gather(1, order)
    assert torch.equal(values, values.sort(1, descending=True).values)
    assert torch.equal(order.sort(1).values, torch.arange(PIXELS).expand(COUNT, -1))


def test_pixels_of_one_value_come_in_a_fair_order_that_follows_from_the_seed():
    """Half of the map is tied: each of its pixels is the first of them as often as any other."""
    maps = torch.zeros(4000, 4, 4)
    maps[:, :2] = 1
    order = pixel_order(maps, torch.arange(4000))
    assert (order[:, :8] < 8).all()
    for turn in (0, 7, 8, 15):
        counts = torch.bincount(order[:, turn], minlength=16)
        drawn = counts[counts > 0]
        assert len(drawn) == 8
        assert (drawn - 500).abs().max() < 110  # five standard deviations
    assert torch.equal(order[:5], pixel_order(maps[:5], torch.arange(5)))
    assert not torch.equal(order[:5], pixel_order(maps[:5], torch.arange(5), step=1))


def test_a_moved_map_is_the_map_at_another_place():
    maps = torch.zeros(4000, 4, 6)
    maps[:, 1, 2], maps[:, 1, 3] = 2, 1
    found = moved(maps, torch.arange(4000))
    assert torch.equal(found.flatten(1).sort(1).values, maps.flatten(1).sort(1).values)
    top = found.flatten(1).argmax(1)
    assert (torch.bincount(top, minlength=24) - 4000 / 24).abs().max() < 65  # everywhere, five standard deviations
    beside = top // 6 * 6 + (top + 1) % 6
    assert (found.flatten(1).gather(1, beside[:, None]) == 1).all()


def test_blocks_are_replaced_one_after_the_other():
    order = block_order(SEEDS, (6, 9), cells=3)
    cell = order // 9 // 2 * 3 + order % 9 // 3
    for cells in cell.view(COUNT, 9, 6):
        assert (cells == cells[:, :1]).all()
        assert len(cells[:, 0].unique()) == 9
    assert len({tuple(each) for each in order.tolist()}) == COUNT


@given(pixels=st.integers(1, 60), data=st.data())
def test_steps_replace_all_pixels_as_evenly_as_may_be(pixels, data):
    steps = data.draw(st.integers(1, pixels))
    counts = replaced_pixels(steps, pixels)
    assert (counts[0], counts[-1]) == (0, pixels)
    assert set(counts.diff().tolist()) <= {pixels // steps, -(-pixels // steps)}
    assert area_under(counts.double() / pixels, pixels).item() == pytest.approx(0.5)


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_it_works_under_the_callers_grad_mode(tiny_net, caller):
    expected = faithfulness_curves(tiny_net(), IMAGES, TARGETS, orders(), steps=3)
    with caller():
        found = faithfulness_curves(tiny_net(), IMAGES.clone(), TARGETS.clone(), orders(), steps=3)
    assert torch.equal(found.insertion, expected.insertion)
    assert not expected.deletion.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"steps=0 does not fit images of 6×5; give 1 to 30"),
        ({"steps": 31}, "steps=31"),
        ({"sigma": 0.0}, r"sigma=0\.0 blurs nothing"),
        ({"baseline": torch.zeros(7)}, "baseline of shape"),
        ({"orders": torch.zeros(1, 3, 29).long()}, r"order of shape \(3, 29\) does not fit 3 images of 6×5"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny_net, options, message):
    options = {"steps": 3, "orders": orders(), **options}
    with pytest.raises(AuditError, match=message):
        faithfulness_curves(tiny_net(), IMAGES, TARGETS, **options)
