"""Attack objects of other libraries: the same answers as by hand, no weaker attack unnoticed, nothing left changed."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.attacks.adapters import adapted

pytestmark = pytest.mark.filterwarnings("ignore:Please import .gaussian_filter.:DeprecationWarning")


@pytest.fixture
def foolbox():
    return pytest.importorskip("foolbox", exc_type=ImportError)


@pytest.fixture
def torchattacks():
    return pytest.importorskip("torchattacks", exc_type=ImportError)


@pytest.fixture
def tiny(tiny_net):
    """A small model and images of which each is its own class or another's by a little."""
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = tiny_net().float()
    with torch.no_grad():
        net.linear.bias -= net(images).mean(0)
        return AuditModel(net), Samples.from_tensors(images, net(images).argmax(1))


@pytest.fixture(params=["tiny", "resnet20"])
def audited(request):
    """A model, samples that it gets right, and a radius in L∞ at which some of them stand."""
    if request.param == "tiny":
        return *request.getfixturevalue("tiny"), 2 / 255
    return request.getfixturevalue("resnet20_model"), request.getfixturevalue("cifar_samples")[:8], 0.5 / 255


@pytest.fixture
def elsewhere():
    """A model that nobody may attack: the one that an object of torchattacks was made with."""

    class Elsewhere(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            raise AssertionError("attacked the model that the attack was made with")

    return Elsewhere().train()


def batch(samples):
    return torch.stack([sample.image for sample in samples]), torch.tensor([sample.label for sample in samples])


def by_hand(model, samples, attack):
    """Which samples hold against `attack(borrowed, images, labels)`, N bool."""
    images, labels = batch(samples)
    with model.borrow() as borrowed:
        with torch.no_grad():
            correct = borrowed(images).argmax(1) == labels
        candidates = attack(borrowed, images, labels)
        with torch.no_grad():
            return (correct & (borrowed(candidates).argmax(1) == labels)).tolist()


def everything(attack):
    """All that an attack and those inside it hold, for a comparison by `==`."""
    return [dict(vars(attack)), *(everything(inner) for inner in attack._attacks.values())]


def calls(attack, model, samples, **settings):
    images, labels = batch(samples)
    with model.borrow() as borrowed:
        return adapted(attack)(borrowed, images, labels, **settings)


LINF = {"norm": "linf", "eps": 2 / 255, "targeted": False}
L2 = {"norm": "l2", "eps": 0.2, "targeted": False}


# foolbox


def test_foolbox_fools_the_same_samples_as_by_hand(foolbox, audited):
    model, samples, eps = audited
    attack = foolbox.attacks.LinfPGD(steps=5, rel_stepsize=0.25, random_start=False)

    def hand(borrowed, images, labels):
        return attack(foolbox.PyTorchModel(borrowed, (0, 1), device=images.device), images, labels, epsilons=eps)[1]

    held = by_hand(model, samples, hand)
    assert 0 < sum(held) < 8
    found = Audit(model, samples, device="cpu").attack("linf", eps, attack=attack)
    assert found.per_sample["robust"].tolist() == held
    assert found.attacks == ("foolbox LinfProjectedGradientDescentAttack",)


def test_foolbox_aims_at_the_target(foolbox, tiny):
    model, samples = tiny
    images, labels = batch(samples)
    targets = (labels + 1) % 4
    with model.borrow() as borrowed:
        found = adapted(foolbox.attacks.LinfPGD(steps=20))(
            borrowed, images, targets, norm="linf", eps=0.1, targeted=True
        )
        assert (borrowed(found).argmax(1) == targets).sum() > 4


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda a: a.LinfDeepFoolAttack(steps=10), LINF),
        (lambda a: a.L2CarliniWagnerAttack(steps=20, binary_search_steps=2), L2),
        (lambda a: a.L1FMNAttack(steps=10), {"norm": "l1", "eps": 3.0, "targeted": False}),
        (lambda a: a.L1FastGradientAttack(), {"norm": "l1", "eps": 12.0, "targeted": False}),
        (lambda a: a.L0FMNAttack(steps=10), {"norm": "l0", "eps": 12.0, "targeted": False}),
    ],
)
def test_what_foolbox_finds_stays_within_eps(foolbox, audited, make, settings):
    """An audit refuses what does not."""
    model, samples, _ = audited
    found = Audit(model, samples, device="cpu").attack(attack=make(foolbox.attacks), **settings)
    assert len(found.per_sample["robust"]) == 8


@pytest.mark.parametrize(
    ("make", "changed", "message"),
    [
        (lambda a: a.LinfPGD(), L2, "LinfProjected.* measures Linf distance, but the norm asked for is 'l2'"),
        (lambda a: a.L2CarliniWagnerAttack(), {}, "L2Carlini.* measures L2 distance, .* 'linf'"),
        (lambda a: a.InversionAttack(), {}, "has no distance.*distance=foolbox.distances.linf"),
        (lambda a: a.SpatialAttack(), {}, "has no distance"),
        (lambda a: a.LinfDeepFoolAttack(), {"targeted": True}, "cannot be targeted"),
        (lambda a: a.LinfFastGradientAttack(), {"targeted": True}, "does not go with targeted=True"),
        (lambda a: a.GenAttack(), {}, "does not go with targeted=False"),
        (
            lambda a: a.LinfPGD(),
            {"eps": None},
            "Linf.* keeps to a radius and does not look.*DDNAttack",
        ),
    ],
)
def test_what_foolbox_cannot_do_is_said(foolbox, tiny, make, changed, message):
    with pytest.raises(AuditError, match=message):
        calls(make(foolbox.attacks), *tiny, **{**LINF, **changed})


def test_an_attack_of_the_users_that_extends_one_of_foolbox_is_called_the_same_way(foolbox, tiny):
    class Mine(foolbox.attacks.LinfPGD):
        def get_random_start(self, x0, epsilon):
            warnings.warn("a warning of an attack is not the suite's", stacklevel=2)
            return x0

    mine = calls(Mine(steps=5), *tiny, **LINF)
    assert mine.equal(calls(foolbox.attacks.LinfPGD(steps=5, random_start=False), *tiny, **LINF))
    assert adapted(Mine()).__name__ == "foolbox Mine"


# torchattacks


@pytest.mark.parametrize("normalised", [False, True])
def test_torchattacks_fools_the_same_samples_as_by_hand(torchattacks, elsewhere, audited, normalised):
    model, samples, eps = audited
    settings = {"eps": eps, "alpha": eps / 4, "steps": 5, "random_start": False}
    held = by_hand(model, samples, lambda borrowed, *given: torchattacks.PGD(borrowed, **settings)(*given))
    assert 0 < sum(held) < 8
    attack = torchattacks.PGD(elsewhere, **settings)
    if normalised:
        attack.set_normalization_used((0.4,) * 3, (0.2,) * 3)
    before = everything(attack)
    found = Audit(model, samples, device="cpu").attack("linf", eps, attack=attack)
    assert found.per_sample["robust"].tolist() == held
    assert found.attacks == ("torchattacks PGD",)
    assert everything(attack) == before
    assert attack.model is elsewhere
    assert elsewhere.training


def test_all_of_autoattack_attacks_the_model_under_audit(torchattacks, elsewhere, resnet20_model, cifar_samples):
    samples, eps = cifar_samples[:3], 0.5 / 255

    def make(model):
        attack = torchattacks.AutoAttack(model, eps=eps, seed=0)
        attack._autoattack.attacks[-1].n_queries = 50  # of Square: 5000 take a minute
        return attack

    held = by_hand(resnet20_model, samples, lambda borrowed, *given: make(borrowed)(*given))
    assert 0 < sum(held) < 3
    attack = make(elsewhere)
    before = everything(attack)
    found = Audit(resnet20_model, samples, device="cpu").attack("linf", eps, attack=attack)
    assert found.per_sample["robust"].tolist() == held
    assert everything(attack) == before
    assert attack._autoattack.attacks[2].model is elsewhere


@pytest.mark.parametrize("targeted", [False, True])
def test_an_attack_is_given_back_as_it_was_whatever_the_model_does(torchattacks, elsewhere, targeted):
    class Breaking(nn.Module):
        passes = 0

        def forward(self, images):
            self.passes += 1
            if self.passes == 3:
                raise RuntimeError("broken")
            return images.flatten(1)

    attack = torchattacks.PGD(elsewhere, eps=2 / 255)
    attack.set_normalization_used((0.4,) * 3, (0.2,) * 3)
    attack.set_model_training_mode(model_training=True)
    before, model = everything(attack), Breaking().eval()
    with pytest.raises(RuntimeError, match="broken"):
        adapted(attack)(
            model, torch.rand(2, 3, 2, 2), torch.zeros(2).long(), norm="linf", eps=2 / 255, targeted=targeted
        )
    assert everything(attack) == before
    assert not model.training


def test_an_attack_that_makes_another_as_it_runs_does_not_keep_it(torchattacks, elsewhere, tiny):
    class Growing(torchattacks.PGD):
        def forward(self, images, labels):
            self.inner = torchattacks.FGSM(self.model, self.eps)
            return self.inner(images, labels)

    attack = Growing(elsewhere, eps=2 / 255)
    calls(attack, *tiny, **LINF)
    assert not attack._attacks
    assert not hasattr(attack, "inner")


def test_torchattacks_aims_at_the_target_and_forgets_it(torchattacks, elsewhere, tiny):
    model, samples = tiny
    images, labels = batch(samples)
    targets = (labels + 1) % 4
    attack = torchattacks.PGD(elsewhere, eps=0.1, steps=20)
    with model.borrow() as borrowed:
        found = adapted(attack)(borrowed, images, targets, norm="linf", eps=0.1, targeted=True)
        assert (borrowed(found).argmax(1) == targets).sum() > 4
    assert attack.get_mode() == "default"
    assert not attack.targeted


def test_the_smallest_perturbation_of_foolbox_and_torchattacks_is_that_by_hand(foolbox, torchattacks, tiny):
    model, samples = tiny
    images, labels = batch(samples)
    attack = foolbox.attacks.DDNAttack(steps=30)
    with model.borrow() as borrowed:
        by_hand = attack(foolbox.PyTorchModel(borrowed, (0, 1), device=images.device), images, labels, epsilons=None)[1]
    sizes = (by_hand - images).flatten(1).norm(dim=1)
    found = Audit(model, samples, device="cpu").min_perturbation("l2", attack=attack).per_sample["perturbation"]
    assert (found <= sizes.numpy() + 1e-6).all()  # shortened along its way
    assert found == pytest.approx(sizes.numpy(), rel=0.1)
    cw = torchattacks.CW(model.module, c=5, steps=40, lr=0.02)
    found = Audit(model, samples, device="cpu").min_perturbation("l2", attack=cw)
    assert (found.per_sample["perturbation"] < 2 * sizes.numpy()).sum() >= 2  # of those that it can fool with this c


@pytest.mark.parametrize("name", ["CW", "DeepFool"])
def test_a_minimum_norm_attack_counts_only_within_eps(torchattacks, elsewhere, tiny, name):
    model, samples = tiny
    images, _ = batch(samples)
    options = {"CW": {"c": 5, "steps": 40, "lr": 0.02}, "DeepFool": {"overshoot": 0.1}}[name]
    attack = getattr(torchattacks, name)(elsewhere, **options)
    far = calls(attack, model, samples, norm="l2", eps=100.0, targeted=False)
    sizes = (far - images).flatten(1).norm(dim=1)
    eps = float(sizes.median()) + 1e-6
    near = calls(attack, model, samples, norm="l2", eps=eps, targeted=False)
    assert 0 < (sizes <= eps).sum() < 8
    assert near[sizes <= eps].equal(far[sizes <= eps])
    assert near[sizes > eps].equal(images[sizes > eps])
    found = Audit(model, samples, device="cpu").attack("l2", eps, attack=attack)
    assert found.per_sample["robust"][(sizes > eps).numpy()].all()


@pytest.mark.parametrize(
    ("make", "changed", "message"),
    [
        (lambda t, m: t.PGD(m, eps=1 / 255), {}, "eps=0.00392157, but the eps asked for is 0.00784314; give the same"),
        (lambda t, m: t.PIFGSM(m, max_epsilon=1 / 255), {}, "eps=0.00392157"),
        (lambda t, m: t.MultiAttack([t.PGD(m, eps=2 / 255), t.PGD(m, eps=1 / 255)]), {}, "give the same eps"),
        (lambda t, m: t.PGD(m, eps=2 / 255), {"eps": None}, "PGD keeps to a radius and does not look for the smallest"),
        (lambda t, m: t.PGDL2(m, eps=2 / 255), {}, "PGDL2 measures l2, but the norm asked for is 'linf'"),
        (lambda t, m: t.CW(m), {}, "CW measures l2, but"),
        (lambda t, m: t.APGD(m, norm="L2", eps=2 / 255), {}, "APGD measures l2, but"),
        (lambda t, m: t.AutoAttack(m, eps=2 / 255), {"norm": "l2"}, "AutoAttack measures linf, but.*'l2'"),
        (lambda t, m: t.MultiAttack([t.CW(m), t.DeepFool(m)]), {"norm": "l2"}, "one by one"),
        (lambda t, m: t.APGD(m, eps=2 / 255), {"targeted": True}, "APGD cannot be targeted"),
        (lambda t, m: t.FAB(m, norm="Linf", eps=2 / 255), {"targeted": True}, "FAB cannot be targeted"),
    ],
)
def test_what_torchattacks_cannot_do_is_said(torchattacks, elsewhere, tiny, make, changed, message):
    attack = make(torchattacks, elsewhere)
    before = everything(attack)
    with pytest.raises(AuditError, match=message):
        calls(attack, *tiny, **{**LINF, **changed})
    assert everything(attack) == before


def test_a_mode_that_takes_labels_for_targets_would_find_nothing_and_is_refused(torchattacks, elsewhere, tiny):
    attack = torchattacks.PGD(elsewhere, eps=2 / 255)
    attack.set_mode_targeted_by_label(quiet=True)
    with pytest.raises(AuditError, match="targeted=True, or call its set_mode_default"):
        calls(attack, *tiny, **LINF)


def test_a_seed_from_the_clock_is_replaced(torchattacks, elsewhere, tiny):
    """AutoAttack takes the time of day where it is given no seed."""
    first, second = (calls(torchattacks.APGD(elsewhere, eps=2 / 255, seed=each), *tiny, **LINF) for each in (1.5, 2.5))
    assert first.equal(second)
    third, fourth = (calls(torchattacks.APGD(elsewhere, eps=2 / 255, seed=each), *tiny, **LINF) for each in (1, 2))
    assert not third.equal(fourth)


# Neither


def test_a_callable_of_the_users_is_left_alone():
    class LinfPGD:
        def __call__(self, model, images, labels):
            return images

    for each in (LinfPGD(), LinfPGD, lambda model, images, labels: images, "pgd", None, nn.Identity()):
        assert adapted(each) is None


def test_no_library_is_imported_to_look_for_its_attacks():
    program = (
        "import sys; from pytest_cnnaudit.attacks.cascade import bind\n"
        "bind([lambda model, images, labels: images, 'fgsm'], norm='linf', eps=0.1, targeted=False, options={})\n"
        "assert not {'foolbox', 'torchattacks'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
