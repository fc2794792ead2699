"""Filters that are more than noise pass, and filters that are not fail; the figures are tested with the lens."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel


def audit_of(module, **about):
    return Audit(AuditModel(module, **about), device="cpu")


def noisy(module, stds):
    """White noise on the first layer, `stds` of its weights' standard deviation."""
    with torch.no_grad():
        weight = module.conv1.weight
        weight += stds * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    return module


def single(weight):
    weight = torch.as_tensor(weight, dtype=torch.float32)
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False)
    conv.weight.data.copy_(weight)
    return nn.Sequential(conv)


@pytest.fixture
def random_resnet20(resnet20):
    return type(resnet20)(20)


def test_the_filters_of_a_trained_network_pass_by_default(resnet20):
    found = audit_of(resnet20).assert_filters_smooth()
    assert found.layer == "conv1"
    assert 0.5 < found.roughness < 0.75  # 0.54 to 0.67 for trained 3×3 first layers
    assert 0.65 < found.variance_entropy_ratio < 0.8  # 0.71
    assert len(found.ids) == len(found.per_sample["roughness"]) == 16


def test_trained_filters_with_noise_fail_by_default(resnet20):
    with pytest.raises(AssertionError, match=r"^assert structured filters 0\.\d+ .* >= 0\.25\n  layer conv1, 16×3×3×3"):
        audit_of(noisy(resnet20, 1.0)).assert_filters_smooth()


def test_random_filters_fail_by_default(random_resnet20):
    torch.manual_seed(0)
    for _ in range(3):
        nn.init.kaiming_normal_(random_resnet20.conv1.weight)
        with pytest.raises(AssertionError):
            audit_of(random_resnet20).assert_filters_smooth()


@pytest.mark.parametrize(
    ("threshold", "name", "op"),
    [
        ("max_roughness", "roughness", "<="),
        ("max_variance_entropy_ratio", "variance-entropy ratio", "<="),
        ("min_structured", "structured filters", ">="),
        ("max_dead", "dead filters", "<="),
    ],
)
def test_each_threshold_by_its_name(resnet20, threshold, name, op):
    resnet20.conv1.weight.data[0] = 0
    audit = audit_of(resnet20)
    measured = next(metric for metric in audit.filters().metrics if metric.name == name)
    found = audit.assert_filters_smooth(**{threshold: float(measured)})  # its own value still holds
    (judged,) = [metric for metric in found.metrics if metric.comparisons]
    assert (judged.name, judged.comparisons[0].op) == (name, op)
    worse = float(measured) + (1e-6 if op == ">=" else -1e-6)
    with pytest.raises(AssertionError, match=f"assert {name}"):
        audit.assert_filters_smooth(**{threshold: worse})


def test_thresholds_that_are_given_replace_the_default_ones(random_resnet20):
    found = audit_of(random_resnet20).assert_filters_smooth(max_roughness=1.5)
    assert [metric.name for metric in found.metrics if metric.comparisons] == ["roughness"]


def test_filters_of_one_channel_are_reported_and_not_judged_by_default():
    noise = torch.randn(16, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    audit = audit_of(single(noise))
    found = audit.assert_filters_smooth()
    assert [metric.name for metric in found.metrics if metric.comparisons] == ["dead filters"]
    assert "One input channel" in found.notes[0]
    with pytest.raises(AssertionError):
        audit.assert_filters_smooth(max_roughness=0.5)


def test_few_kernels_are_not_judged_by_their_entropy():
    smooth = torch.ones(4, 3, 3, 3) + 0.01 * torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    found = audit_of(single(smooth)).assert_filters_smooth()
    assert not found.variance_entropy_ratio.comparisons


def test_many_dead_filters_fail_by_default(resnet20):
    weight = torch.ones(16, 3, 3, 3)
    weight[:4] = 1e-3
    assert audit_of(single(weight)).assert_filters_smooth().dead == 0.25
    weight[4] = 1e-3
    with pytest.raises(AssertionError, match=r"assert dead filters 0\.31 .*5 of 16\) <= 0\.25"):
        audit_of(single(weight)).assert_filters_smooth()


def test_dead_filters_do_not_count_among_the_live():
    weight = torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    before = audit_of(single(weight)).filters()
    weight[3] *= 1e-4
    found = audit_of(single(weight)).filters()
    assert (found.dead.count, found.dead.n, found.structured.n) == (1, 16, 15)
    assert found.roughness == pytest.approx(float(np.median(np.delete(before.per_sample["roughness"], 3))))


def test_any_convolution_can_be_named(resnet20):
    found = audit_of(resnet20).filters("layer2.0.conv1")
    assert found.layer == "layer2.0.conv1"
    assert found.settings["filters"] == "32×16×3×3"


def test_1x1_kernels_are_refused():
    with pytest.raises(AuditError, match="'0' has 1×1 kernels"):
        audit_of(single(torch.randn(4, 3, 1, 1))).filters()


@pytest.mark.parametrize(
    ("value", "word"), [(0.0, "all zero"), (float("nan"), "not finite"), (float("inf"), "not finite")]
)
def test_weights_that_are_no_filters_are_refused(value, word):
    with pytest.raises(AuditError, match=f"weights of the layer '0' are {word}"):
        audit_of(single(torch.full((4, 3, 3, 3), value))).filters()


def test_a_network_without_convolution_is_refused():
    with pytest.raises(AuditError, match=r"Linear has no nn\.Conv2d"):
        audit_of(nn.Linear(3, 2)).filters()


def test_every_filter_is_a_tile_with_the_roughest_live_one_first_and_dead_ones_last(resnet20):
    found = audit_of(resnet20).filters()
    (exhibit,) = found.exhibits
    assert exhibit.kind == "grid"
    shown = [found.ids.index(row.title) for row in exhibit.rows]
    assert sorted(shown) == list(range(16))
    dead, rough = found.per_sample["dead"][shown], found.per_sample["roughness"][shown]
    assert dead.tolist() == sorted(dead.tolist())
    assert rough[~dead].tolist() == sorted(rough[~dead], reverse=True)


def test_filters_cost_no_pass_and_leave_the_model_as_it_was(resnet20, untouched):
    check = untouched(resnet20.train())
    found = audit_of(resnet20).filters()
    assert (found.cost.forward, found.cost.backward) == (0, 0)
    check()


def test_duplicates_are_a_share_of_the_live_filters():
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[1] = -weight[0]
    found = audit_of(single(torch.cat([weight, torch.zeros(12, 3, 3, 3)]))).filters()
    assert (found.duplicates.count, found.duplicates.n) == (2, 4)
    assert found.per_sample["duplicate"].tolist() == [True, True] + [False] * 14


def test_high_pass_filters_are_no_noise():
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 3, 3)
    weight = torch.stack([(1 + number / 40) * laplacian.roll(number % 3, 1) for number in range(8)])
    assert audit_of(single(weight)).filters().structured == 1
