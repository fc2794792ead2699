"""What a model wants to see: images for known networks, for real ones, and the story where there is nothing to see."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.tapped import fast_layer
from pytest_cnnaudit.lenses.recipes import RECIPES, Recipe
from pytest_cnnaudit.lenses.tap import up_to
from pytest_cnnaudit.results import Chart, Cost

PIXELS = Recipe(steps=40, rate=0.1)
QUADRANTS = [(slice(0, 8), slice(0, 8)), (slice(0, 8), slice(8, 16)), (slice(8, 16), slice(0, 8))]


class Net(nn.Module):
    """Of six channels the last is dead for every image there can be; the last class is dead as well."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.head = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Linear(6, 4)
        with torch.no_grad():
            self.conv.bias[:5], self.conv.bias[5] = 0.5, -100.0
            self.head.weight[3], self.head.bias[3] = 0.0, -9.0

    def forward(self, images):
        return self.head(self.relu(self.conv(images)).mean((2, 3)))


@pytest.fixture
def net():
    return Net().eval()


def asks(net, samples=None, **options):
    names = ("one", "two", "three", "four")
    return Audit(AuditModel(net, class_names=names, input_size=(10, 12)), samples, device="cpu", **options)


def logits(audit, found):
    return audit.model(torch.from_numpy(found.images)).detach()


# What is made


def test_a_class_of_a_known_network_is_its_quadrant(tiny):
    found = tiny.assert_visualizes(range(3), recipe=PIXELS)
    for image, quadrant in zip(found.images, QUADRANTS, strict=True):
        inside = np.zeros((16, 16), bool)
        inside[quadrant] = True
        assert image[:, inside].mean() > 0.95
        assert image[:, ~inside].mean() < 0.6  # the noise it started from
    assert found.reached == 1
    assert found.ids == ("top left", "top right", "bottom left")


@pytest.mark.parametrize("recipe", [each for each in RECIPES if each != "nguyen"])
def test_what_is_said_of_the_images_is_what_the_model_as_given_says(net, recipe):
    audit = asks(net)
    wanted = [2, ("relu", 1), 0, ("conv", 4, (3, 2)), ("head", 1)]
    found = audit.visualize(wanted, recipe=recipe, steps=12)
    assert found.images.shape == (5, 3, 10, 12)
    assert found.images.dtype == np.float32
    assert 0 <= found.images.min() < found.images.max() <= 1
    said, images = logits(audit, found), torch.from_numpy(found.images)
    maps = net.conv(images).detach()
    score = [said[0, 2], maps[1, 1].relu().mean(), said[2, 0], maps[3, 4, 3, 2], said[4, 1]]
    np.testing.assert_allclose(found.per_sample["score"], score, atol=1e-5)
    assert found.per_sample["prediction"].tolist() == said.argmax(1).tolist()
    sure = found.per_sample["confidence"]
    assert np.isnan(sure).tolist() == [False, True, False, True, True]
    np.testing.assert_allclose(sure[[0, 2]], said.softmax(1)[[0, 2], [2, 0]], atol=1e-6)
    assert found.per_sample["trace"].shape == (5, 12)
    assert (found.per_sample["score"] > found.per_sample["trace"][:, 0]).all()
    assert found.score == found.per_sample["score"].min()
    assert found.confidence == np.nanmin(sure)
    assert (found.score.n, found.confidence.n, found.reached.n) == (5, 2, 2)


def test_targets_of_a_batch_are_what_they_would_be_alone(net):
    wanted = [2, ("relu", 1), 0, ("relu", 3), ("conv", 4, (3, 2)), 1]
    together = asks(net).visualize(wanted, steps=10)
    by_two = asks(net, batch_size=2).visualize(wanted, steps=10)
    np.testing.assert_allclose(by_two.images, together.images, atol=1e-3)
    for place, target in enumerate(wanted):
        alone = asks(net).visualize(target, steps=10)
        np.testing.assert_allclose(alone.images[0], together.images[place], atol=1e-3)
        np.testing.assert_allclose(alone.per_sample["trace"][0], together.per_sample["trace"][place], atol=1e-3)


def test_the_seed_makes_the_images(net):
    first, again, other, elsewhere = (
        asks(net, seed=seed, scope=scope).visualize(0, steps=4).images
        for seed, scope in ((0, ""), (0, ""), (1, ""), (0, "another test"))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert np.abs(first - elsewhere).max() > 0.01


def test_only_neurons_have_the_smaller_moves(net):
    audit = asks(net)
    found = audit.visualize([0, ("conv", 1, (2, 2))], steps=5)
    assert found.settings["jitter"] == "0.125 or 0.03"
    assert found.settings["steps"] == "5"
    alone = audit.visualize(("conv", 1, (2, 2)), recipe="olah-neuron", steps=5)
    np.testing.assert_allclose(found.images[1], alone.images[0], atol=1e-4)
    assert audit.visualize(0, steps=5).settings["jitter"] == "0.125"


@pytest.mark.parametrize("recipe", ["olah", "plain"])
def test_a_class_with_samples_may_start_from_their_mean(net, recipe):
    images = torch.rand(6, 3, 14, 10, generator=torch.Generator().manual_seed(0))
    audit = asks(net, Samples.from_tensors(images, [0, 0, 1, 1, 1, 0]))
    still = {"recipe": recipe, "steps": 1, "rate": 1e-9, "start": "mean"}
    if recipe == "olah":
        still |= {"jitter": 0, "scale": (1, 1), "rotate": 0}
    found = audit.visualize([1, 2, ("conv", 0)], **still).images
    for image, chosen in zip(found, ([2, 3, 4], range(6), range(6)), strict=True):
        mean = images[list(chosen)].mean(0, keepdim=True)
        expected = nn.functional.interpolate(mean, (10, 12), mode="bilinear", antialias=True)[0]
        np.testing.assert_allclose(image, expected, atol=1e-4)


def test_images_to_start_from_may_be_given(net):
    audit = asks(net)
    images = torch.rand(2, 3, 10, 12, generator=torch.Generator().manual_seed(0))
    still = {"recipe": "plain", "steps": 1, "rate": 1e-9}
    found = audit.visualize([0, 1], start=images, **still)
    np.testing.assert_allclose(found.images, images, atol=1e-6)
    assert found.settings["start"] == "as given"
    one = audit.visualize([0, 1], start=(images[0] * 255).round().byte(), **still)
    np.testing.assert_allclose(one.images, images[[0, 0]], atol=0.5 / 255 + 1e-6)
    grey = audit.visualize([0], start="zero", **still)
    np.testing.assert_allclose(grey.images, 0.5, atol=1e-6)
    assert grey.settings["start"] == "zero"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("black", "start='black' does not do for gradient ascent; give 'noise', 'zero', 'mean', or images"),
        (torch.rand(3, 3, 10, 12), r"start is a tensor of \(3, 3, 10, 12\); give one image .* each of the 2 targets"),
        (torch.rand(10, 12), r"start is a tensor of \(10, 12\)"),
        (torch.full((3, 10, 12), 1.5), r"start has values from 1\.5 to 1\.5; images are in \[0, 1\]"),
        (torch.full((3, 10, 12), torch.nan), "start has values from nan"),
        (np.zeros((3, 10, 12)), "start is a ndarray; give 'noise', 'zero', 'mean', or a tensor"),
        ("mean", "visualize needs samples for start='mean'"),
    ],
)
def test_starts_that_do_not_do_are_refused(net, start, message):
    with pytest.raises(AuditError, match=message):
        asks(net).visualize([0, 1], start=start)


# Passes


def test_passes_are_counted_and_none_is_paid_for_twice(net):
    audit = asks(net)
    of_layers = audit.visualize([("conv", 0), ("conv", 1)], steps=7)
    # Is the layer there (two passes); do a model for many passes and its layer answer as those given, on both images;
    # and for both the steps, the layer's answer at the end, and what the model says then.
    assert of_layers.cost == Cost(2 + 2 * 2 + 2 * 2 + 2 * 7 + 2 + 2, 2 * 2 + 2 * 7)
    of_classes = audit.visualize([0, 1], steps=7)
    # A model for many passes is compared with the one as given on both images; the score is one of the logits.
    assert of_classes.cost == Cost(1 + 2 * 2 + 2 * 7 + 2, 2 * 2 + 2 * 7)


def test_redirected_passes_are_counted(net):
    found = asks(net).visualize([("relu", 0), ("relu", 5)], steps=20)
    assert found.cost == Cost(2 + 2 * 2 + 2 * 2 + 2 * (20 + 16) + 2 + 2, 2 * 2 + 2 * (20 + 16))


def test_the_network_is_stopped_at_the_layer(net):
    ran = []
    net.head.register_forward_hook(lambda *_: ran.append(1))
    asks(net).visualize(("conv", 0), steps=9)
    # Is it there, of how many classes, in which order are images fed (two), and what does the model say of the image?
    assert len(ran) == 5


# Verdicts


def test_a_dead_channel_is_found_with_its_story(net):
    audit = asks(net)
    with pytest.raises(AssertionError, match=r"^assert score 0\.00 \(n 2\) >= 0\.01") as failed:
        audit.assert_visualizes([("relu", 1), ("relu", 5)], min_score=0.01, steps=8)
    story = str(failed.value)
    assert "parametrisation fourier, start noise, steps 8" in story
    assert "lowest: relu channel 5 (0.00)" in story
    assert "The score of relu channel 5 never moved" in story
    found = audit.measurements[-1]
    assert found.notes == (story.splitlines()[-1].strip(),)
    assert found.per_sample["score"][1] == 0
    audit.assert_visualizes(("relu", 1), min_score=0.01, steps=8)


def test_a_class_that_cannot_be_seen_is_found_with_its_story(net):
    audit = asks(net)
    with pytest.raises(AssertionError, match=r"^assert reached 0\.00 \(95% CI .*, 0 of 1\) >= 1\.00"):
        audit.assert_visualizes("four", steps=3)
    with pytest.raises(AssertionError, match=r"assert score -9\.00 \(n 1\) >= -8\.00"):
        audit.assert_visualizes("four", min_score=-8, steps=3)
    with pytest.raises(AssertionError, match=r"assert confidence .* >= 0\.50"):
        audit.assert_visualizes(["four", "one"], min_confidence=0.5, steps=20)
    assert "The score of four never moved" in audit.measurements[-1].notes[0]
    assert len(audit.measurements) == 3


def test_one_step_is_enough_to_move(net):
    assert asks(net).visualize([0, 1], steps=1).notes == ()


def test_thresholds_are_all_held(net):
    audit = asks(net)
    found = audit.visualize([0, ("relu", 1)], steps=20)
    low = float(found.score)
    assert audit.assert_visualizes([0, ("relu", 1)], min_score=low - 0.01, steps=20).score == low
    with pytest.raises(AssertionError, match="assert score"):
        audit.assert_visualizes([0, ("relu", 1)], min_score=low + 0.01, steps=20)
    sure = float(audit.visualize(0, steps=20).confidence)
    audit.assert_visualizes(0, min_score=-99, min_confidence=sure - 0.01, steps=20)
    with pytest.raises(AssertionError, match="assert confidence"):
        audit.assert_visualizes(0, min_score=-99, min_confidence=sure + 0.01, steps=20)


@pytest.mark.parametrize(
    ("target", "thresholds", "message"),
    [
        (("relu", 1), {}, "A channel or a neuron has no confidence to reach; give min_score"),
        ([0, ("relu", 1)], {"min_confidence": 0.5}, "give min_score, for example min_score=1"),
        (("relu", 1), {"min_confidence": 0.5}, r"min_confidence=0\.5 is for classes, and none of the targets is one"),
        (0, {"min_confidence": 1.5}, r"min_confidence=1\.5 is not a share"),
        ("on", {}, "'on' is none of the 4 class names .* Did you mean 'one'"),
        (0, {"stps": 3}, "no setting 'stps'. Did you mean 'steps'"),
        (0, {"recipe": "lucid"}, "no recipe 'lucid'"),
        (4, {}, "'class 4' is not there"),
        (("relu", 6), {"min_score": 0}, "there are 6 channels in 'relu'"),
        (("conv", 0, (8, 0)), {"min_score": 0}, "returns a map of 8×10"),
        (0, {"size": (0, 3)}, r"size=\(0, 3\) is no size"),
        (0, {"size": 9}, r"takes images of 10×12 \(its input_size\), but was given 9×9"),
    ],
)
def test_what_cannot_be_asked_is_refused(net, target, thresholds, message):
    audit = asks(net)
    with pytest.raises(AuditError, match=message):
        audit.assert_visualizes(target, **thresholds)
    assert not audit.measurements


def test_without_samples_a_size_is_needed(net):
    audit = Audit(AuditModel(net), device="cpu")
    with pytest.raises(AuditError, match="pass size="):
        audit.visualize(0)
    assert audit.visualize(0, size=(7, 9), steps=2).images.shape == (1, 3, 7, 9)
    assert audit.visualize(0, size=8, steps=2).settings["size"] == "8×8"


def test_one_channel_is_enough():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    found = Audit(AuditModel(net, mean=(0.1,), std=(0.3,)), device="cpu").visualize([0, ("1", 2)], size=12, steps=4)
    assert found.images.shape == (2, 1, 12, 12)


def test_a_gradient_that_is_not_finite_is_an_error(net, untouched):
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net(images) + (images - images.detach()).sqrt().sum((1, 2, 3))[:, None]

    broken = Breaks().eval()
    check = untouched(broken)
    with pytest.raises(AuditError, match="gradient of the target's score is not finite"):
        asks(broken).visualize(0, steps=3)
    check()


# Pictures


def test_tiles_are_the_images_with_what_the_model_sees(net):
    found = asks(net).visualize([0, "four", ("relu", 1)], steps=6)
    (grid,) = found.exhibits  # of several layers, the climbs do not compare
    assert grid.kind == "grid"
    assert [row.title for row in grid.rows] == ["one", "four", "relu channel 1"] == list(found.ids)
    for row, image in zip(grid.rows, found.images, strict=True):
        assert np.array_equal(row.pictures[0].pixels, pictures.image(torch.from_numpy(image)))
    seen = found.per_sample["prediction"]
    names = ("one", "two", "three", "four")
    assert grid.rows[0].status == ("reached" if seen[0] == 0 else f"seen as {names[seen[0]]}")
    assert grid.rows[1].status == f"seen as {names[seen[1]]}" != "seen as four"
    assert grid.rows[2].status == ""
    assert set(grid.rows[0].figures) == {"score", "confidence"}
    assert set(grid.rows[2].figures) == {"score"}


def test_the_climb_is_drawn_line_by_line_or_as_a_band(net):
    audit = asks(net)
    found = audit.visualize([0, 1], steps=6)
    chart = found.exhibits[1]
    assert isinstance(chart, Chart)
    assert [line.name for line in chart.series] == ["one", "two"]
    for line, trace in zip(chart.series, found.per_sample["trace"], strict=True):
        assert (np.asarray(line.y) == trace).all()
    many = audit.visualize([("conv", channel, (0, 0)) for channel in range(6)] + [("conv", 0)], steps=3)
    (band,) = many.exhibits[1].series
    trace = many.per_sample["trace"]
    np.testing.assert_array_equal([band.low, band.y, band.high], [trace.min(0), np.median(trace, 0), trace.max(0)])


# Real networks


def test_every_class_of_a_real_network_can_be_shown(resnet20_model):
    audit = Audit(resnet20_model, device="cpu")
    found = audit.assert_visualizes(range(10), size=32, steps=16)
    assert audit.assert_visualizes([1, 8], size=32, steps=32, min_confidence=0.99, min_score=30).score >= 30
    # Images of objects are smooth beside noise: neighbours have more in common.
    images = found.images
    assert np.abs(np.diff(images, axis=3)).mean() < 0.5 * np.abs(images - np.roll(images, 16, axis=3)).mean()


@pytest.mark.parametrize("recipe", ["simonyan", "yosinski", "nguyen"])
def test_the_papers_recipes_reach_the_classes_of_a_real_network(resnet20_model, cifar_samples, recipe):
    audit = Audit(resnet20_model, cifar_samples[:100], device="cpu")
    assert audit.assert_visualizes([0, 5], recipe=recipe, steps=24, min_confidence=0.9).score > 5


def test_an_elephant_can_be_shown_by_a_network_of_imagenet(shared_models):
    mean, std = shared_models.IMAGENET
    model = AuditModel(shared_models.load("imagenet_squeezenet1_1"), mean=mean, std=std)
    found = Audit(model, device="cpu").assert_visualizes([386], size=128, steps=32, min_confidence=0.99)
    assert found.score > 60


def test_the_model_is_left_as_it_was(net, untouched):
    check = untouched(net.train())
    audit = asks(net)
    audit.visualize([0, ("relu", 1), ("relu", 5)], steps=3)
    with pytest.raises(AuditError):
        audit.visualize(("relu", 7), steps=3)
    with pytest.raises(AssertionError):
        audit.assert_visualizes("four", steps=3)
    check()


# The fast model ------------------------------------------------------------------------------------------------------


class Normed(nn.Module):
    """A convolution before a batch-norm, and a view that needs contiguous maps where that is asked for."""

    def __init__(self, views):
        super().__init__()
        self.conv, self.norm, self.head, self.views = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2), views

    def forward(self, images):
        maps = self.norm(self.conv(images))
        if self.views:
            maps = maps.view(-1, *maps.shape[2:]).view(maps.shape)
        return self.head(maps.relu().mean((2, 3)))


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize(("layer", "folded"), [("conv", False), ("norm", True)])
def test_a_layer_is_climbed_in_the_folded_model_where_it_answers_the_same(layer, folded, views):
    net = Normed(views).eval()
    with torch.no_grad():
        net.norm.running_mean.add_(0.2)
        net.norm.running_var.mul_(0.3)
        net.norm.weight.mul_(1.7)
    images = torch.rand(3, 3, 12, 12)
    with AuditModel(net).borrow() as borrowed:
        fast, part = fast_layer(borrowed, images, layer)
        assert (type(part) is nn.Identity) == (folded and not views)
        assert (fast is borrowed) == views
        torch.testing.assert_close(
            up_to(fast, images, [part]), up_to(borrowed, images, [borrowed.module.get_submodule(layer)])
        )
