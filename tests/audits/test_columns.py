"""Each metric that names a column of its measurement is that statistic of that column, for all kinds of measurement."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditModel, Samples
from pytest_cnnaudit.baselines.values import compute, is_statistic
from pytest_cnnaudit.results import Metric


@pytest.fixture(scope="module")
def audit(tiny_model, tiny_samples):
    """16 images, two of which the model is wrong about, and one without an object."""
    images = torch.stack([tiny_samples[i % 8].image for i in range(16)])
    images = (images + torch.linspace(0, 0.03, 16)[:, None, None, None]).clamp(0, 1)
    labels = [tiny_samples[i % 8].label for i in range(16)]
    labels[3], labels[8] = (labels[3] + 1) % 4, (labels[8] + 2) % 4
    boxes = [tiny_samples[i % 8].boxes for i in range(16)]
    boxes[5] = None
    return Audit(tiny_model, Samples.from_tensors(images, torch.tensor(labels), boxes=boxes), device="cpu")


@pytest.fixture(scope="module")
def one_dead(audit, tiny_net):
    """A model one of whose filters is dead, with a grey image among the samples, whose maps are constant."""
    net = tiny_net(width=6).float()
    with torch.no_grad():
        net.conv1.weight[2] = 0
    images = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[4] = 0.5
    return Audit(AuditModel(net, name="dead"), Samples.from_tensors(images, torch.arange(9) % 4), device="cpu")


KINDS = {
    "attack": (lambda audit: audit.attack("linf", 30 / 255), ["robust accuracy", "clean accuracy"]),
    "robustness_curve": (
        lambda audit: audit.robustness_curve("linf", [10 / 255, 30 / 255, 60 / 255]),
        ["mean robust accuracy", "clean accuracy"],
    ),
    "min_perturbation": (
        lambda audit: audit.min_perturbation("linf"),
        ["median perturbation", "clean accuracy", "5% quantile of the perturbation"],
    ),
    "saliency": (
        lambda audit: audit.saliency("gradient"),
        ["pointing game", "energy in box", "IoU", "MaxBoxAcc"],
    ),
    "saliency_faithfulness": (
        lambda audit: audit.saliency_faithfulness("gradient", steps=4),
        ["insertion", "deletion", "insertion over random", "deletion under random"],
    ),
    "saliency_sanity": (lambda audit: audit.saliency_sanity("gradient"), ["similarity", "similarity of head"]),
    "neighbours": (
        lambda audit: audit.neighbours(k=2),
        ["feature agreement", "feature agreement (cosine)", "pixel agreement", "gain over pixels"],
    ),
    "fool": (lambda audit: audit.fool(None, 2), ["median fooling change", "fooled"]),
    "filters": (
        lambda audit: audit.filters(),
        ["roughness", "high-frequency energy", "structured filters", "dead filters"],
    ),
    "filter_banks": (
        lambda audit: audit.filter_banks(AuditModel(nn.Sequential(nn.Conv2d(3, 5, 3)).eval(), name="other")),
        ["filter bank similarity"],
    ),
    "activations": (lambda audit: audit.activations("bn1"), ["sparsity"]),
    "neuron": (lambda audit: audit.neuron("conv2", 1), ["active samples"]),
    "dream": (lambda audit: audit.dream(None, "conv1", octaves=1, steps=2), ["activity growth"]),
    "fooling_images": (
        lambda audit: audit.fooling_images([0, 1], noises=2, steps=3, size=8),
        ["certain of noise", "confidence in noise"],
    ),
    "top_patches": (lambda audit: audit.top_patches("conv1", k=2), []),
    "visualize": (lambda audit: audit.visualize([0, 1], size=8, steps=3), []),
}

OF_SMALL_NET = {
    "filters",
    "filter_banks",
    "activations",
    "neuron",
    "dream",
    "fooling_images",
    "top_patches",
    "visualize",
}


def all_metrics(measurement):
    for name in measurement.__dataclass_fields__:
        value = getattr(measurement, name)
        yield from (
            each for each in (value.values() if isinstance(value, dict) else [value]) if isinstance(each, Metric)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_is_the_statistic_of_its_column(kind, audit, one_dead):
    ask, expected = KINDS[kind]
    measurement = ask(one_dead if kind in OF_SMALL_NET else audit)
    assert set(expected) <= check(measurement)


def test_maps_of_one_grid_are_one_group(resnet20_model, cifar_samples):
    measurement = Audit(resnet20_model, cifar_samples[:24], device="cpu").saliency("gradient", grid=2)
    assert "grid pointing game" in check(measurement)
    assert measurement.grid_pointing_game.statistic == "mean over groups of 4"


def check(measurement):
    """The names of the metrics that have a column, each of which is the statistic of it."""
    named = [metric for metric in all_metrics(measurement) if metric.column or metric.statistic]
    for metric in named:
        assert is_statistic(metric.statistic), metric.name
        values = measurement.per_sample[metric.column]
        assert values.shape == (len(measurement.ids),), metric.name
        known = values[~np.isnan(values)]
        assert len(known) == metric.n, metric.name
        assert compute(metric.statistic, known) == pytest.approx(float(metric), rel=1e-6), metric.name
    return {metric.name for metric in named}


@pytest.mark.parametrize("method", ["gradient", "grad_cam"])
def test_samples_that_are_not_scored_have_no_value(method, audit, one_dead):
    found = audit.saliency(method)
    assert np.isnan(found.per_sample["pointing_game"]).tolist() == [i == 5 for i in range(16)]
    assert np.isnan(one_dead.filters().per_sample["live_roughness"]).tolist() == [i == 2 for i in range(6)]
    assert not np.isnan(found.per_sample["hit"].astype(float)).any()


def test_a_verdict_that_stopped_early_names_no_column(audit):
    stopped = audit.assert_robust("linf", 8 / 255, min_accuracy=0.2)
    assert not stopped.complete
    assert (stopped.robust_accuracy.column, stopped.robust_accuracy.statistic) == ("", "")
