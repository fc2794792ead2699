"""FGSM and PGD against foolbox and torchattacks: same model, same start, same images.

In double precision: each library rounds in its own order, and the sign of a gradient that is zero but for rounding
would send a pixel the other way. With doubles every sample agrees, so that none needs to be excused.
"""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.attacks import fgsm, pgd
from pytest_cnnaudit.attacks.norms import uniform

pytestmark = [
    pytest.mark.filterwarnings("ignore:Please import .gaussian_filter.:DeprecationWarning"),  # foolbox, on import
]

TOLERANCE = 1e-5
STEPS = 5
SETTINGS = [("linf", 2 / 255), ("l2", 0.25)]


class Recorder(nn.Module):
    """Remembers what an attack shows to the model: its iterates."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.model(images)


@pytest.fixture(params=["resnet20", "tiny"])
def attacked(request, tiny_net):
    """A borrowed model in double precision, images (some pixels are 0 or 1), and the labels it gives them."""
    if request.param == "resnet20":
        module = request.getfixturevalue("resnet20").double()
        known = request.getfixturevalue("resnet20_model")
        model = AuditModel(module, mean=known.mean, std=known.std)
        images = request.getfixturevalue("cifar")[0][:6].double()
    else:
        model = AuditModel(tiny_net(), mean=(0.5,) * 3, std=(0.25,) * 3)
        images = (1.4 * torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double() - 0.2).clamp(0, 1)
    with model.borrow() as borrowed:
        with torch.no_grad():
            labels = borrowed(images).argmax(1)
        yield borrowed, images, labels


def foolbox_attack(model, images, labels, norm, eps, *, steps, step_size, start=None, targeted=False):
    """foolbox's PGD from `start` (a difference), or its FGSM where `steps` is None."""
    import foolbox

    prefix = {"linf": "Linf", "l2": "L2"}[norm]
    criterion = foolbox.criteria.TargetedMisclassification(labels) if targeted else labels
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)  # it would move the model
    if steps is None:
        return getattr(foolbox.attacks, f"{prefix}FastGradientAttack")()(wrapped, images, criterion, epsilons=eps)[0]
    base = getattr(foolbox.attacks, f"{prefix}ProjectedGradientDescentAttack")

    class FromStart(base):
        def get_random_start(self, x0, epsilon):
            return x0 + type(x0)(start)

    attack = FromStart(abs_stepsize=step_size, steps=steps, random_start=start is not None)
    return attack(wrapped, images, criterion, epsilons=eps)[0]


def torchattacks_attack(model, images, labels, norm, eps, *, steps, step_size, targeted=False):
    """torchattacks' PGD, or its FGSM where `steps` is None, always from the image itself."""
    import torchattacks

    if steps is None:
        attack = torchattacks.FGSM(model, eps)
    elif norm == "linf":
        attack = torchattacks.PGD(model, eps, step_size, steps, random_start=False)
    else:  # its default of 1e-10 is no small number beside the gradient of a sample that the model is sure of
        attack = torchattacks.PGDL2(model, eps, step_size, steps, random_start=False, eps_for_division=0)
    if targeted:
        attack.set_mode_targeted_by_label(quiet=True)
    return attack(images, labels)


def iterates(attack, model, *args, steps, **kwargs):
    """All iterates of a library's attack, (steps + 1)×N×C×H×W: what it showed to the model, and what it returned."""
    recorder = Recorder(model).eval()
    last = attack(recorder, *args, steps=steps, **kwargs)
    return torch.stack([*recorder.seen[:steps], last])


def assert_first_fooling_or_last(model, labels, ours, reference, *, targeted=False):
    """Each sample of ours is the reference's first iterate that fools; a standing one is its last iterate."""
    with torch.no_grad():
        hit = torch.stack([model(images).argmax(1) == labels for images in reference])
    fooled = hit if targeted else ~hit
    number = torch.where(fooled.any(0), fooled.int().argmax(0), len(reference) - 1)
    expected = reference[number, torch.arange(len(labels))]
    assert (ours - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("norm", "eps"), SETTINGS)
def test_fgsm_gives_the_images_of_foolbox(attacked, norm, eps):
    model, images, labels = attacked
    theirs = foolbox_attack(model, images, labels, norm, eps, steps=None, step_size=None)
    assert (fgsm(model, images, labels, norm=norm, eps=eps) - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_gives_the_images_of_torchattacks(attacked, targeted):
    model, images, labels = attacked
    labels = (labels + 1) % 4 if targeted else labels
    theirs = torchattacks_attack(model, images, labels, "linf", 4 / 255, steps=None, step_size=None, targeted=targeted)
    ours = fgsm(model, images, labels, eps=4 / 255, targeted=targeted)
    assert (ours - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("norm", "eps"), SETTINGS)
def test_pgd_gives_the_images_of_foolbox_from_the_same_random_start(attacked, norm, eps):
    model, images, labels = attacked
    settings = {"steps": STEPS, "step_size": 2.5 * eps / STEPS}
    seeds = torch.arange(100, 100 + len(images))
    start = uniform(images, norm, eps, seeds)
    theirs = iterates(foolbox_attack, model, images, labels, norm, eps, start=start, **settings)
    ours = pgd(model, images, labels, norm=norm, eps=eps, seeds=seeds, **settings)
    assert_first_fooling_or_last(model, labels, ours, theirs)


@pytest.mark.parametrize("reference", [foolbox_attack, torchattacks_attack])
@pytest.mark.parametrize(("norm", "eps"), SETTINGS)
def test_pgd_gives_the_images_of_both_libraries_from_the_image_itself(attacked, reference, norm, eps):
    model, images, labels = attacked
    settings = {"steps": STEPS, "step_size": 2.5 * eps / STEPS}
    theirs = iterates(reference, model, images, labels, norm, eps, **settings)
    ours = pgd(model, images, labels, norm=norm, eps=eps, random_start=False, **settings)
    assert_first_fooling_or_last(model, labels, ours, theirs)


@pytest.mark.parametrize("reference", [foolbox_attack, torchattacks_attack])
@pytest.mark.parametrize(("norm", "eps"), SETTINGS)
def test_targeted_pgd_gives_the_images_of_both_libraries(attacked, reference, norm, eps):
    model, images, labels = attacked
    targets = (labels + 1) % 4
    settings = {"steps": STEPS, "step_size": 2.5 * eps / STEPS, "targeted": True}
    theirs = iterates(reference, model, images, targets, norm, eps, **settings)
    ours = pgd(model, images, targets, norm=norm, eps=eps, random_start=False, **settings)
    assert_first_fooling_or_last(model, targets, ours, theirs, targeted=True)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 2 / 255), ("l2", 0.25)])
def test_samples_that_stand_end_at_the_last_iterate_of_foolbox(shared_models, cifar, norm, eps):
    mean, std = shared_models.NORMALISATION["cifar10_resnet4b"]
    model, images = AuditModel(shared_models.load("cifar10_resnet4b").double(), mean=mean, std=std), cifar[0].double()
    with model.borrow() as borrowed:
        with torch.no_grad():
            labels = borrowed(images).argmax(1)
        seeds = torch.arange(len(images))
        settings = {"steps": STEPS, "step_size": 2.5 * eps / STEPS}
        ours = pgd(borrowed, images, labels, norm=norm, eps=eps, seeds=seeds, **settings)
        start = uniform(images, norm, eps, seeds)
        theirs = foolbox_attack(borrowed, images, labels, norm, eps, start=start, **settings)
        with torch.no_grad():
            standing = borrowed(ours).argmax(1) == labels
    assert 10 < standing.sum() < len(images)  # otherwise this test says nothing
    assert (ours - theirs)[standing].abs().max() <= TOLERANCE


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_single_precision_agrees_with_foolbox_where_cross_entropy_can_be_resolved(resnet20_model, cifar, norm):
    """Where the model is surer, 1 − p is lost to rounding in the reference's cross-entropy, and so is its gradient."""
    eps = {"linf": 2 / 255, "l2": 0.25}[norm]
    with resnet20_model.borrow() as model:
        with torch.no_grad():
            unsure = model(cifar[0]).softmax(1).gather(1, cifar[1][:, None])[:, 0] < 0.97
        images, labels = (each[unsure] for each in cifar)
        assert len(images) >= 5
        ours = fgsm(model, images, labels, norm=norm, eps=eps)
        theirs = foolbox_attack(model, images, labels, norm, eps, steps=None, step_size=None)
    differs = (ours - theirs).abs() > TOLERANCE
    assert differs.double().mean() < 1e-3  # pixels whose gradient is zero but for rounding


@pytest.mark.parametrize("attack", [fgsm, pgd])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.5 / 255), ("l2", 0.06)])
def test_being_surer_is_no_defence(resnet20_model, cifar, attack, norm, eps):
    """Logits times 100 leave every decision as it was; so must an attack. A cross-entropy's gradient would be zero."""
    images, labels = cifar
    with resnet20_model.borrow() as model:
        fooled = [
            model(attack(lambda x, scale=scale: scale * model(x), images, labels, norm=norm, eps=eps)).argmax(1)
            != labels
            for scale in (1, 100)
        ]
    assert 8 < fooled[0].sum() < len(images)
    assert abs(int(fooled[0].sum()) - int(fooled[1].sum())) <= 3
