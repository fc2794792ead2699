import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.draws import draw
from pytest_cnnaudit.lenses.rise import random_masks, rise
from pytest_cnnaudit.results import Cost

IMAGES, TARGETS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])


def test_masks_are_the_papers_by_an_independent_interpolation():
    """A grid of cells, upsampled to one cell more than the image, cut out at an offset of up to a cell."""
    size, cells, seed, step = (10, 17), 3, 5, 2
    found = random_masks(torch.tensor([seed]), torch.tensor([step]), size, cells=cells, p=0.4)[0, 0]
    numbers = draw(torch.tensor([seed]), torch.tensor([step]), 2 + cells**2)[0].double().numpy()
    grid = (numbers[2:] < 0.4).reshape(cells, cells).astype(float)
    assert 0 < grid.sum() < 9

    def resized(values, axis, cell):  # linear between the centres of the cells, constant beyond the first and last
        larger = (cells + 1) * cell
        places = (np.arange(larger) + 0.5) * cells / larger - 0.5
        return np.apply_along_axis(lambda line: np.interp(places, np.arange(cells), line), axis, values)

    cell = [4, 6]
    whole = resized(resized(grid, 0, cell[0]), 1, cell[1])
    top, left = (int(numbers[axis] * cell[axis]) for axis in (0, 1))
    torch.testing.assert_close(
        found.double(), torch.from_numpy(whole[top : top + 10, left : left + 17]), rtol=0, atol=1e-6
    )


def test_masks_differ_by_seed_and_step_and_show_a_share_p():
    seeds, steps = torch.arange(40).repeat_interleave(25), torch.arange(25).repeat(40)
    masks = random_masks(seeds, steps, (21, 28), cells=7, p=0.3)
    assert masks.shape == (1000, 1, 21, 28)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert float(masks.mean()) == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(masks.mean(0), torch.full((1, 21, 28), 0.3), rtol=0, atol=0.06)  # everywhere
    assert len(masks.flatten(1).unique(dim=0)) == 1000


@pytest.mark.parametrize("centred", [True, False])
def test_it_is_equation_6_over_all_masks(tiny_net, centred):
    net, images, seeds = tiny_net(), IMAGES.double(), torch.tensor([4, 1, 9])
    found = rise(net, images, TARGETS, masks=12, cells=3, p=0.4, seeds=seeds, centred=centred)
    for image, target, seed, map_ in zip(images, TARGETS, seeds, found, strict=True):
        masks = random_masks(seed.repeat(12), torch.arange(12), (8, 8), cells=3, p=0.4).double()
        sure = net(image * masks).softmax(1)[:, target].detach()
        if centred:
            sure = sure - sure.mean()
        torch.testing.assert_close(map_, (sure[:, None, None, None] * masks).sum(0) / (0.4 * 12))


class Corner(nn.Module):
    """Class 1 is bright in the upper left corner."""

    def forward(self, images):
        score = 8 * images[:, :, :4, :4].mean((1, 2, 3)) - 2
        return torch.stack([-score, score], 1)


def test_it_finds_what_counts_and_says_zero_where_nothing_does():
    images = torch.full((2, 3, 16, 16), 0.5)
    maps = rise(Corner(), images, torch.tensor([1, 0]), masks=800)[:, 0]
    spots = maps.flatten(1).abs().argmax(1)
    assert (spots // 16 < 4).all()
    assert (spots % 16 < 4).all()
    assert maps[0, :3, :3].min() > 0.05  # speaks for class 1,
    assert maps[1, :3, :3].max() < -0.05  # and against class 0
    assert maps[:, 9:, 9:].abs().max() < 0.04
    plain = rise(Corner(), images, torch.tensor([1, 0]), masks=800, centred=False)[:, 0]
    assert plain[:, 9:, 9:].min() > 0.3  # the mean of f
    torch.testing.assert_close(plain[0] + plain[1], (plain[0] + plain[1]).mean().expand(16, 16), rtol=0.2, atol=0)


def test_it_costs_a_forward_pass_a_mask_and_no_more_than_asked_at_once(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        sizes = []
        model.register_forward_hook(lambda _model, inputs, _logits: sizes.append(len(inputs[0])))
        rise(model, IMAGES, TARGETS, masks=7, at_once=4)
        assert model.cost == Cost(21, 0)
        assert max(sizes) <= 4


@pytest.mark.parametrize("options", [{"masks": 0}, {"cells": 0}, {"p": 0.0}, {"p": 1.0}])
def test_what_makes_no_sense_is_refused(tiny_net, options):
    with pytest.raises(AuditError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        rise(tiny_net(), IMAGES, TARGETS, **options)
