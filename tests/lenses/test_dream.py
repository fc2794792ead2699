"""DeepDream: what can be computed by hand, tiles, and nothing left behind."""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.dream import deep_dream
from pytest_cnnaudit.lenses.objectives import activity_objective
from pytest_cnnaudit.results import Cost

IMAGES = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.4 + 0.3
PLAIN = {"octaves": 1, "jitter": 0.0}


def energy(images):
    """Half the mean square of each pixel's distance to grey: local, with that distance for a slope."""
    return (images - 0.5).square().flatten(1).mean(1) / 2


def test_a_step_goes_along_the_gradient_divided_by_its_mean_magnitude():
    (dream,) = deep_dream(energy, IMAGES, steps=1, step_size=0.01, **PLAIN)
    slope = IMAGES - 0.5
    expected = IMAGES + 0.01 * slope / slope.abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(dream, expected, rtol=0, atol=1e-12)
    assert float((dream - IMAGES).abs().mean()) == pytest.approx(0.01)


def test_octaves_grow_to_the_full_size():
    dreams = deep_dream(energy, IMAGES, octaves=4, octave_scale=1.4, steps=1)
    sizes = [tuple(dream.shape[2:]) for dream in dreams]
    assert sizes == [(round(40 / 1.4**n), round(56 / 1.4**n)) for n in (3, 2, 1, 0)]
    assert sizes[-1] == (40, 56)
    small = deep_dream(energy, IMAGES[..., :2, :3], octaves=6, octave_scale=2, steps=1)
    assert [tuple(dream.shape[2:]) for dream in small] == [(1, 1)] * 3 + [(1, 1), (1, 2), (2, 3)]


def test_details_of_an_octave_are_enlarged_and_added_to_the_next():
    """A score that is even brightens each pixel by a step: after all octaves by all steps, and the image is whole."""
    dreams = deep_dream(lambda images: images.flatten(1).mean(1), IMAGES, octaves=3, steps=4, step_size=0.01)
    torch.testing.assert_close(dreams[-1], IMAGES + 3 * 4 * 0.01, rtol=0, atol=1e-9)


@pytest.mark.parametrize("tile", [512, 40, 23, 16, 7])
def test_tiles_give_the_gradient_of_the_whole_where_the_score_is_local(tile):
    whole = deep_dream(energy, IMAGES, octaves=2, steps=3, tile=512)
    tiled = deep_dream(energy, IMAGES, octaves=2, steps=3, tile=tile)
    for one, other in zip(whole, tiled, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_tiles_of_a_layer_are_nearly_the_whole():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 3, padding=1, dtype=torch.float64)
    objective = activity_objective(layer, [layer], [1.0])
    shapes = []

    def seen(images):
        shapes.append(tuple(images.shape[2:]))
        return objective(images)

    (whole,), (tiled,) = (deep_dream(seen, IMAGES, steps=1, tile=tile, **PLAIN) for tile in (64, 20))
    assert shapes == [(40, 56)] + [(20, 18), (20, 19), (20, 19)] * 2
    change, tiled_change = whole - IMAGES, tiled - IMAGES
    assert torch.cosine_similarity(change.flatten(1), tiled_change.flatten(1)).min() > 0.95
    within = (tiled_change / change)[:, :, 2:18, 2:16].flatten(1)  # of a tile: there the gradient is the whole's
    torch.testing.assert_close(within, within[:, :1].expand_as(within), rtol=1e-6, atol=0)
    assert not torch.allclose(tiled_change, change)


def test_the_jitter_is_taken_back():
    still, moved = (deep_dream(energy, IMAGES, octaves=2, steps=5, jitter=jitter) for jitter in (0.0, 0.3))
    torch.testing.assert_close(moved[-1], still[-1], rtol=0, atol=1e-12)


def test_the_jitter_follows_from_the_seed_and_is_as_large_as_its_share():
    corners = []

    def corner(images):
        corners.append(images[0, 0, 0, 0].item())
        return energy(images)

    # Of pixels that say where they are, the corner says how far the image was rolled.
    places = torch.arange(40 * 56, dtype=torch.float64).view(1, 1, 40, 56) / (40 * 56)
    settings = {"octaves": 1, "steps": 60, "step_size": 1e-9, "jitter": 0.1}
    deep_dream(corner, places, **settings)
    first = [round(value * 40 * 56) for value in corners]
    rows = {(place // 56 + 20) % 40 - 20 for place in first}
    columns = {(place % 56 + 28) % 56 - 28 for place in first}
    assert max(map(abs, rows)) == 4
    assert max(map(abs, columns)) in (5, 6)
    assert len(rows) > 5
    for seed, same in ((0, True), (1, False)):
        corners.clear()
        deep_dream(corner, places, seed=seed, **settings)
        assert ([round(value * 40 * 56) for value in corners] == first) == same


def test_images_dream_alone_and_are_left_as_they_were(tiny_net):
    net, before = tiny_net(), IMAGES.clone()
    objective = activity_objective(net, [net.conv2, net.conv1], [1.0, 0.5])
    state = torch.get_rng_state()
    together = deep_dream(objective, IMAGES, octaves=3, steps=3)
    for number in range(2):
        alone = deep_dream(objective, IMAGES[number : number + 1], octaves=3, steps=3)
        for one, both in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], both[number], rtol=0, atol=1e-12)
    assert torch.equal(IMAGES, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert objective(together[-1]).gt(objective(IMAGES)).all()
    assert all(0 <= dream.min() <= dream.max() <= 1 for dream in together)


def test_passes_are_counted_and_end_at_the_last_of_the_layers(tiny_net):
    net = tiny_net()
    ran = []
    net.linear.register_forward_hook(lambda *_: ran.append(1))
    with AuditModel(net).borrow() as model:
        deep_dream(activity_objective(model, [net.conv1], [1.0]), IMAGES, octaves=3, steps=4)
        assert model.cost == Cost(2 * 3 * 4, 2 * 3 * 4)
    assert not ran


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
def test_the_callers_modes_change_nothing(tiny_net, surrounding):
    net = tiny_net().requires_grad_(requires_grad=False)
    objective = activity_objective(net, [net.conv2], [1.0])
    expected = deep_dream(objective, IMAGES, octaves=2, steps=2)[-1]
    with surrounding():
        found = deep_dream(objective, IMAGES.clone(), octaves=2, steps=2)[-1]
    assert torch.equal(found, expected)
    assert not found.is_inference()


def test_a_score_without_a_slope_leaves_the_image():
    assert torch.equal(deep_dream(lambda images: (0 * images).flatten(1).sum(1), IMAGES, **PLAIN)[0], IMAGES)


def test_a_model_may_write_into_its_input():
    expected = deep_dream(energy, IMAGES, steps=2, **PLAIN)[0]
    found = deep_dream(lambda images: energy(images.mul_(1.0)), IMAGES, steps=2, **PLAIN)[0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda images: energy(images.detach()), "does not depend on the image"),
        (lambda images: torch.zeros(2, requires_grad=True) * 1, "does not depend on the image"),
        (lambda images: (images - images.detach()).sqrt().flatten(1).sum(1), "gradient of the layer's activity is not"),
    ],
)
def test_a_gradient_that_cannot_be_followed_is_an_error(objective, message):
    with pytest.raises(AuditError, match=message):
        deep_dream(objective, IMAGES)


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("octaves", 0, "a number of sizes, 1 or more"),
        ("octaves", 1.5, "a number of sizes"),
        ("octave_scale", 1, "a factor above 1"),
        ("octave_scale", float("nan"), "a factor above 1"),
        ("steps", 0, "a number of steps"),
        ("steps", "ten", "a number of steps"),
        ("step_size", 0, "a change above 0"),
        ("step_size", float("inf"), "a change above 0"),
        ("jitter", 1, "a share of the side"),
        ("jitter", -0.1, "a share of the side"),
        ("tile", 0, "a side in pixels"),
    ],
)
def test_what_does_not_do_is_said_with_what_would(setting, value, wanted):
    with pytest.raises(AuditError) as refused:
        deep_dream(energy, IMAGES, **{setting: value})
    assert str(refused.value).startswith(f"{setting}={value!r} does not do for DeepDream; give {wanted}")
