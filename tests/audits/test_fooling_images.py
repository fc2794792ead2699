"""Noise that a model calls a class: real networks do, one whose logits are bounded does not."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.results import Cost


class Bounded(nn.Module):
    """Logits in [−1, 1], so that no softmax probability of ten classes comes above e / (e + 9/e) = 0.45."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).tanh()


class Means(nn.Module):
    """Two classes: how bright, and nothing."""

    def __init__(self, slope=100.0):
        super().__init__()
        self.slope = slope
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        bright = self.slope * (images.mean((1, 2, 3)) - 0.5) * self.weight
        return torch.stack([bright, torch.zeros_like(bright)], 1)


def asks(net, samples=None, **options):
    return Audit(AuditModel(net, input_size=(8, 8), class_names=("bright", "dark")), samples, device="cpu", **options)


def noise_of(found, pair):
    row = next(row for exhibit in found.exhibits for row in exhibit.rows if row.title == found.ids[pair])
    return row.pictures


def test_a_real_network_is_certain_of_noise(resnet20_model):
    audit = Audit(resnet20_model, device="cpu")
    found = audit.fooling_images(size=32)
    assert found.certain >= 0.7  # measured: 27 of 30
    assert found.certain.n == 30
    assert found.noise_certain.n == 3
    assert (found.per_sample["change"] <= 8 / 255 + 1e-6).all()
    assert (found.per_sample["certain"] == (found.per_sample["confidence"] >= 0.99)).all()
    assert found.confidence == pytest.approx(found.per_sample["confidence"].mean(), abs=1e-6)
    # Most leave the batch early: all steps of all pairs would be 1,200 passes.
    assert found.cost.backward < 600


def test_the_assertion_fails_on_a_real_network_and_stops_there(resnet20_model):
    audit = Audit(resnet20_model, device="cpu", batch_size=2)
    with pytest.raises(AssertionError, match=r"^assert certain of noise .* <= 0\.00") as failed:
        audit.assert_rejects_noise(size=32, confidence=0.9)
    found = audit.measurements[-1]
    assert len(found.ids) < 30
    assert found.notes[0].startswith(f"Stopped as soon as the verdict was certain: after {len(found.ids)} of 30 pairs")
    assert "noises 3, classes 10, confidence 0.9, eps 8/255, steps 40, size 32×32, seed 0" in str(failed.value)
    assert "of noise as it is, the model is surest that it shows class" in str(failed.value)


def test_a_network_that_cannot_be_certain_passes(resnet20, shared_models):
    mean, std = shared_models.IMAGENET
    model = AuditModel(Bounded(resnet20).eval(), mean=mean, std=std)
    audit = Audit(model, device="cpu")
    found = audit.assert_rejects_noise([0, 5], size=32, confidence=0.5, noises=2, steps=5)
    assert found.certain == found.noise_certain == 0
    assert 0.1 < found.confidence < 0.46
    assert found.cost.forward >= 4 * 5


def test_a_network_that_is_certain_of_every_noise_fails_as_it_is():
    class Sure(nn.Module):
        def forward(self, images):
            return torch.stack([images.mean((1, 2, 3)) * 0 + 9, images.mean((1, 2, 3))], 1)

    audit = asks(Sure())
    with pytest.raises(AssertionError, match=r"assert certain of noise as it is 1\.00 .*3 of 3\) <= 0\.50"):
        audit.assert_rejects_noise(["dark"], max_share=0.5)
    found = audit.fooling_images(["dark"])
    assert found.per_sample["noise_prediction"].tolist() == [0] * 3
    assert not found.per_sample["certain"].any()


def test_what_is_said_of_noise_is_what_the_model_as_given_says():
    net = Means()
    found = asks(net).fooling_images(noises=4, eps=0.01, confidence=0.9)
    assert found.ids[:3] == ("noise 0 as bright", "noise 0 as dark", "noise 1 as bright")
    noise, made = (
        torch.stack([torch.from_numpy(noise_of(found, pair)[column].pixels) for pair in range(8)]).permute(0, 3, 1, 2)
        for column in (0, 1)
    )
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])
    said = net(noise / 255).softmax(1).detach()
    np.testing.assert_allclose(found.per_sample["noise_confidence"], said.amax(1), atol=0.01)
    assert (found.per_sample["noise_prediction"] == said.argmax(1).numpy()).all()
    wanted = net(made / 255).softmax(1).detach()[range(8), [0, 1] * 4]
    np.testing.assert_allclose(found.per_sample["confidence"], wanted, atol=0.05)
    assert 0 < found.per_sample["certain"].mean() < 1
    first = found.per_sample["noise_certain"][::2]
    assert (found.noise_certain.count, found.noise_certain.n) == (first.sum(), 4)


def test_the_noise_is_uniform_and_follows_from_the_seed():
    audit = Audit(AuditModel(Means(), input_size=(64, 64)), device="cpu")
    first, again = (audit.fooling_images([0], noises=2, steps=1) for _ in range(2))
    pixels = noise_of(first, 0)[0].pixels
    assert np.array_equal(noise_of(again, 0)[0].pixels, pixels)
    counts = np.histogram(pixels, bins=8, range=(0, 256))[0] / pixels.size
    assert counts == pytest.approx([1 / 8] * 8, abs=0.02)
    other = Audit(audit.model, device="cpu", seed=1).fooling_images([0], noises=2, steps=1)
    assert not np.array_equal(noise_of(other, 0)[0].pixels, pixels)


def test_pairs_find_the_same_in_any_batch(resnet20_model):
    settings = {"size": 32, "noises": 2, "steps": 6}
    found, by_three = (
        Audit(resnet20_model, device="cpu", batch_size=batch_size).fooling_images([0, 3], **settings)
        for batch_size in (None, 3)
    )
    for name in ("noise_confidence", "confidence", "change"):
        np.testing.assert_allclose(by_three.per_sample[name], found.per_sample[name], atol=1e-3)


def test_passes_are_counted_and_pairs_that_are_there_leave():
    """Slopes are even, and steps of 0.01 raise the logit by 1: how many each pair takes is known from its noise."""
    net = Means()
    audit = asks(net)
    found = audit.fooling_images(["bright", "dark"], noises=3, eps=0.04, confidence=0.9, steps=3)
    logit = np.log(found.per_sample["noise_confidence"] / (1 - found.per_sample["noise_confidence"]))
    over = np.where(found.per_sample["noise_prediction"] == [0, 1] * 3, logit, -logit)
    sure = 0.9 + 0.01 * 0.1  # a little more is asked for, so that rounding cannot take it back
    needed = np.clip(np.ceil(np.log(sure / (1 - sure)) - over), 0, 3)
    steps = np.round(found.per_sample["change"] / 0.01)
    # A pixel at the edge of the range moves less; the largest change does not.
    np.testing.assert_array_equal(steps, needed)
    backward = int(sum(min(each + 1, 3) if (needed >= each).any() else 0 for each in needed))
    # Is there such a class, four passes to compare the model for many passes, three noises and six images in the end.
    assert found.cost.forward == 1 + 2 * 4 + backward + 3 + 6
    assert found.cost.backward == 2 * 4 + backward


def test_what_the_fast_model_has_rounded_is_not_taken_back(monkeypatch):
    """A fast model that is a little surer than the one as given, and a confidence between the two after two steps."""
    settings = {"noises": 1, "eps": 0.1, "steps": 9}
    audit = asks(Means())
    (after_two,) = audit.fooling_images(["bright"], **(settings | {"steps": 2, "confidence": 0.99})).per_sample[
        "confidence"
    ]
    logit = np.log(after_two / (1 - after_two))
    assert 0.5 < logit < 4
    fast = type("Fast", (), {"__call__": lambda self, images: 1.0002 * self.model(images)})()

    def surer(model, images):
        fast.model = model
        return fast

    monkeypatch.setattr("pytest_cnnaudit.model.BorrowedModel.fast", surer)
    between = float(1 / (1 + np.exp(-1.0001 * logit)))
    found = audit.fooling_images(["bright"], confidence=between, **settings)
    assert found.per_sample["certain"].all()
    assert found.per_sample["change"] == pytest.approx(0.075)


def test_the_ten_classes_are_drawn_where_there_are_more():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 30))
    model = AuditModel(net, input_size=(8, 8))
    drawn, again, other = (
        Audit(model, device="cpu", seed=seed).fooling_images(noises=1, steps=1).ids for seed in (0, 0, 1)
    )
    assert len(drawn) == 10
    assert drawn == again != other
    assert Audit(AuditModel(Means()), device="cpu").fooling_images(size=4, noises=1, steps=1).settings["classes"] == "2"


def test_the_exhibit_shows_noise_what_became_of_it_and_the_change():
    found = asks(Means()).fooling_images(noises=2, eps=0.02, confidence=0.7)
    (exhibit,) = found.exhibits
    confidence = [found.per_sample["confidence"][found.ids.index(row.title)] for row in exhibit.rows]
    assert confidence == sorted(confidence, reverse=True)
    for row in exhibit.rows:
        pair = found.ids.index(row.title)
        noise, made, change, enlarged = row.pictures
        name = ("bright", "dark")[pair % 2]
        assert made.caption == f"{name} {found.per_sample['confidence'][pair]:.2f}"
        said = ("bright", "dark")[found.per_sample["noise_prediction"][pair]]
        assert noise.caption == f"{said} {found.per_sample['noise_confidence'][pair]:.2f}"
        moved = made.pixels.astype(float) - noise.pixels
        assert np.abs(moved).max() <= 0.02 * 255 + 1
        np.testing.assert_allclose(change.pixels - 127.5, moved, atol=1.1)
        np.testing.assert_allclose(enlarged.pixels - 127.5, 10 * moved, atol=11)  # rounded to bytes twice
        assert (row.status == "certain") == bool(found.per_sample["certain"][pair])
        assert row.figures["largest change"] == f"{found.per_sample['change'][pair] * 255:.3g}/255"


@pytest.mark.parametrize("max_share", [0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
def test_an_early_verdict_is_the_full_verdict(max_share):
    audit = asks(Means(), batch_size=1)
    settings = {"noises": 5, "eps": 0.01, "confidence": 0.7}
    full = audit.fooling_images(**settings)
    assert 0 < full.certain < 1
    assert len(full.ids) == 10
    passes = full.certain <= max_share and full.noise_certain <= max_share
    try:
        audit.assert_rejects_noise(max_share=max_share, **settings)
        assert passes
    except AssertionError as error:
        assert not passes, error
    too_many = np.flatnonzero(np.cumsum(full.per_sample["certain"]) / 10 > max_share)
    assert len(audit.measurements[-1].ids) == (too_many[0] + 1 if len(too_many) else 10)


@pytest.mark.parametrize(
    ("classes", "settings", "message"),
    [
        (["brigt"], {}, "'brigt' is none of the 2 class names .* Did you mean 'bright'"),
        ([2], {}, "'class 2' is not there: there are 2 classes"),
        ([("weight", 0)], {}, "no layer 'weight'"),
        (None, {"noises": 0}, "noises=0 does not do for fooling images; give a number of noises, 1 or more"),
        (None, {"noises": 1.5}, "a number of noises"),
        (None, {"confidence": 1}, "confidence=1 does not do .* a probability between 0 and 1"),
        (None, {"eps": 0}, "eps=0 does not do .* a radius in pixel units"),
        (None, {"steps": 0}, "steps=0 does not do .* a number of steps"),
        (None, {"max_share": 2}, "max_share=2 is not a share"),
        (None, {"size": -1}, "size=-1 is no size"),
        (None, {"size": 9}, r"takes images of 8×8 \(its input_size\), but was given 9×9"),
    ],
)
def test_what_cannot_be_asked_is_refused(untouched, classes, settings, message):
    net = Means()
    check, audit = untouched(net), asks(net)
    with pytest.raises(AuditError, match=message):
        audit.assert_rejects_noise(classes, **settings)
    assert not audit.measurements
    check()


def test_channels_are_no_classes():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(AuditError, match="'0 channel 1' is not a class; fooling images are made for classes"):
        asks(net).fooling_images([("0", 1)])


def test_the_model_is_left_as_it_was(resnet20, shared_models, untouched):
    check = untouched(resnet20.train())
    mean, std = shared_models.IMAGENET
    audit = Audit(AuditModel(resnet20, mean=mean, std=std), device="cpu")
    audit.fooling_images([1], noises=1, size=32, steps=2)
    with pytest.raises(AssertionError):
        audit.assert_rejects_noise([1], noises=1, size=32, eps=None)
    check()


def test_samples_say_how_large_the_noise_is():
    samples = Samples.from_tensors(torch.rand(2, 3, 5, 7), [0, 1])
    audit = Audit(AuditModel(Means()), samples, device="cpu")
    found = audit.fooling_images([0], noises=1, steps=1)
    assert found.settings["size"] == "5×7"
    assert noise_of(found, 0)[0].pixels.shape == (5, 7, 3) == pictures.image(samples[0].image).shape
    assert found.cost != Cost()
