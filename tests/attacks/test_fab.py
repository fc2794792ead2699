import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.attacks.fab import fab_t
from pytest_cnnaudit.attacks.hyperplane import to_hyperplane
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.results import Cost

NORMS = ["linf", "l2", "l1"]
norms = st.sampled_from(NORMS)


@settings(max_examples=15)
@given(norm=norms, seed=st.integers(0, 999))
def test_on_a_linear_classifier_it_finds_the_distance_to_the_boundary(linear, assert_answers, norm, seed):
    model, images, labels, distances = linear(seed)
    with model.borrow() as borrowed:
        result = fab_t(borrowed, images, labels, norm=norm, steps=20)
        assert assert_answers(borrowed, images, labels, result) == len(images)
    ratio = length(result - images, norm) / distances[norm]
    assert (ratio >= 1).all()
    assert (ratio <= 1.01).all()


@settings(max_examples=15)
@given(norm=norms, seed=st.integers(0, 999), share=st.floats(0.1, 0.9))
def test_the_borders_of_the_range_are_part_of_the_distance(tiny_net, drawn, norm, seed, share):
    """A linear model of images with many pixels at 0 and 1, whose boundary lies at a share of what the range allows."""
    images, _ = drawn(seed, stretch=4)
    weight = torch.randn(images[0].shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    reach = (weight.abs() * torch.where(weight > 0, 1 - images, images)).flatten(1).sum(1)
    gap = share * reach  # each sample has its own boundary, as each has its own reach
    start = (weight * images).flatten(1).sum(1)
    labels = torch.zeros(len(images), dtype=torch.int64)
    nearest = length(to_hyperplane(images, weight.expand_as(images), gap, norm), norm)
    for i in range(len(images)):

        def model(batch, i=i):
            score = (weight * batch).flatten(1).sum(1) - start[i] - gap[i]
            return torch.stack([-score, score], 1)

        result = fab_t(model, images[i : i + 1], labels[i : i + 1], norm=norm, steps=30)
        assert model(result).argmax(1) == 1
        assert nearest[i] <= length(result - images[i : i + 1], norm) <= 1.05 * nearest[i]


@settings(max_examples=15)
@given(norm=norms, seed=st.integers(0, 999), factor=st.sampled_from([0.99, 1.01]))
def test_with_eps_a_linear_classifier_is_fooled_exactly_beyond_that_distance(linear, norm, seed, factor):
    model, images, labels, distances = linear(seed, count=1)
    eps = factor * float(distances[norm])
    with model.borrow() as borrowed:
        result = fab_t(borrowed, images, labels, norm=norm, eps=eps, steps=20)
        assert (borrowed(result).argmax(1) != labels).item() == (factor > 1)
    assert result.equal(images) == (factor < 1)


def test_a_sample_that_is_wrong_already_costs_no_backward_pass(tiny_net, drawn):
    images, _ = drawn(0)
    with AuditModel(tiny_net()).borrow() as model:
        with torch.no_grad():
            labels = (model(images).argmax(1) + 1) % 4
        before = model.cost
        assert fab_t(model, images, labels).equal(images)
        assert model.cost - before == Cost(2 * len(images), 0)


def test_with_eps_a_sample_leaves_with_the_first_that_fools_within_it(resnet4b_model, cifar):
    images, labels = (each[:24] for each in cifar)
    with resnet4b_model.borrow() as model:
        nearest = fab_t(model, images, labels, steps=15, targets=2)
        whole = model.cost
        first = fab_t(model, images, labels, steps=15, targets=2, eps=4 / 255)
        assert model.cost.forward < 1.8 * whole.forward
    within = [length(each - images, "linf") for each in (nearest, first)]
    assert ((first != images).flatten(1).any(1) == ((within[0] <= 4 / 255) & (within[0] > 0))).all()
    assert (within[0] <= within[1])[within[1] > 0].all()
    assert (within[0] < within[1]).any()


def test_restarts_find_nothing_farther_and_something_nearer(resnet4b_model, cifar):
    images, labels = (each[:24] for each in cifar)
    with resnet4b_model.borrow() as model:
        once, thrice = (
            length(fab_t(model, images, labels, norm="l2", steps=5, targets=1, restarts=restarts) - images, "l2")
            for restarts in (1, 3)
        )
    assert (thrice <= once).all()
    assert (thrice < once).any()


@pytest.mark.parametrize("classes", [2, 3])
def test_there_may_be_fewer_classes_than_targets(tiny_net, drawn, assert_answers, classes):
    images, labels = drawn(1)
    with AuditModel(tiny_net(classes=classes)).borrow() as model:
        result = fab_t(model, images, labels % classes, steps=5)
        assert_answers(model, images, labels % classes, result)


@pytest.fixture
def torchattacks_nearest(monkeypatch):
    """For each sample the nearest point that fools and its distance, by torchattacks' FAB over three targets."""
    import torchattacks

    gradients = torchattacks.FAB.get_diff_logits_grads_batch_targeted

    def contiguous(self, *args):  # it takes a view of what torch may return in the format channels_last
        values, gradient = gradients(self, *args)
        return values, gradient.contiguous()

    monkeypatch.setattr(torchattacks.FAB, "get_diff_logits_grads_batch_targeted", contiguous)

    def attack(model, images, labels, norm, steps):
        fab = torchattacks.FAB(model, norm={"linf": "Linf", "l2": "L2", "l1": "L1"}[norm], steps=steps)
        fab.multi_targeted = True
        nearest, best = torch.full((len(images),), torch.inf), images.clone()
        for fab.target_class in (2, 3, 4):  # from the likeliest; its own loop keeps the first within eps, in L∞ and L2
            found = fab.attack_single_run_targeted(images, labels)
            with torch.no_grad():
                size = length(found - images, norm).where(model(found).argmax(1) != labels, torch.inf)
            best[size < nearest] = found[size < nearest]
            nearest = torch.minimum(nearest, size)
        return best, nearest

    return attack


@pytest.mark.filterwarnings("ignore:Please import .gaussian_filter.:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "norm"),
    [("resnet20", "linf"), ("resnet20", "l2"), *(("resnet4b", norm) for norm in NORMS)],
)
def test_it_finds_as_near_as_torchattacks_for_half_the_forward_passes(
    request, cifar, patches, torchattacks_nearest, name, norm
):
    with request.getfixturevalue(f"{name}_model").borrow() as model:
        images, labels = (each[:16] for each in patches) if name == "resnet20" else (each[:48] for each in cifar)
        with torch.no_grad():
            right = model(images).argmax(1) == labels
        images, labels = images[right], labels[right]
        before = model.cost
        ours = fab_t(model, images, labels, norm=norm, steps=20, targets=3)
        cost = model.cost - before
        with torch.no_grad():
            size = length(ours - images, norm).where(model(ours).argmax(1) != labels, torch.inf)
        before = model.cost
        _, expected = torchattacks_nearest(model, images, labels, norm, 20)
    for eps in expected.quantile(torch.tensor([0.25, 0.5, 0.75])):  # no matter the radius, as many are within it
        assert (size <= eps).sum() >= (expected <= eps).sum() - 1
    assert size.median() <= 1.02 * expected.median()
    assert cost.forward < 0.6 * (model.cost - before).forward
