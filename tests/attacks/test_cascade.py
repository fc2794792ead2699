import functools

import pytest
import torch

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.attacks.cascade import ATTACKS, automatic, bind

ARGUMENTS = {"norm": "l2", "eps": 0.5, "targeted": False, "options": {}}
IMAGES, LABELS, SEEDS = torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), torch.tensor([7, 8])


def bound(choice, **changed):
    return bind(choice, **{**ARGUMENTS, **changed})


@pytest.mark.parametrize(
    ("norm", "auto", "targeted", "expected"),
    [
        ("linf", "fast", False, "pgd nearest apgd-t"),
        ("linf", "standard", False, "pgd nearest apgd-ce apgd-t fab-t square"),
        ("l2", "standard", True, "pgd nearest apgd-ce square"),
        ("l1", "standard", False, "nearest apgd-ce apgd-t fab-t"),
        ("l0", "fast", False, "nearest sigma-zero"),
    ],
)
def test_auto_is_a_cascade_of_the_named_attacks_that_can_do_it(norm, auto, targeted, expected):
    attacks = bound("auto", norm=norm, auto=auto, targeted=targeted)
    assert " ".join(each.name for each in attacks) == expected
    assert set(expected.split()) <= set(ATTACKS)


def test_there_is_no_other_auto():
    with pytest.raises(AuditError, match=r"no auto='best'.*'fast' or 'standard'"):
        automatic("best", "linf", targeted=False)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_attack_that_does_not_mind_its_batch_gets_no_more_than_fits(count):
    sizes = []

    def mine(model, images, labels, *, seeds):
        sizes.append(len(images))
        return images + seeds[:, None, None, None]

    images, seeds = torch.zeros(5, 1, 2, 2), torch.arange(5)
    found = bound(mine)[0].run(None, images, torch.zeros(5, dtype=torch.long), seeds, count)
    assert found[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert max(sizes) <= count


def test_underscores_will_do_in_names():
    assert bound("apgd_t")[0].name == "apgd-t"


def test_a_callable_gets_of_the_settings_what_it_has_parameters_for():
    def mine(model, images, labels, *, eps, seeds):
        return images + eps + seeds[:, None, None, None]

    (attack,) = bound(mine)
    assert attack.name == "mine"
    assert attack.run(None, IMAGES, LABELS, SEEDS, 2).equal(IMAGES + 0.5 + SEEDS[:, None, None, None])


def test_an_option_goes_to_every_attack_that_takes_it():
    seen = {}

    def first(model, images, labels, *, steps):
        seen["first"] = steps
        return images

    def second(model, images, labels, *, steps, norm):
        seen["second"] = steps, norm
        return images

    def third(model, images, labels):
        seen["third"] = None
        return images

    for attack in bound([first, second, third], options={"steps": 3}):
        attack.run(None, IMAGES, LABELS, SEEDS, 2)
    assert seen == {"first": 3, "second": (3, "l2"), "third": None}


def test_a_callable_with_keywords_takes_any_option_and_a_partial_or_a_class_is_a_callable():
    class Attack:
        def __call__(self, model, images, labels, **options):
            return images + options["shift"]

    (attack,) = bound(Attack(), options={"shift": 2})
    assert attack.name == "Attack"
    assert attack.run(None, IMAGES, LABELS, SEEDS, 2).equal(IMAGES + 2)
    (attack,) = bound(functools.partial(lambda model, images, labels, shift: images + shift, shift=3))
    assert attack.run(None, IMAGES, LABELS, SEEDS, 2).equal(IMAGES + 3)


@pytest.mark.parametrize(
    ("choice", "changed", "message"),
    [
        ("pdg", {}, "no attack 'pdg'.*'fgsm', 'pgd'.*'nearest'"),
        ([], {}, "at least one"),
        (3, {}, "3"),
        (["fgsm", 3], {}, "not 3"),
        ("pgd", {"options": {"step": 3}}, "takes 'step'.*steps"),
        ("fgsm", {"options": {"steps": 3}}, "fgsm takes 'steps'"),
        (lambda model, images, labels: images, {"targeted": True}, "'targeted'"),
    ],
)
def test_a_wrong_choice_is_named_with_what_would_do(choice, changed, message):
    with pytest.raises(AuditError, match=message):
        bound(choice, **changed)
