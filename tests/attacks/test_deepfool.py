import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.attacks.deepfool import deepfool
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.results import Cost

norms = st.sampled_from(["linf", "l2"])


@given(norm=norms, seed=st.integers(0, 999), overshoot=st.floats(0, 0.1))
def test_a_linear_classifier_is_fooled_in_one_step_just_beyond_its_boundary(linear, norm, seed, overshoot):
    model, images, labels, distances = linear(seed)
    result = deepfool(model, images, labels, norm=norm, steps=2, overshoot=overshoot)
    wanted = (1 + overshoot) * (distances[norm] + 1e-4)
    torch.testing.assert_close(length(result - images, norm), wanted, rtol=0, atol=1e-9)


def test_a_boundary_among_the_likeliest_classes_is_cheaper_and_not_nearer(resnet20_model, cifar):
    images, labels = (each[:8].double() if each.is_floating_point() else each[:8] for each in cifar)
    with resnet20_model.borrow() as model:
        costs, lengths = [], []
        for classes in (2, 10, 99):
            before = model.cost
            result = deepfool(model, images, labels, classes=classes)
            costs.append((model.cost - before).backward)
            lengths.append(length(result - images, "l2").median())
    assert costs[0] < costs[1] == costs[2]
    assert lengths[0] >= lengths[1] == lengths[2]


def test_passes_are_counted(tiny_net, drawn):
    images, _ = drawn(0, 6)
    with AuditModel(tiny_net()).borrow() as model:
        with torch.no_grad():
            labels = model(images).argmax(1)
        costs = []
        for fooled in (0, 1, 3, 6):
            before, given_labels = model.cost, labels.clone()
            given_labels[:fooled] = (labels[:fooled] + 1) % 4
            deepfool(model, images, given_labels, steps=2, overshoot=0, classes=4)
            costs.append(model.cost - before)
    # Both looks at those that stand, three ways back for each from the first: with one fooled of six the batch goes
    # back whole (18 passes rather than 5 + 15), with three the others look again, to go back alone (3 + 9).
    assert costs == [Cost(6 + 6, 18), Cost(6 + 5, 18), Cost(6 + 3 + 3, 9), Cost(6, 0)]


def test_a_sample_that_no_step_moves_leaves(unfoolable):
    model, images = unfoolable
    with model.borrow() as borrowed:
        before = borrowed.cost
        result = deepfool(borrowed, images, torch.ones(5, dtype=torch.int64), steps=50)
        # The first step takes all values to the border, the second stays there.
        assert borrowed.cost - before == Cost(2 * 5, 2 * 5)
    assert result.equal(images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_answers_are_those_of_adv_lib(adv_lib, compared, norm):
    model, images, labels = compared
    ours = deepfool(model, images, labels, norm=norm, steps=20)
    theirs = adv_lib.df(model, images, labels, steps=20, norm=2 if norm == "l2" else float("inf"))
    assert (theirs != images).flatten(1).any(1).sum() >= 7  # otherwise this test says little
    assert (ours - theirs).abs().max() <= 1e-8
