import functools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks import fgsm, pgd
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.results import Cost

norms = st.sampled_from(["linf", "l2"])


def drawn(seed, count=4, *, stretch=1.0, dtype=torch.float64):
    """Random images, the more of them at the borders 0 and 1 the higher `stretch`, and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 8, 8, generator=generator, dtype=dtype)
    return (images * stretch - (stretch - 1) / 2).clamp(0, 1), torch.randint(4, (count,), generator=generator)


@given(
    norm=norms,
    eps=st.floats(1e-4, 3),
    steps=st.integers(1, 4),
    step_size=st.none() | st.floats(1e-3, 5),
    restarts=st.integers(1, 3),
    targeted=st.booleans(),
    seed=st.integers(0, 99),
    stretch=st.floats(1, 10),
)
def test_the_result_stays_in_the_ball_and_in_the_range(
    tiny_net, norm, eps, steps, step_size, restarts, targeted, seed, stretch
):
    images, labels = drawn(seed, stretch=stretch, dtype=torch.float32)
    with AuditModel(tiny_net(seed).float()).borrow() as model:
        result = pgd(
            model, images, labels, norm=norm, eps=eps, steps=steps, step_size=step_size, restarts=restarts,
            targeted=targeted, seeds=torch.arange(seed, seed + 4),
        )  # fmt: skip
    assert (length(result - images, norm) <= eps + 1e-6).all()
    assert 0 <= result.min() <= result.max() <= 1


@settings(max_examples=15)
@given(
    norm=norms,
    eps=st.floats(1e-3, 0.2),
    restarts=st.integers(1, 2),
    order=st.permutations(range(6)),
    cut=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_neither_batch_size_nor_mates_nor_order_change_a_samples_result(
    tiny_net, norm, eps, restarts, order, cut, seed
):
    images, _ = drawn(seed, 6)
    seeds = torch.arange(1000, 1006)
    with AuditModel(tiny_net(seed)).borrow() as model:
        with torch.no_grad():
            labels = model(images).argmax(1)

        def attack(chosen):
            return pgd(
                model,
                images[chosen],
                labels[chosen],
                norm=norm,
                eps=eps,
                steps=4,
                restarts=restarts,
                seeds=seeds[chosen],
            )

        together = attack(torch.arange(6))
        order = torch.tensor(order)
        apart = torch.cat([attack(order[:cut]), attack(order[cut:])])
    torch.testing.assert_close(apart, together[order], rtol=0, atol=1e-9)


class Linear(nn.Module):
    """logit₁ − logit₀ = ⟨w, x⟩ + b, whose distance to the boundary is known in closed form."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, images):
        score = (self.weight * images.flatten(1)).sum(1) + self.bias
        return torch.stack([-score / 2, score / 2], 1)


@pytest.mark.parametrize(
    "attack", [fgsm, functools.partial(pgd, random_start=False), pgd], ids=["fgsm", "pgd", "random"]
)
@settings(max_examples=15)
@given(norm=norms, seed=st.integers(0, 999), factor=st.sampled_from([0.5, 0.99, 1.01, 2.0]), targeted=st.booleans())
def test_a_linear_classifier_is_fooled_exactly_beyond_the_distance_to_its_boundary(
    attack, norm, seed, factor, targeted
):
    if attack is pgd and factor == 1.01:
        factor = 1.1  # in L2, 20 steps from the ball's far side end near the best point, not on it
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(12, generator=generator, dtype=torch.float64)
    image = 0.45 + 0.1 * torch.rand(1, 3, 2, 2, generator=generator, dtype=torch.float64)
    distance = 0.1 + 0.05 * float(
        torch.rand((), generator=generator)
    )  # even twice that is far from 0 and 1: no clipping
    bias = distance * weight.norm(p=1 if norm == "linf" else 2) * (-1) ** seed - image.flatten() @ weight
    with AuditModel(Linear(weight, bias)).borrow() as model:
        before = int(model(image).argmax())
        label = torch.tensor([1 - before if targeted else before])
        result = attack(model, image, label, norm=norm, eps=factor * distance, targeted=targeted)
        assert (int(model(result).argmax()) != before) == (factor > 1)


def test_targeted_ends_at_the_target(resnet20_model, cifar):
    images = cifar[0][:4]
    with resnet20_model.borrow() as model, torch.no_grad():
        targets = (model(images).argmax(1) + 3) % 10
        result = torch.enable_grad()(pgd)(model, images, targets, eps=8 / 255, targeted=True)
        assert model(result).argmax(1).tolist() == targets.tolist()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_gradient_leaves_the_image_where_it_is(norm):
    flat = Linear(torch.zeros(12), torch.tensor(1.0))
    images = torch.rand(2, 3, 2, 2)
    labels = torch.ones(2, dtype=torch.int64)
    for result in (
        fgsm(AuditModel(flat), images, labels, norm=norm, eps=0.1),
        pgd(AuditModel(flat), images, labels, norm=norm, eps=0.1, random_start=False),
    ):
        torch.testing.assert_close(result, images)


def test_fooled_samples_leave_and_cost_nothing_more(tiny_net):
    images, _ = drawn(0, 5)
    with AuditModel(tiny_net()).borrow() as model:
        with torch.no_grad():
            predicted = model(images).argmax(1)
        labels = predicted.clone()
        labels[:2] = (labels[:2] + 1) % 4  # already fooled
        before = model.cost
        pgd(model, images, labels, eps=1e-9, steps=7, random_start=False)
        # All five are looked at once; the three that stand take every step.
        assert model.cost.forward - before.forward == 5 + 3 * 6
        assert model.cost.backward - before.backward in (3 * 7, 5 + 3 * 6)  # the first batch may go back whole


def test_a_batch_that_is_fooled_at_once_costs_one_forward_pass(tiny_net):
    images, _ = drawn(0, 5)
    with AuditModel(tiny_net()).borrow() as model:
        with torch.no_grad():
            labels = (model(images).argmax(1) + 1) % 4
        before = model.cost
        result = pgd(model, images, labels, eps=0.1, random_start=False, steps=10)
        assert model.cost - before == Cost(5, 0)
    assert result.equal(images)


def test_restarts_go_on_with_the_standing_samples_only_and_fool_no_fewer(resnet4b_model, cifar):
    images, labels = cifar[0][:32], cifar[1][:32]
    with resnet4b_model.borrow() as model, torch.no_grad():
        attack = torch.enable_grad()(pgd)
        once, thrice = (attack(model, images, labels, eps=2 / 255, steps=2, restarts=restarts) for restarts in (1, 3))
        fooled_once, fooled_thrice = (model(each).argmax(1) != labels for each in (once, thrice))
    assert fooled_once.sum() < len(images)
    assert (fooled_thrice | ~fooled_once).all()
    assert once[fooled_once].equal(thrice[fooled_once])
    assert not once[~fooled_once].equal(thrice[~fooled_once])  # another start


def test_no_gradient_is_computed_for_the_weights(tiny_net):
    net = tiny_net()
    images, labels = drawn(1)
    seen = []

    def watched(batch):
        seen.append([weight.requires_grad for weight in net.parameters()])
        return model(batch)

    with AuditModel(net).borrow() as model:
        pgd(watched, images, labels, eps=0.01, steps=3)
        fgsm(watched, images, labels, eps=0.01)
    assert seen
    assert not any(map(any, seen))
    assert all(weight.grad is None for weight in net.parameters())


def test_the_images_given_are_not_changed(tiny_net):
    images, labels = drawn(2)
    copy = images.clone()
    pgd(AuditModel(tiny_net()), images, labels, eps=0.1, steps=2)
    assert images.equal(copy)
    assert not images.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"restarts": 0}, "restarts=0"),
        ({"restarts": 2, "random_start": False}, "random_start"),
        ({"norm": "l1"}, "'l1'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny_net, options, message):
    images, labels = drawn(3)
    with pytest.raises(AuditError, match=message):
        pgd(AuditModel(tiny_net()), images, labels, eps=0.1, **options)
