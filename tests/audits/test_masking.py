"""The checklist against gradient masking: each planted fault fails its own checks and no others, honest models none."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.audits.masking_checks import by_chance
from pytest_cnnaudit.results import Table

EPS = 0.06
CHECKS = (
    "unbounded attack", "more steps", "black box", "random noise", "zero gradients", "saturated loss",
    "randomised forward", "softmax output", "test-time optimisation",
)  # fmt: skip
BLIND = {"unbounded attack", "black box", "zero gradients"}


class Defended(nn.Module):
    """A network behind a fault: `fault(network, images) -> logits`."""

    def __init__(self, network, fault):
        super().__init__()
        self.network, self.fault = network, fault

    def forward(self, images):
        return self.fault(self.network, images)


def quadrants(lowest, highest, texture, count=24):
    """Grey images with texture and a brighter quadrant, of rising contrast, which the tiny network finds."""
    labels = torch.arange(count) % 4
    images = 0.3 + texture * torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for image, label, contrast in zip(images, labels.tolist(), torch.linspace(lowest, highest, count), strict=True):
        top, left = label // 2 * 8, label % 2 * 8
        image[:, top : top + 8, left : left + 8] += contrast
    return Samples.from_tensors(images, labels)


def backwards(change):
    """The identity, whose gradient is changed on the way back."""

    class Changed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, images):
            return images.clone()

        @staticmethod
        def backward(ctx, gradient):
            return change(gradient)

    return Changed.apply


def ripple(period, slope):
    """x + a sin(2πx / period), which rises by 1 + `slope` at best and falls by `slope` − 1 at worst."""
    rate = 2 * torch.pi / period
    return lambda images: images + slope / rate * torch.sin(rate * images)


def purify(network, images):
    with torch.enable_grad():
        inner = images.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(inner).logsumexp(1).sum(), inner)
    return network(images + 0.001 * gradient.sign())


def reseeded(network, images):
    torch.manual_seed(0)
    return network(images + 0.01 * torch.randn_like(images))


def four_pixels(images):
    """Each quadrant by one pixel of it: what noise changes most."""
    return images[:, :, 4::8, 4::8].repeat_interleave(8, 2).repeat_interleave(8, 3)


turned = backwards(lambda gradient: -gradient)
lost = backwards(lambda gradient: gradient * float("nan"))
infinite_somewhere = backwards(lambda gradient: gradient.where(torch.arange(16) > 0, torch.inf))

WIDE, NARROW, FRAGILE = (0.02, 0.42, 0.1), (0.03, 0.12, 0.0), (0.04, 0.05, 0.0)
FAULTS = {
    "none": (lambda net, x: net(x), WIDE, set()),
    "rounded input": (lambda net, x: net((x * 32).round() / 32), WIDE, BLIND),
    "rounded logits": (lambda net, x: (net(x) * 8).round() / 8, WIDE, BLIND),
    "detached": (lambda net, x: net(x).detach(), WIDE, BLIND),
    "NaN gradient": (lambda net, x: net(lost(x)), WIDE, BLIND),
    "gradient infinite in a column": (lambda net, x: net(infinite_somewhere(x)), WIDE, {"zero gradients"}),
    "gradient turned round": (lambda net, x: net(turned(x)), WIDE, {"unbounded attack", "black box"}),
    "shattered": (lambda net, x: net(ripple(1.2e-3, 20)(x)), WIDE, {"unbounded attack", "black box"}),
    "rugged": (lambda net, x: net(ripple(0.015, 1.3)(x)), NARROW, {"more steps"}),
    "turned round, noise matters": (
        lambda net, x: net(turned(four_pixels(x))),
        FRAGILE,
        {"unbounded attack", "black box", "random noise"},
    ),
    "temperature": (lambda net, x: net(x) * 1e4, WIDE, {"saturated loss"}),
    "noise": (lambda net, x: net(x + 0.005 * torch.randn_like(x)), WIDE, {"randomised forward"}),
    "noise from a fixed seed": (reseeded, WIDE, {"randomised forward"}),
    "softmax": (lambda net, x: net(x).softmax(1), WIDE, {"softmax output"}),
    "purification": (purify, WIDE, {"test-time optimisation"}),
}


@pytest.fixture(scope="module")
def network(tiny_model):
    return tiny_model.module


def audit_of(network, fault, samples, **options):
    return Audit(AuditModel(Defended(network, fault).eval()), samples, device="cpu", **options)


def failed(found):
    return {check.name for check in found.checks if not check.passed}


@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_fails_its_own_checks_and_no_others(network, name):
    fault, contrasts, expected = FAULTS[name]
    found = audit_of(network, fault, quadrants(*contrasts)).gradient_masking(eps=EPS)
    assert failed(found) == expected
    assert found.checks_passed.count == 9 - len(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", set()),
        ("NaN gradient", {"unbounded attack", "zero gradients"}),
        ("gradient turned round", {"unbounded attack"}),
        ("temperature", {"saturated loss"}),
    ],
)
def test_the_checklist_in_l2(network, name, expected):
    found = audit_of(network, FAULTS[name][0], quadrants(*WIDE)).gradient_masking("l2", 1.0)
    assert failed(found) == expected
    assert found.settings["eps"] == "1"


def test_a_network_without_defence_passes(resnet20_model, cifar_samples):
    found = Audit(resnet20_model, cifar_samples[:32], device="cpu").assert_no_gradient_masking()
    assert found.checks_passed == 1
    assert not found.per_sample["robust"].any()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("linf", 4 / 255), ("l2", 0.5)])
def test_an_adversarially_trained_network_passes(resnet4b_model, cifar_samples, norm, eps):
    found = Audit(resnet4b_model, cifar_samples[:32], device="cpu").assert_no_gradient_masking(norm, eps)
    assert 5 <= found.per_sample["robust"].sum() <= 20  # what it is honest about
    assert sum(metric.count for metric in found.metrics[1:]) <= 1


def test_eight_bit_rounding_of_the_input_hides_a_real_networks_gradient(resnet20_model, cifar_samples):
    module = Defended(resnet20_model.module, lambda net, x: net((x * 255).round() / 255))
    found = Audit(AuditModel(module), cifar_samples[:12], device="cpu").gradient_masking(queries=200)
    assert failed(found) - {"random noise"} == BLIND
    assert found.black_box.count > 0.7 * found.black_box.n


def test_a_failure_names_every_check_that_fails_with_its_figure_and_what_to_do(network):
    audit = audit_of(network, FAULTS["detached"][0], quadrants(*WIDE), link="here")
    with pytest.raises(AssertionError) as failure:
        audit.assert_no_gradient_masking(eps=EPS)
    lines = str(failure.value).splitlines()
    assert [line[:13] for line in lines[::4]] == ["assert standi", "assert fooled", "assert sample"]
    assert lines[0].endswith("24 of 24) <= 0.00")
    assert lines[1] == "  check: unbounded attack (linf, eps 15.3/255, seed 0)"
    assert "BPDA" in lines[2]
    assert lines[3] == "  here"
    judged = {metric.name: metric.comparisons for metric in audit.measurements[0].metrics[1:]}
    assert len(judged) == 9
    assert all(comparisons for comparisons in judged.values())  # those that hold, too


def test_every_check_has_a_figure_a_limit_and_a_row(network):
    found = audit_of(network, FAULTS["softmax"][0], quadrants(*WIDE)).gradient_masking(eps=EPS)
    assert tuple(check.name for check in found.checks) == CHECKS
    assert [check.metric for check in found.checks] == list(found.metrics[1:])
    assert found.softmax_output is found.checks[7].metric
    assert found.softmax_output == 1
    for check in found.checks:
        assert check.passed == (float(check.metric) <= check.limit)
        assert check.metric.higher_is_better is False
        assert check.meaning.endswith(".")
        assert check.meaning in check.metric.story
    (table,) = found.exhibits
    assert isinstance(table, Table)
    assert [row.cells[0] for row in table.rows] == list(CHECKS)
    assert [row.status for row in table.rows] == ["passed"] * 7 + ["failed", "passed"]
    assert found.notes[1] == "Not passed: softmax output."


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("name", ["none", "turned round, noise matters", "NaN gradient"])
def test_the_batch_size_changes_nothing(network, name, batch_size):
    fault, contrasts, _ = FAULTS[name]
    samples, options = quadrants(*contrasts, 12), {"eps": EPS, "queries": 100}
    expected = audit_of(network, fault, samples).gradient_masking(**options)
    found = audit_of(network, fault, samples, batch_size=batch_size).gradient_masking(**options)
    for column, values in expected.per_sample.items():
        np.testing.assert_array_equal(found.per_sample[column], values, err_msg=column)


def test_only_what_is_classified_correctly_is_attacked(network):
    samples = quadrants(*NARROW)
    wrong = [0, 5, 6]
    labels = torch.tensor([(sample.label + (i in wrong)) % 4 for i, sample in enumerate(samples)])
    mislabelled = Samples.from_tensors(torch.stack([sample.image for sample in samples]), labels)
    found = audit_of(network, FAULTS["detached"][0], mislabelled).gradient_masking(eps=EPS)
    assert np.flatnonzero(~found.per_sample["correct"]).tolist() == wrong
    assert (found.unbounded_attack.n, found.black_box.n, found.saturated_loss.n) == (21, 21, 21)
    assert found.zero_gradients.n == 24
    for name in ("robust", "unbounded_attack", "more_steps", "black_box", "random_noise"):
        assert not found.per_sample[name][wrong].any()


def test_a_model_that_is_never_right_has_nothing_to_attack(network):
    samples = quadrants(*WIDE, 4)
    images = torch.stack([sample.image for sample in samples])
    audit = audit_of(network, FAULTS["none"][0], Samples.from_tensors(images, (torch.arange(4) + 1) % 4))
    with pytest.raises(AuditError, match="none of the 4 samples correctly"):
        audit.gradient_masking(eps=EPS)


def test_at_most_limit_samples_are_looked_at_spread_over_all(network):
    samples = quadrants(*WIDE)
    found = audit_of(network, FAULTS["none"][0], samples).gradient_masking(eps=EPS, limit=4, queries=5)
    assert found.ids == tuple(samples.ids[i] for i in (0, 8, 15, 23))
    assert found.notes[-1] == "Looked at 4 of 24 samples, evenly spread."


def test_gradient_free_attacks_see_only_what_the_gradient_left_standing(network):
    """A sample costs a query each of Square while it stands; one that PGD fools costs a few steps."""
    fragile, firm = (
        audit_of(network, FAULTS["none"][0], quadrants(contrast, contrast, 0, 4)).gradient_masking(eps=EPS).cost
        for contrast in (0.03, 0.4)
    )
    assert fragile.forward < 4 * 40
    assert firm.forward > 4 * 500


def test_the_cost_is_what_passed_through_the_module(network, counting):
    module = counting(network)
    found = Audit(AuditModel(module), quadrants(*WIDE, 8), device="cpu").gradient_masking(eps=EPS, queries=50)
    assert (found.cost.forward, found.cost.backward) == (module.forwards, module.backwards)
    assert found.cost.backward > 0


def test_attacks_may_average_over_passes_of_a_random_model(network):
    audit = audit_of(network, FAULTS["noise"][0], quadrants(*WIDE, 8))
    once, thrice = (audit.gradient_masking(eps=EPS, queries=50, eot=eot) for eot in (1, 3))
    assert 2.5 < thrice.cost.forward / once.cost.forward < 3.2
    assert thrice.settings["eot"] == "3"
    assert "eot" in once.randomised_forward.story[1]
    assert failed(thrice) == {"randomised forward"}


@pytest.mark.parametrize("name", ["noise", "noise from a fixed seed", "purification", "NaN gradient"])
def test_the_model_is_left_as_it_was(resnet20, cifar_samples, untouched, name):
    module = Defended(resnet20, FAULTS[name][0]).train()
    check = untouched(module)
    Audit(AuditModel(module), cifar_samples[:4], device="cpu").gradient_masking(queries=2, steps=5)
    check()


def test_an_interrupted_checklist_leaves_the_model_and_autograd_as_they_were(resnet20, cifar_samples, untouched):
    passes = []

    def interrupts(network, images):
        passes.append(len(images))
        if len(passes) == 2:  # the one in which inner backward passes are watched
            raise KeyboardInterrupt
        return network(images)

    module = Defended(resnet20, interrupts)
    check = untouched(module)
    with pytest.raises(KeyboardInterrupt):
        Audit(AuditModel(module), cifar_samples[:4], device="cpu").gradient_masking()
    check()
    kept = []
    weight = torch.ones(1, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: weight.detach()):
        (weight * weight).backward()
    assert len(kept) == 2  # the only hooks there are


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "no norm 'l1'"),
        ({"eps": 0}, "eps=0 is not a radius"),
        ({"limit": 0}, "limit=0"),
        ({"steps": 4}, "steps=4"),
        ({"queries": 0}, "queries=0"),
        ({"eot": 0}, "eot=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(network, options, message):
    with pytest.raises(AuditError, match=message):
        audit_of(network, FAULTS["none"][0], quadrants(*WIDE, 4)).gradient_masking(**options)


@pytest.mark.parametrize(("n", "allowed"), [(1, 0), (2, 1), (24, 2), (64, 3), (500, 11)])
def test_chance_explains_few_samples_and_never_all(n, allowed):
    assert by_chance(n) * n == pytest.approx(allowed)


def test_a_misspelt_setting_is_refused_before_anything_runs(tiny):
    with pytest.raises(TypeError, match=r"gradient_masking.*'qeries'"):
        tiny.gradient_masking(qeries=5)
    assert not tiny.measurements
