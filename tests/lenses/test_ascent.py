"""Gradient ascent: known maxima, each step by its formula, and images that do not know of one another."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses import regularisers
from pytest_cnnaudit.lenses.ascent import ascend, start_images
from pytest_cnnaudit.lenses.fourier import Fourier
from pytest_cnnaudit.lenses.objectives import channel_objective, class_objective
from pytest_cnnaudit.lenses.recipes import RECIPES, Recipe, recipe_of
from pytest_cnnaudit.results import Cost


def uniform(*shape, seed=0, low=0.2, high=0.8):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


START = uniform(2, 3, 6, 8)
CENTRE = torch.tensor([0.4, 0.5, 0.6], dtype=torch.float64)
WEIGHTS = uniform(2, 3, 6, 8, seed=1, low=-1, high=1)
WEIGHTS += 0.2 * WEIGHTS.sign()  # none is nearly zero


def linear(images):
    return (WEIGHTS * images).flatten(1).sum(1)


def made(objective=linear, start=START, *, seed=0, **settings):
    return ascend(objective, start, recipe=Recipe(**settings), centre=CENTRE, seed=seed)


def towards(target):
    return lambda images: -(images - target).square().flatten(1).sum(1)


def unit(slope):
    return slope / slope.square().mean((1, 2, 3), keepdim=True).sqrt()


FOURIER = {"parametrisation": "fourier"}


# Known maxima


def test_a_linear_score_climbs_to_the_corner_of_the_cube():
    found = made(steps=200, rate=0.3)
    assert torch.equal(found.images, (WEIGHTS > 0).double())
    assert (found.scores.diff(dim=1) >= -1e-12).all()


@pytest.mark.parametrize("parametrisation", ["pixels", "fourier"])
def test_a_quadratic_score_climbs_to_its_maximum(parametrisation):
    target = uniform(2, 3, 6, 8, seed=2, low=0.3, high=0.7)
    found = made(towards(target), parametrisation=parametrisation, steps=300, rate=0.2)
    assert (found.images - target).abs().max() < 0.01
    assert found.scores[:, -1].min() > -0.01
    assert found.scores[:, 0].max() < -1


def test_a_linear_score_nearly_reaches_black_and_white_from_the_spectrum():
    found = made(steps=300, rate=0.3, **FOURIER)
    best = WEIGHTS.clamp(min=0).flatten(1).sum(1)
    assert (found.scores[:, -1] > 0.85 * best).all()
    assert (found.scores[:, 0] < 0.2 * best).all()


# Each step


def test_a_step_in_pixels_goes_along_the_gradient_divided_by_its_root_mean_square():
    expected = (START + 0.02 * unit(WEIGHTS)).clamp(0, 1)
    torch.testing.assert_close(made(steps=1, rate=0.02).images, expected, rtol=0, atol=1e-12)


def test_steps_fall_to_zero_evenly_and_scores_are_those_before_each():
    images, scores = START, []
    for share in (1, 3 / 4, 2 / 4, 1 / 4):
        scores.append(linear(images))
        images = (images + 0.02 * share * unit(WEIGHTS)).clamp(0, 1)
    found = made(steps=4, rate=0.02)
    torch.testing.assert_close(found.images, images, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.scores, torch.stack(scores, 1))


def test_steps_in_the_spectrum_are_adams():
    fourier = Fourier((6, 8), CENTRE)
    spectra = fourier.encode(START).requires_grad_()
    adam = torch.optim.Adam([spectra], lr=0.05, maximize=True)
    for step in range(5):
        adam.param_groups[0]["lr"] = 0.05 * (1 - step / 5)
        images = fourier.decode(spectra)
        (slope,) = torch.autograd.grad(towards(0.9)(images), images, torch.ones(2).double(), retain_graph=True)
        (spectra.grad,) = torch.autograd.grad(images, spectra, unit(slope))
        adam.step()
    found = made(towards(0.9), steps=5, rate=0.05, **FOURIER)
    torch.testing.assert_close(found.images, fourier.decode(spectra).detach(), rtol=0, atol=1e-9)


@given(power=st.integers(-36, 36), parametrisation=st.sampled_from(["pixels", "fourier"]))
def test_the_scale_of_the_score_changes_nothing(power, parametrisation):
    """In single precision, where squares of 1e-25 vanish and those of 1e25 overflow."""
    start = START.float()
    settings = {"steps": 2, "rate": 0.05, "parametrisation": parametrisation}
    expected = made(lambda images: linear(images.double()), start, **settings)
    found = made(lambda images: linear(images.double()) * 10.0**power, start, **settings)
    torch.testing.assert_close(found.images, expected.images, rtol=0, atol=1e-5)


# R(I)

QUADRATIC = towards(uniform(2, 3, 6, 8, seed=2))


def climbed(rate=0.05):
    slope = -2 * (START - uniform(2, 3, 6, 8, seed=2))
    return slope, (START + rate * unit(slope)).clamp(0, 1)


def test_l2_shrinks_towards_the_centre_colour_after_each_step():
    centre = CENTRE[:, None, None]
    expected = centre + 0.9 * (climbed()[1] - centre)
    torch.testing.assert_close(made(QUADRATIC, steps=1, l2=0.1).images, expected, rtol=0, atol=1e-12)


def test_l2_in_the_spectrum_shrinks_towards_the_centre_colour_as_well():
    plain, shrunk = (made(QUADRATIC, steps=1, rate=0.05, l2=l2, **FOURIER).images for l2 in (0.0, 0.1))
    fourier = Fourier((6, 8), CENTRE)
    torch.testing.assert_close(shrunk, fourier.decode(0.9 * fourier.encode(plain)), rtol=0, atol=1e-9)


def test_total_variation_goes_down_against_the_gradient():
    slope, _ = climbed()
    upwards = unit(slope) - 0.3 * regularisers.total_variation_slope(START)
    expected = (START + 0.05 * upwards).clamp(0, 1)
    torch.testing.assert_close(made(QUADRATIC, steps=1, tv=0.3).images, expected, rtol=0, atol=1e-12)


def test_a_centre_bias_weights_the_gradient_of_the_score():
    slope, _ = climbed()
    weights = regularisers.centred((6, 8), 0.2).double()
    expected = (START + 0.05 * unit(slope) * weights).clamp(0, 1)
    torch.testing.assert_close(made(QUADRATIC, steps=1, centre_bias=0.2).images, expected, rtol=0, atol=1e-9)


def test_clipping_follows_the_step():
    slope, images = climbed()
    centre = CENTRE[:, None, None]
    by_norm = made(QUADRATIC, steps=1, clip_norm=0.3, blur_every=1).images
    expected = regularisers.clip_small_norm(images, centre, 0.3)
    assert torch.equal(by_norm == centre, expected == centre)
    torch.testing.assert_close(by_norm, expected, rtol=0, atol=1e-12)

    # What a pixel contributes is by the gradient of the score alone, however the step was weighted.
    weighted = START + 0.05 * unit(slope) * regularisers.centred((6, 8), 0.2).double()
    by_contribution = made(QUADRATIC, steps=1, clip_contribution=0.3, blur_every=1, centre_bias=0.2).images
    expected = regularisers.clip_small_contribution(weighted, slope, centre, 0.3)
    assert torch.equal(by_contribution == centre, expected == centre)
    torch.testing.assert_close(by_contribution, expected, rtol=0, atol=1e-9)


def test_blur_goes_evenly_from_its_first_width_to_its_last(monkeypatch):
    widths, blur = [], regularisers.blur

    def remembers(images, sigma):
        widths.append(sigma)
        return blur(images, sigma)

    monkeypatch.setattr(regularisers, "blur", remembers)
    found = made(QUADRATIC, steps=5, blur=(2.0, 0.5), blur_every=1)
    assert widths == pytest.approx([2.0, 1.625, 1.25, 0.875, 0.5])
    torch.testing.assert_close(made(QUADRATIC, steps=1, blur=(2.0, 0.5), blur_every=1).images, blur(climbed()[1], 2.0))
    widths.clear()
    made(QUADRATIC, steps=9, blur=(2.0, 0.0), blur_every=4)
    assert widths == pytest.approx([2 * 5 / 8, 2 * 1 / 8])  # at the fourth and the eighth
    assert (found.images <= 1).all()


def test_the_score_is_of_moved_images_and_its_gradient_is_taken_back():
    """A score of one pixel, seen through jitter alone: pixel by pixel, each step raises where the pixel came from."""

    def corner(images):
        return images[:, 0, 0, 0]

    seen = made(corner, torch.full_like(START, 0.5), steps=1, rate=0.01, jitter=0.4, seed=3).images
    moves = torch.Generator().manual_seed(3)
    upwards = torch.zeros_like(START)
    upwards[:, 0, 0, 0] = (3 * 6 * 8) ** 0.5
    right, down, *_ = (2 * torch.rand(4, generator=moves, dtype=torch.float64) - 1).tolist()
    expected = 0.5 + 0.01 * upwards.roll((-round(0.4 * 6 * down), -round(0.4 * 8 * right)), (2, 3))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-12)
    assert round(0.4 * 6 * down) != 0 != round(0.4 * 8 * right)


def test_moves_go_on_from_step_to_step(monkeypatch):
    """Each step has other moves: one alone would not make an image robust."""
    moved = []
    wobble = regularisers.wobble

    def remembers(images, generator, **moves):
        found = wobble(torch.arange(48.0).view(1, 1, 6, 8), generator, **moves)
        moved.append(int(found.argmax()))
        return images

    monkeypatch.setattr(regularisers, "wobble", remembers)
    made(steps=20, jitter=0.4)
    first = moved.copy()
    assert len(set(first)) > 5
    moved.clear()
    made(steps=20, jitter=0.4, seed=0)
    assert moved == first
    moved.clear()
    made(steps=20, jitter=0.4, seed=1)
    assert moved != first


# Images do not know of one another, nor of their caller


@pytest.mark.parametrize("name", RECIPES)
def test_images_of_a_batch_are_what_they_would_be_alone(tiny_net, name):
    net = tiny_net()
    recipe = recipe_of(name, {"steps": 6})
    start = uniform(4, 3, 8, 8)
    classes = torch.tensor([2, 0, 3, 1])
    together = ascend(class_objective(net, classes), start, recipe=recipe, centre=CENTRE, seed=5)
    for each in range(4):
        objective = class_objective(net, classes[each : each + 1])
        alone = ascend(objective, start[each : each + 1], recipe=recipe, centre=CENTRE, seed=5)
        torch.testing.assert_close(alone.images[0], together.images[each], rtol=0, atol=1e-7)
        torch.testing.assert_close(alone.scores[0], together.scores[each], rtol=1e-6, atol=1e-7)


def test_one_seed_makes_the_same_images_and_takes_no_random_numbers_of_the_caller(tiny_net):
    objective = class_objective(tiny_net(), torch.tensor([0, 1]))
    state, start = torch.get_rng_state(), START.clone()
    first, again, other = (
        ascend(objective, START, recipe=RECIPES["olah"], centre=CENTRE, seed=seed).images for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(START, start)


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["olah", "nguyen"])
def test_the_callers_modes_and_frozen_weights_change_nothing(tiny_net, surrounding, name):
    net = tiny_net()
    objective = class_objective(net, torch.tensor([0, 1]))
    recipe = recipe_of(name, {"steps": 3})
    expected = ascend(objective, START, recipe=recipe, centre=CENTRE)
    net.requires_grad_(requires_grad=False)
    with surrounding():
        found = ascend(objective, START.clone(), recipe=recipe, centre=CENTRE.clone())
        assert torch.equal(found.images, expected.images)
    assert not found.images.is_inference()
    assert not found.images.requires_grad
    assert not found.scores.requires_grad


def test_a_model_may_write_into_its_input():
    def writes(images):
        return linear(images.mul_(1.0))

    torch.testing.assert_close(made(writes, steps=3).images, made(steps=3).images)
    # One channel, whose order in memory is that of channels last already, and without a slope: it is asked again.
    weights = WEIGHTS[:, :1]
    start = START[:, :1]

    def off(images):
        return (images.sub_(2.0).relu_() * weights).flatten(1).sum(1)

    recipe = Recipe(steps=2)
    found = ascend(off, start, recipe=recipe, centre=CENTRE[:1])
    assert not found.scores.any()
    assert (found.images[weights > 0] > start[weights > 0]).all()


# What is switched off


class Dead(nn.Module):
    """A ReLU that is off for images below 0.9: the plain gradient is zero."""

    def __init__(self, relu):
        super().__init__()
        self.relu, self.head = relu, nn.Linear(3, 2)
        nn.init.constant_(self.head.weight, 1.0)
        self.double()

    def forward(self, images):
        return self.head(self.relu(images - 0.9).amax((2, 3)))


@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), torch.relu, lambda x: x.clamp(min=0)])
@pytest.mark.parametrize("parametrisation", ["pixels", "fourier"])
def test_a_dead_start_climbs_and_what_that_takes_is_counted(relu, parametrisation, monkeypatch):
    with AuditModel(Dead(relu)).borrow() as model:
        objective = class_objective(model, torch.tensor([0, 1]))
        settings = {"steps": 30, "rate": 0.2, "parametrisation": parametrisation}
        found = made(objective, **settings)
        again = int((found.scores == found.scores[:, :1]).any(0)[:16].sum())  # steps before both images are on
        assert 1 <= again < 16
        assert model.cost == Cost(2 * (30 + again), 2 * (30 + again))
        assert (found.scores[:, -1] > found.scores[:, 0]).all()
        monkeypatch.setattr("pytest_cnnaudit.lenses.ascent._REDIRECTED", 0)
        still = made(objective, **settings)
        assert torch.equal(still.scores, still.scores[:, :1].expand_as(still.scores))
        torch.testing.assert_close(still.images, START, rtol=0, atol=1e-9)


def test_only_the_images_that_are_off_are_redirected():
    """The mates of a dead image keep their own gradient, also where a branch of it is dead."""
    alive = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def two_branches(images):
        return torch.relu(images - 0.9).flatten(1).sum(1) + (alive[: len(images)] * images[:, 0, 2, 3])

    both = made(two_branches, steps=1, rate=0.01).images
    alone = made(two_branches, START[:1], steps=1, rate=0.01).images
    assert torch.equal(both[0], alone[0])
    assert (both[0] != START[0]).nonzero().tolist() == [[0, 2, 3]]
    torch.testing.assert_close(both[1], START[1] + 0.01)


def test_where_nothing_leads_up_the_image_stays():
    found = made(lambda images: (0 * images).flatten(1).sum(1), steps=20, rate=0.5)
    assert torch.equal(found.images, START)


# Passes


@pytest.mark.parametrize("name", ["olah", "yosinski"])
def test_a_step_is_a_pass_forward_and_one_back_that_end_at_the_layer(tiny_net, name):
    net, ran = tiny_net(), []
    net.conv2.register_forward_hook(lambda *_: ran.append(1))
    with AuditModel(net).borrow() as model:
        objective = channel_objective(model, net.bn1, [0, 3])
        ascend(objective, START, recipe=recipe_of(name, {"steps": 9}), centre=CENTRE)
        assert model.cost == Cost(2 * 9, 2 * 9)
    assert not ran


def test_a_graph_does_not_live_on_into_the_next_pass():
    """In the first steps a graph is kept for a redirected pass; it must be gone before the next one is made."""
    import weakref

    kept = []

    def objective(images):
        assert not any(graph() is not None for graph in kept)
        score = linear(images)
        kept.append(weakref.ref(score))
        return score

    made(objective, steps=4)
    assert len(kept) == 4


# What cannot be climbed


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda images: linear(images.detach()), "does not depend on the image in a way that gradients can follow"),
        (lambda images: torch.zeros(2, requires_grad=True) * 1, "does not depend on the image"),
        (lambda images: (images - images.detach()).sqrt().flatten(1).sum(1), "gradient of the target's score is not"),
        (lambda images: linear(images) * torch.nan, "gradient of the target's score is not finite"),
    ],
)
@pytest.mark.parametrize("parametrisation", ["pixels", "fourier"])
def test_a_gradient_that_cannot_be_followed_is_an_error(objective, message, parametrisation):
    with pytest.raises(AuditError, match=message):
        made(objective, steps=3, parametrisation=parametrisation)


# Starts


@pytest.mark.parametrize("parametrisation", ["pixels", "fourier"])
def test_starts_are_equal_faint_and_of_the_centre_colour(parametrisation):
    recipe = Recipe(parametrisation=parametrisation)
    centre = CENTRE.float()
    noise = start_images("noise", 3, (64, 48), recipe=recipe, centre=centre, seed=1)
    assert noise.shape == (3, 3, 64, 48)
    assert torch.equal(noise[0], noise[2])
    assert ((noise >= 0) & (noise <= 1)).all()
    assert (noise[0].mean((1, 2)) - centre).abs().max() < 0.02
    assert 0.001 < noise.std(dim=(2, 3)).max() < 0.1
    assert torch.equal(start_images("noise", 1, (64, 48), recipe=recipe, centre=centre, seed=1)[0], noise[0])
    assert not torch.equal(start_images("noise", 1, (64, 48), recipe=recipe, centre=centre, seed=2)[0], noise[0])
    zero = start_images("zero", 2, (4, 5), recipe=recipe, centre=centre)
    assert torch.equal(zero, centre[:, None, None].expand(2, 3, 4, 5))


def test_noise_has_more_of_the_low_frequencies_in_the_spectrum_than_in_pixels():
    def roughness(parametrisation):
        recipe = Recipe(parametrisation=parametrisation)
        noise = start_images("noise", 1, (32, 32), recipe=recipe, centre=CENTRE.float())
        noise -= noise.mean((2, 3), keepdim=True)
        return float(noise.diff(dim=3).std() / noise.std())

    assert roughness("pixels") == pytest.approx(2**0.5, abs=0.1)  # white
    assert roughness("fourier") < 0.9
