"""A map is faithful where its order beats the same map at a random place; with known maps, and with real ones."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from pytest_cnnaudit import AuditError, AuditModel, Samples
from pytest_cnnaudit.draws import draw
from pytest_cnnaudit.questions.explanations import ExplanationQuestions


class Corner(nn.Module):
    """Sees the upper left 4×4 pixels only: class 1 where they are bright, class 0 where they are dark."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(12.0))

    def forward(self, images):
        score = self.scale * (images[:, :, :4, :4].mean((1, 2, 3)) - 0.5)
        return torch.stack([-score, score], 1)


IMAGES = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4
IMAGES[::2, :, :4, :4] += 0.6
SAMPLES = Samples.from_tensors(IMAGES, [1, 0] * 4)


def corner_map(model, images, targets):
    maps = torch.zeros(len(images), 1, *images.shape[2:])
    maps[..., :4, :4] = 1
    return maps


def opposite(model, images, targets):
    return 1 - corner_map(model, images, targets)


def flat(model, images, targets):
    return torch.ones(len(images), 1, *images.shape[2:])


def smooth_noise(model, images, targets, seeds):
    cells = draw(seeds, torch.full_like(seeds, 9), 16).view(-1, 1, 4, 4)
    return interpolate(cells, size=images.shape[2:], mode="bilinear", align_corners=False)


def edges(model, images, targets):
    grey = nn.functional.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    return sum(nn.functional.conv2d(grey, each) ** 2 for each in (kernel, kernel.mT)).sqrt()


def asks(samples=SAMPLES, model=None, **options):
    return ExplanationQuestions(AuditModel(model or Corner().eval()), samples, device="cpu", **options)


def test_the_true_map_beats_the_random_order_and_has_the_areas_that_it_must_have():
    audit = asks()
    found = audit.assert_saliency_faithful(corner_map, steps=16)
    # A sixteenth of the pixels counts, and has the first of 16 steps: then the blank's 0.5 for all the rest.
    clean = torch.softmax(Corner()(IMAGES), 1)[torch.arange(8), torch.tensor([1, 0] * 4)].detach().numpy()
    np.testing.assert_allclose(found.per_sample["probability"], clean, rtol=1e-5)
    np.testing.assert_allclose(found.per_sample["deletion"], (clean + 0.5) / 2 / 16 + 0.5 * 15 / 16, rtol=1e-5)
    np.testing.assert_allclose(found.per_sample["insertion_curve"][:, 1:], np.repeat(clean[:, None], 16, 1), rtol=1e-5)
    assert found.insertion_over_random.ci95[0] > 0
    assert found.deletion_under_random.ci95[0] > 0.1
    assert audit.measurements == [found]


@pytest.mark.parametrize("method", [opposite, flat, smooth_noise])
def test_a_map_that_knows_nothing_does_not(method):
    with pytest.raises(AssertionError, match=r"assert (insertion over|deletion under) random \(lower end .* > 0"):
        asks(samples=Samples.from_tensors(IMAGES.repeat(3, 1, 1, 1), [1, 0] * 12)).assert_saliency_faithful(method)


def test_the_failure_tells_both_areas_and_the_random_order():
    with pytest.raises(AssertionError) as failed:
        asks().assert_saliency_faithful(opposite)
    assert "insertion 0.9" in str(failed.value)
    assert "method opposite; target label" in str(failed.value)
    assert "The random order is that of the same map, moved to a random place." in str(failed.value)


@pytest.fixture(scope="module")
def real(resnet20_model, cifar_samples):
    return ExplanationQuestions(resnet20_model, cifar_samples[:40], device="cpu")


@pytest.fixture(scope="module")
def real_grad_cam(real):
    return real.assert_saliency_faithful("grad_cam", steps=5)


def test_real_maps_of_a_real_network_beat_the_random_order(real_grad_cam):
    assert real_grad_cam.insertion == pytest.approx(0.78, abs=0.06)
    assert real_grad_cam.insertion_over_random >= 0.08
    assert real_grad_cam.deletion_under_random >= 0.08


@pytest.mark.parametrize("method", [edges, smooth_noise])
def test_edges_and_noise_do_not(real, method):
    with pytest.raises(AssertionError, match="random"):
        real.assert_saliency_faithful(method, steps=5)


def test_single_pixels_are_a_random_order_that_says_little(real, real_grad_cam):
    """They destroy an image faster than Grad-CAM's order does, and any patchy noise inserts better than they do."""
    pixels = real.saliency_faithfulness("grad_cam", steps=5, reference="pixels")
    assert pixels.deletion_under_random < 0.05 < real_grad_cam.deletion_under_random
    noise = real.saliency_faithfulness(smooth_noise, steps=5, reference="pixels")
    assert noise.insertion_over_random.ci95[0] > 0
    assert pixels.settings["random order"] == "single pixels in a random order"


@pytest.mark.parametrize("reference", ["moved", "blocks", "pixels"])
def test_batches_change_nothing_and_the_seed_changes_the_random_order(reference):
    options = {"steps": 8, "reference": reference}
    whole, single = (asks(batch_size=size).saliency_faithfulness(corner_map, **options) for size in (None, 1))
    for name, values in whole.per_sample.items():
        np.testing.assert_allclose(single.per_sample[name], values, atol=1e-6, err_msg=name)
    other = asks(seed=1).saliency_faithfulness(corner_map, **options)
    np.testing.assert_allclose(other.per_sample["insertion"], whole.per_sample["insertion"], atol=1e-6)
    assert not np.allclose(other.per_sample["random_deletion"], whole.per_sample["random_deletion"], atol=1e-6)
    assert [row.title for row in single.exhibits[2].rows] == [row.title for row in whole.exhibits[2].rows]


def test_it_costs_an_explanation_and_the_steps_of_four_curves(counting):
    module = counting(Corner().eval())
    found = asks(model=module).saliency_faithfulness("gradient", steps=5)
    # The image itself (for the curves, and for the explanation), the blank and the blurred one, and what lies between.
    passes = 8 * (2 + 2 + 4 * 4)
    assert (found.cost.forward, found.cost.backward) == (passes, 8)
    assert (module.forwards, module.backwards) == (passes, 8)


@pytest.mark.parametrize(
    ("min_insertion", "max_deletion"), [(0.5, None), (None, 0.6), (None, 0.3), (0.6, 0.6), (0.6, 0.3)]
)
def test_an_early_verdict_is_the_full_verdict(min_insertion, max_deletion):
    audit = asks(batch_size=1)
    full = audit.saliency_faithfulness(corner_map, steps=8)
    expected = full.insertion >= (min_insertion or 0) and full.deletion <= (1 if max_deletion is None else max_deletion)
    try:
        audit.assert_saliency_faithful(corner_map, steps=8, min_insertion=min_insertion, max_deletion=max_deletion)
        passes = True
    except AssertionError:
        passes = False
    assert passes == expected
    measured = len(audit.measurements[-1].ids)
    assert measured < 8
    assert audit.measurements[-1].notes[-1].startswith(f"Stopped as soon as the verdict was certain: after {measured}")


def test_thresholds_fail_by_their_name():
    with pytest.raises(AssertionError, match=r"assert insertion 0\.9\d .*>= 1\.00"):
        asks().assert_saliency_faithful(opposite, min_insertion=1)
    with pytest.raises(AssertionError, match=r"assert deletion 0\.5\d .*<= 0\.10"):
        asks().assert_saliency_faithful(corner_map, max_deletion=0.1)


def test_what_the_model_says_and_one_class_can_be_explained():
    wrong = Samples.from_tensors(IMAGES, [0, 1] * 4)
    by_label = asks(wrong).saliency_faithfulness(corner_map, steps=4)
    assert not by_label.per_sample["correct"].any()
    assert "In 8 of 8 samples the target is not what the model says." in by_label.notes
    predicted = asks(wrong).saliency_faithfulness(corner_map, "predicted", steps=4)
    right = asks().saliency_faithfulness(corner_map, steps=4)
    np.testing.assert_allclose(predicted.per_sample["insertion"], right.per_sample["insertion"])
    zero = asks().saliency_faithfulness(corner_map, 0, steps=4)
    assert zero.per_sample["correct"].tolist() == [False, True] * 4


def test_pictures_show_what_their_captions_say():
    found = asks().saliency_faithfulness(corner_map, steps=10, baseline=1.0)
    exhibit = found.exhibits[2]
    assert [len(row.pictures) for row in exhibit.rows] == [6] * 8
    gains = dict(
        zip(
            found.ids,
            found.per_sample["insertion"]
            - found.per_sample["random_insertion"]
            + found.per_sample["random_deletion"]
            - found.per_sample["deletion"],
            strict=True,
        )
    )
    assert [row.title for row in exhibit.rows] == sorted(gains, key=gains.get)
    row = exhibit.rows[0]
    image, _, tenth, third, inserted, _ = (picture.pixels for picture in row.pictures)
    place = found.ids.index(row.title)
    assert (tenth != image).any(2).sum() == 25  # of 256
    assert (third != image).any(2).sum() == 76
    assert (tenth[:4, :4] == 255).all()  # the corner is deleted first
    assert np.array_equal(inserted[:4, :4], image[:4, :4])
    assert not np.array_equal(inserted[8:, 8:], image[8:, 8:])
    assert row.pictures[2].caption == f"10% deleted: {found.per_sample['deletion_curve'][place, 1]:.2f}"
    assert row.pictures[5].caption.startswith("30% inserted: ")


def test_charts_hold_the_mean_curves_of_both_orders():
    found = asks().saliency_faithfulness(corner_map, steps=4)
    insertion, deletion, _ = found.exhibits
    assert (insertion.title, deletion.title) == ("Insertion", "Deletion")
    for chart, way in ((insertion, "insertion"), (deletion, "deletion")):
        own, random = chart.series
        assert own.name == "corner_map"
        np.testing.assert_allclose(own.x, [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(own.y, found.per_sample[f"{way}_curve"].mean(0), rtol=1e-6)
        np.testing.assert_allclose(random.y, found.per_sample[f"random_{way}_curve"].mean(0), rtol=1e-6)
        assert all(low <= y <= high for low, y, high in zip(own.low, own.y, own.high, strict=True))


def test_deleted_pixels_become_the_mean_that_the_model_normalises_with():
    model = AuditModel(Corner().eval(), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    audit = ExplanationQuestions(model, SAMPLES, device="cpu")
    found = audit.saliency_faithfulness(corner_map, steps=2)
    blank = model(torch.tensor([0.1, 0.2, 0.3])[None, :, None, None].expand(1, 3, 16, 16)).softmax(1)[0].detach()
    expected = blank[torch.tensor([1, 0] * 4)].numpy()
    np.testing.assert_allclose(found.per_sample["deletion_curve"][:, -1], expected, rtol=1e-5)


def test_constant_maps_are_told():
    assert "8 maps are constant: their pixels come in a random order." in asks().saliency_faithfulness(flat).notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "shuffled"}, "no random order 'shuffled'; use 'moved', 'blocks', 'pixels'"),
        ({"target": 2}, r"target=2 is neither a class \(0 to 1\)"),
        ({"steps": 257}, r"steps=257 does not fit images of 16×16"),
        ({"min_insertion": 2}, "min_insertion=2 is not a share"),
        ({"layer": "nowhere"}, "layer='nowhere' was given, but the method 'gradient'"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(AuditError, match=message):
        asks().assert_saliency_faithful("gradient", **options)


def test_one_sample_is_too_few_for_a_verdict():
    with pytest.raises(AuditError, match="One sample is too few"):
        asks(SAMPLES[:1]).assert_saliency_faithful(corner_map)


def test_the_model_is_left_as_it_was(resnet20, resnet20_model, cifar_samples, untouched):
    check = untouched(resnet20.train())
    model = AuditModel(resnet20, mean=resnet20_model.mean, std=resnet20_model.std)
    ExplanationQuestions(model, cifar_samples[:4], device="cpu").saliency_faithfulness(steps=3)
    check()
