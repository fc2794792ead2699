import functools

import pytest
import torch

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.attacks.cascade import AUTO, bind

ARGUMENTS = {"norm": "l2", "eps": 0.5, "targeted": False, "options": {}}
IMAGES, LABELS, SEEDS = torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), torch.tensor([7, 8])


def bound(choice, **changed):
    return bind(choice, **{**ARGUMENTS, **changed})


def test_auto_is_the_cascade_of_named_attacks_cheapest_first():
    assert tuple(each.name for each in bound("auto")) == AUTO == ("fgsm", "pgd")


def test_a_callable_gets_of_the_settings_what_it_has_parameters_for():
    def mine(model, images, labels, *, eps, seeds):
        return images + eps + seeds[:, None, None, None]

    (attack,) = bound(mine)
    assert attack.name == "mine"
    assert attack.run(None, IMAGES, LABELS, SEEDS).equal(IMAGES + 0.5 + SEEDS[:, None, None, None])


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
        attack.run(None, IMAGES, LABELS, SEEDS)
    assert seen == {"first": 3, "second": (3, "l2"), "third": None}


def test_a_callable_with_keywords_takes_any_option_and_a_partial_or_a_class_is_a_callable():
    class Attack:
        def __call__(self, model, images, labels, **options):
            return images + options["shift"]

    (attack,) = bound(Attack(), options={"shift": 2})
    assert attack.name == "Attack"
    assert attack.run(None, IMAGES, LABELS, SEEDS).equal(IMAGES + 2)
    (attack,) = bound(functools.partial(lambda model, images, labels, shift: images + shift, shift=3))
    assert attack.run(None, IMAGES, LABELS, SEEDS).equal(IMAGES + 3)


@pytest.mark.parametrize(
    ("choice", "changed", "message"),
    [
        ("pdg", {}, "no attack 'pdg'.*'fgsm', 'pgd'"),
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
