"""Does a model look at the object? With models that look at a known place, and with real ones."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.lenses.methods import METHODS

CORNER, OPPOSITE = (0, 0, 5, 5), (11, 11, 16, 16)


class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        mask = torch.zeros(16, 16)
        mask[:4, :4] = 1
        self.register_buffer("mask", mask)

    def forward(self, maps):
        return maps * self.mask


class LooksAtTheCorner(nn.Module):
    """Sees the upper left 4×4 pixels only; class 1 is bright."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)
        self.mask = Mask()
        self.linear = nn.Linear(5, 2)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 3)
            self.conv.bias.zero_()
            self.linear.weight.copy_(torch.tensor([[0.5], [1.0]]).expand(2, 5))
            self.linear.bias.copy_(torch.tensor([0.05, 0.0]))

    def forward(self, images):
        return self.linear(self.mask(self.conv(images).relu()).mean((2, 3)))


@pytest.fixture
def images():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25


@pytest.fixture
def corner_audit(images):
    def make(boxes=None, *, labels=(0, 1, 0, 1, 0, 1), batch_size=None, **places):
        samples = Samples.from_tensors(images, list(labels), boxes=boxes, **places)
        return Audit(AuditModel(LooksAtTheCorner().eval()), samples, device="cpu", batch_size=batch_size)

    return make


@pytest.mark.parametrize("method", ["grad_cam", "gradient"])
@pytest.mark.parametrize(("box", "score"), [(CORNER, 1), (OPPOSITE, 0)])
def test_a_model_that_looks_at_the_corner_is_found_out(corner_audit, method, box, score):
    found = corner_audit([box] * 6).saliency(method)
    assert found.pointing_game == score
    assert found.energy_in_box == pytest.approx(score)
    assert found.per_sample["hit"].tolist() == [bool(score)] * 6
    assert found.centre_point == 0
    assert found.chance == pytest.approx(25 / 256)


@pytest.mark.parametrize("metric", ["pointing_game", "energy_in_box"])
def test_the_named_assertion_passes_and_fails_with_its_story(corner_audit, metric):
    assert getattr(corner_audit([CORNER] * 6).assert_saliency_localized(metric=metric, min_score=0.9), metric) >= 0.9
    name = metric.replace("_", " ")
    with pytest.raises(
        AssertionError,
        match=rf"^assert {name} 0\.00 \(95% CI .*\) >= 0\.90\n  method grad_cam, layer mask; target label",
    ):
        corner_audit([OPPOSITE] * 6).assert_saliency_localized(metric=metric, min_score=0.9)


def test_masks_are_as_good_as_boxes(corner_audit):
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:5, :5] = True
    by_mask, by_box = corner_audit(masks=[mask] * 6).saliency(), corner_audit([CORNER] * 6).saliency()
    for name, values in by_box.per_sample.items():
        np.testing.assert_array_equal(by_mask.per_sample[name], values)


def test_several_boxes_are_one_region(corner_audit):
    found = corner_audit([[OPPOSITE, CORNER]] * 6).saliency()
    assert found.pointing_game == 1
    assert found.chance == pytest.approx(50 / 256)


def test_samples_without_boxes_are_counted_and_not_scored(corner_audit):
    found = corner_audit([CORNER, None, OPPOSITE, None, CORNER, CORNER]).saliency()
    assert (found.pointing_game.count, found.pointing_game.n) == (3, 4)
    assert found.energy_in_box.n == 4
    assert found.per_sample["scored"].tolist() == [True, False, True, False, True, True]
    assert "2 of 6 samples have no box or mask left in the picture, and are not scored." in found.notes


def test_boxes_on_later_samples_are_enough(corner_audit):
    found = corner_audit([None, CORNER, CORNER, CORNER, CORNER, CORNER]).assert_saliency_localized(
        metric="pointing_game", min_score=0.9
    )
    assert found.pointing_game.n == 5


def test_constant_maps_point_nowhere(corner_audit):
    found = corner_audit([CORNER] * 6).saliency(lambda model, images, targets: torch.ones(len(images), 1, 16, 16))
    assert found.pointing_game == 0
    assert any("6 maps are constant" in note for note in found.notes)


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (3, 16, 16), (4, 4)])
def test_any_callable_is_a_method(corner_audit, shape):
    def points_at_the_corner(model, images, targets, *, strength):
        maps = torch.zeros(len(images), *shape)
        maps[..., 0, 0] = strength
        return maps

    found = corner_audit([CORNER] * 6).saliency(points_at_the_corner, strength=2)
    assert found.pointing_game == 1
    assert found.settings["method"] == "points_at_the_corner"


def test_the_explained_class_is_the_label_the_prediction_or_one_given(corner_audit):
    audit, asked = corner_audit([CORNER] * 6), []

    def remembers(model, images, targets):
        asked[:] = targets.tolist()
        return images

    audit.saliency(remembers)
    assert asked == [0, 1, 0, 1, 0, 1]
    audit.saliency(remembers, target="predicted")
    with torch.no_grad():
        said = audit.model(torch.stack([sample.image for sample in audit.samples])).argmax(1)
    assert asked == said.tolist() != [0, 1, 0, 1, 0, 1]
    audit.saliency(remembers, target=1)
    assert asked == [1] * 6


@pytest.mark.parametrize(
    ("min_score", "passes", "measured"), [(0.3, True, 2), (0.9, False, 4), (0.6, True, 5), (0.0, True, 1)]
)
def test_an_assertion_stops_exactly_when_its_verdict_is_decided(corner_audit, min_score, passes, measured):
    audit = corner_audit([CORNER, CORNER, CORNER, OPPOSITE, CORNER, CORNER], batch_size=1)
    assert len(audit.saliency().ids) == 6
    try:
        audit.assert_saliency_localized(metric="pointing_game", min_score=min_score)
        assert passes
    except AssertionError as error:
        assert not passes, error
    assert len(audit.measurements[-1].ids) == measured


def test_an_early_verdict_is_the_full_verdict_with_samples_that_are_not_scored(corner_audit):
    for boxes in ([OPPOSITE, None, CORNER, None, CORNER, OPPOSITE], [CORNER, CORNER, None, None, None, OPPOSITE]):
        for tenths in range(11):
            audit = corner_audit(boxes, batch_size=1)
            full = float(audit.saliency().pointing_game) >= tenths / 10
            try:
                audit.assert_saliency_localized(metric="pointing_game", min_score=tenths / 10)
                early = True
            except AssertionError:
                early = False
            assert early == full, (boxes, tenths)


def test_without_boxes_the_grid_pointing_game_tells_trained_from_random(resnet20, resnet20_model, cifar_samples):
    samples = cifar_samples[:120]
    trained = Audit(resnet20_model, samples, device="cpu").assert_saliency_localized()
    assert trained.settings["grid"] == "2×2"
    assert trained.grid_pointing_game == pytest.approx(0.7, abs=0.06)
    assert trained.chance == 0.25
    torch.manual_seed(0)
    random = Audit(AuditModel(type(resnet20)(20).eval()), samples, device="cpu")
    with pytest.raises(
        AssertionError, match="assert grid pointing game"
    ):  # or too few that are right for a single grid
        try:
            random.assert_saliency_localized()
        except AuditError as error:
            raise AssertionError("assert grid pointing game") from error


def test_random_features_under_a_trained_head_score_as_chance(resnet20, resnet20_model, cifar_samples):
    """The images are chosen by a model that knows them; the map is that of one that knows nothing."""
    torch.manual_seed(0)
    blind = type(resnet20)(20).eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (resnet20_model.mean, resnet20_model.std))

    def map_of_the_blind(model, images, targets):
        images = images.detach().requires_grad_()
        features = blind.layer3(blind.layer2(blind.layer1(blind.relu(blind.bn1(blind.conv1((images - mean) / std))))))
        weights = blind.linear.weight[targets]
        return (weights[:, :, None, None] * features).sum(1, keepdim=True).relu().detach()

    found = Audit(resnet20_model, cifar_samples[:120], device="cpu").saliency(map_of_the_blind, grid=2)
    assert found.grid_pointing_game == pytest.approx(0.25, abs=0.06)


def test_too_few_classes_for_a_grid_are_refused(resnet20_model, cifar_samples):
    labels = np.array([sample.label for sample in cifar_samples[:100]])
    cats = cifar_samples[np.flatnonzero(labels == 3)]
    with pytest.raises(AuditError, match="Give more samples"):
        Audit(resnet20_model, cats, device="cpu").saliency(grid=2)


@pytest.mark.parametrize("method", ["grad_cam", "gradient"])
def test_the_cost_is_what_passed_through_the_module(images, counting, method):
    module = counting(LooksAtTheCorner().eval())
    samples = Samples.from_tensors(images, [0, 1] * 3, boxes=[CORNER] * 6)
    options = {"layer": "module.mask"} if method == "grad_cam" else {}
    found = Audit(AuditModel(module), samples, device="cpu").saliency(method, **options)
    assert (found.cost.forward, found.cost.backward) == (module.forwards, module.backwards)
    assert found.cost.backward == 6


@pytest.mark.parametrize("options", [{}, {"method": "gradient"}, {"grid": 2}], ids=str)
def test_the_model_is_left_as_it_was(resnet20, resnet20_model, cifar_samples, untouched, options):
    check = untouched(resnet20.train())
    model = AuditModel(resnet20, mean=resnet20_model.mean, std=resnet20_model.std)
    boxes = None if "grid" in options else [(0, 0, 9, 9)] * 20
    images, labels = zip(*[(sample.image, sample.label) for sample in cifar_samples[:20]], strict=True)
    Audit(model, Samples.from_tensors(torch.stack(images), labels, boxes=boxes), device="cpu").saliency(**options)
    check()


def test_exhibits_show_image_map_and_overlay_with_hit_or_miss(corner_audit):
    _, worst, best, _, _ = corner_audit([CORNER, OPPOSITE] * 3).saliency().exhibits
    assert worst.columns == ("image", "map", "overlay")
    assert [row.status for row in worst.rows] == ["miss"] * 3 + ["hit"] * 3
    assert best.rows[0].status == "hit"
    assert len(worst.rows[0].pictures) == 3


@pytest.mark.parametrize("method", ["grad_cam", "gradient"])
def test_boxes_that_are_all_empty_are_an_error_for_the_assertion_too(corner_audit, method):
    with pytest.raises(AuditError, match=r"None of the 6 samples .* has a box or mask"):
        corner_audit([(3, 3, 3, 3)] * 6).assert_saliency_localized(method, metric="pointing_game", min_score=0.5)


def test_the_gradient_of_a_grey_image_is_scored_by_its_size_as_in_colour():
    class Grey(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.weight = torch.nn.Parameter(torch.randn(2, 64, generator=generator) / channels)

        def forward(self, images):
            return images.sum(1).flatten(1) @ self.weight.T

    grey = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    energy = [
        Audit(
            AuditModel(Grey(channels)),
            Samples.from_tensors(grey.expand(-1, channels, -1, -1), [0, 1, 0, 1], boxes=[(0, 0, 4, 4)] * 4),
            device="cpu",
        )
        .saliency("gradient")
        .energy_in_box
        for channels in (1, 3)
    ]
    assert energy[0] == pytest.approx(energy[1])


@pytest.mark.parametrize("method", ["grad_cam", "gradient"])
def test_images_that_the_model_does_not_take_are_named_by_their_shape(method):
    samples = Samples.from_tensors(torch.rand(2, 1, 8, 8), [0, 1], boxes=[(0, 0, 4, 4)] * 2)
    model = AuditModel(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 2)))
    with pytest.raises(AuditError, match=r"does not take images of 1×8×8: .*expected input"):
        Audit(model, samples, device="cpu").saliency(method)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_asked_for_by_its_name(corner_audit, method):
    """The maps of what it returns are scored, in words and in figures, whatever the batch size."""
    few = {"rise": {"masks": 20}, "smooth_grad": {"copies": 4}, "integrated_gradients": {"steps": 4}}.get(method, {})
    audit = corner_audit([CORNER] * 6)
    found = audit.saliency(method, **few)
    assert found.settings["method"] == method
    assert 0 <= found.energy_in_box <= 1
    assert ("layer" in found.settings) == METHODS[method].layer
    one_by_one = Audit(audit.model, audit.samples, device="cpu", batch_size=1).saliency(method, **few)
    np.testing.assert_allclose(one_by_one.per_sample["energy"], found.per_sample["energy"], atol=1e-5)


def test_what_a_method_draws_follows_from_the_seed_and_the_sample(corner_audit):
    first = corner_audit([CORNER] * 6)
    again = Audit(first.model, first.samples, device="cpu", batch_size=3)
    other = Audit(first.model, first.samples, device="cpu", seed=1)
    energies = [audit.saliency("rise", masks=10).per_sample["energy"] for audit in (first, again, other)]
    np.testing.assert_allclose(energies[0], energies[1], atol=1e-6)
    assert not np.allclose(energies[0], energies[2], atol=1e-6)


def test_an_attribution_of_captum_is_a_method(corner_audit):
    captum = pytest.importorskip("captum.attr")
    audit = corner_audit([CORNER] * 6)
    theirs, ours = audit.saliency(captum.Saliency), audit.saliency("gradient")
    np.testing.assert_allclose(theirs.per_sample["energy"], ours.per_sample["energy"], atol=1e-6)
    assert theirs.settings["method"] == "captum Saliency"


def test_a_callable_without_a_name_is_called_by_its_type(corner_audit):
    class Even:
        def __call__(self, model, images, targets):
            return torch.ones(len(images), *images.shape[2:])

    assert corner_audit([CORNER] * 6).saliency(Even()).settings["method"] == "Even"
