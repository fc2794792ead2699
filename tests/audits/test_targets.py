"""Targets, as people name them."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.audits.targets import Target, check_targets, named_targets

NAMES = ("elephant", "koala", "crane", "schooner", "crane")


class Net(nn.Module):
    """Maps of 4×3, tokens 12×6, vectors of 8; a layer that runs twice, and one that does not run."""

    def __init__(self):
        super().__init__()
        self.conv, self.embed, self.linear = nn.Conv2d(3, 6, 3), nn.Linear(6, 6), nn.Linear(6, 8)
        self.tail, self.relu, self.unused = nn.Linear(8, 5), nn.ReLU(), nn.Linear(2, 2)

    def forward(self, images):
        tokens = self.embed(self.relu(self.conv(images)).flatten(2).transpose(1, 2))
        return self.tail(self.relu(self.linear(tokens.mean(1))))


@pytest.fixture(scope="module")
def model():
    return AuditModel(Net(), class_names=NAMES, name="zoo")


IMAGE = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("wanted", "target"),
    [
        (1, Target(None, 1, None, "koala")),
        (np.int64(1), Target(None, 1, None, "koala")),
        (torch.tensor(1), Target(None, 1, None, "koala")),
        ("koala", Target(None, 1, None, "koala")),
        (("conv", 2), Target("conv", 2, None, "conv channel 2")),
        (("conv", np.int64(2), [0, 1]), Target("conv", 2, (0, 1), "conv channel 2 at (0, 1)")),
    ],
)
def test_one_target(model, wanted, target):
    assert named_targets(model, wanted) == (target,)
    assert named_targets(model, [wanted]) == (target,)
    assert named_targets(model, named_targets(model, wanted)[0]) == (target,)


def test_lists_keep_their_order_and_may_be_mixed(model):
    wanted = [3, ("conv", 0), "koala", ("embed", 5), ("conv", 0, (1, 2))]
    found = named_targets(model, wanted)
    assert [target.name for target in found] == [
        "schooner",
        "conv channel 0",
        "koala",
        "embed channel 5",
        "conv channel 0 at (1, 2)",
    ]
    assert named_targets(model, list(found)) == found
    assert named_targets(model, iter(wanted)) == found


@pytest.mark.parametrize("wanted", [range(4), np.arange(4), torch.arange(4), (each for each in range(4)), {0, 1, 2, 3}])
def test_whatever_numbers_can_be_taken_from_is_a_list(model, wanted):
    assert [target.channel for target in named_targets(model, wanted)] == [0, 1, 2, 3]


def test_two_classes_of_one_name_are_told_apart_by_their_numbers(model):
    found = named_targets(model, [2, 1, 4])
    assert [target.name for target in found] == ["crane (2)", "koala", "crane (4)"]
    assert named_targets(model, list(found)) == found
    assert named_targets(model, 2)[0].name == "crane"


def test_classes_without_names_go_by_their_numbers():
    assert named_targets(AuditModel(Net()), 3)[0].name == "class 3"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("koalla", "'koalla' is none of the 5 class names of 'zoo'. Did you mean 'koala'"),
        ("elefant", "Did you mean 'elephant'"),
        ("crane", r"'crane' is the name of 2 classes of 'zoo' \(numbers 2, 4\); give the number of one"),
        ("conv", r"'conv' is a layer; name one of its channels, for example \('conv', 0\)"),
        (("con", 0), "no layer 'con' in Net. Did you mean 'conv'"),
        (1.0, "1.0 is not a target; give a class by number or name"),
        (None, "None is not a target"),
        ((0, 1), r"\(0, 1\) is not a target; .* or a list of these"),
        (("conv",), "is not a target"),
        (("conv", "first"), "is not a target"),
        (("conv", 0, 3), "is not a target"),
        (("conv", 0, (1,)), "is not a target"),
        (("conv", 0, (1, 2.5)), "is not a target"),
        (("conv", 0, (1, 2), 3), "is not a target"),
        ([1, 2.5], "2.5 is not a target"),
        ([], "no target in the list"),
        ([1, 1], "'koala' is given twice"),
        ([1, "koala"], "'koala' is given twice"),
        ([("conv", 0, (1, 2))] * 2, r"'conv channel 0 at \(1, 2\)' is given twice"),
    ],
)
def test_what_is_no_target_is_refused(model, wanted, message):
    with pytest.raises(AuditError, match=message):
        named_targets(model, wanted)


def test_names_that_there_are_not_are_asked_for():
    with pytest.raises(AuditError, match=r"'koala' is not known: 'Net' has no class names. Give class_names"):
        named_targets(AuditModel(Net()), "koala")


def check(model, *wanted):
    targets = named_targets(model, list(wanted))
    with model.borrow() as borrowed:
        check_targets(model, borrowed, targets, IMAGE)
        return borrowed.cost.forward


def test_targets_that_there_are_cost_a_pass_and_one_for_each_layer(model):
    assert check(model, 0, 3) == 1 + 0
    wanted = (0, ("conv", 5), ("conv", 0, (3, 2)), ("embed", 5), ("linear", 7))
    assert check(model, *wanted) == 1 + 3


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (5, "'class 5' is not there: there are 5 classes, numbered from 0"),
        (-1, "'class -1' is not there"),
        (("conv", 6), "'conv channel 6' is not there: there are 6 channels in 'conv', numbered from 0"),
        (("conv", -1), "'conv channel -1' is not there"),
        (("embed", 6), "there are 6 channels in 'embed'"),
        (("linear", 8), "there are 8 channels in 'linear'"),
        (("conv", 0, (4, 0)), r"at \(4, 0\)' is not there: 'conv' returns a map of 4×3 for an image of this size"),
        (("conv", 0, (0, 3)), "a map of 4×3"),
        (("conv", 0, (-1, 0)), "give a row and a column inside"),
        (("embed", 0, (0, 0)), r"'embed' returns \(1, 12, 6\), which is no map"),
        (("linear", 0, (0, 0)), "which is no map"),
        (("relu", 0), "Layer 'relu': The layer runs 2 times"),
        (("unused", 0), "Layer 'unused': The layer did not run"),
    ],
)
def test_what_the_model_does_not_have_is_refused_with_what_it_has(model, wanted, message):
    with pytest.raises(AuditError, match=message):
        check(model, 0, wanted)


def test_images_that_the_model_does_not_take_are_named_by_their_shape(model):
    with (
        pytest.raises(AuditError, match=r"'zoo' does not take images of 1×6×5"),
        model.borrow() as borrowed,
    ):
        check_targets(model, borrowed, named_targets(model, 0), IMAGE[:1])
