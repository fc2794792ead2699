"""Bad input, in real suites: one `AuditError` whose sentence names the thing, what was found, and the remedy."""

# ruff: noqa: E501  (one case a line, with the sentence it is answered with)

import textwrap
from pathlib import Path

import pytest

import pytest_cnnaudit.audit
import pytest_cnnaudit.gallery  # noqa: F401

CONFTEST = (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()
PRELUDE = """
import pytest, torch
from torch import nn
from conftest import TinyNet, quadrant_images
from pytest_cnnaudit import AuditModel, Samples

IMAGES, LABELS, BOXES = quadrant_images()

class Says(nn.Module):
    '''A network that answers what it is told to.'''

    def __init__(self, answer):
        super().__init__()
        self.net, self.answer = TinyNet().eval(), answer

    def forward(self, images):
        return self.answer(self.net(images))

"""
MODEL = "@pytest.fixture\ndef audit_model(): return "
SAMPLES = "@pytest.fixture\ndef audit_samples(): return "
ATTACK = "audit.attack(eps=0.1, attack='fgsm')"

CASES = {
    "images above 1": (f"{SAMPLES}Samples.from_tensors(IMAGES * 255, LABELS)", ATTACK,
                       "image of 0 has values from 76.5 to 102; images are in [0, 1]. Divide by 255."),
    "images below 0": (f"{SAMPLES}Samples.from_tensors(IMAGES - 0.5, LABELS)", ATTACK,
                       "values from -0.2 to -0.1; images are in [0, 1]. Leave normalisation to AuditModel"),
    "images not a number": (f"{SAMPLES}Samples.from_tensors(IMAGES * torch.nan, LABELS)", ATTACK, "values from nan to nan; images are in [0, 1]"),
    "a label too large": (f"{SAMPLES}Samples.from_tensors(IMAGES, LABELS + 1)", ATTACK,
                          "The label of 3 is 4, but the model 'tiny' has 4 classes (0 to 3). Check"),
    "a label below 0": (f"{SAMPLES}Samples.from_tensors(IMAGES, LABELS - 1)", ATTACK, "The label of 0 is -1, but the model 'tiny' has 4 classes"),
    "labels missing": (f"{SAMPLES}Samples.from_tensors(IMAGES, LABELS[:5])", ATTACK, "There are 8 images but 5 labels"),
    "a model that returns NaN": (f"{MODEL}AuditModel(Says(lambda logits: logits * torch.nan), name='sick')", ATTACK,
                                 "The model 'sick' returned NaN or infinite logits for 8 of 8 images. Check its weights"),
    "a model that returns a map": (f"{MODEL}AuditModel(Says(lambda logits: logits[:, :, None, None]), name='map')", ATTACK,
                                   "The model 'map' returned a tensor of shape (8, 4, 1, 1) for 8 images; a classifier returns logits of shape (8, classes). Pass output="),
    "a model that returns a pair": (f"{MODEL}AuditModel(Says(lambda logits: (logits, logits)), name='pair')", ATTACK,
                                    "The model 'pair' returned a tuple of 2, not a tensor of logits. Pass output="),
    "a model that takes other images": (f"{SAMPLES}Samples.from_tensors(IMAGES[:, :1], LABELS)", ATTACK, "1×16×16"),
    "a mean without a std": (f"{MODEL}AuditModel(TinyNet(), mean=(0.5,) * 3)", ATTACK, "needs mean and std together"),
    "a mean for other channels": (f"{MODEL}AuditModel(TinyNet(), mean=(0.5,), std=(0.5,), name='grey')", ATTACK,
                                  "'grey' normalises 1 channels, but the images have 3"),
    "an unknown layer": ("", "audit.filters('conv1')", "There is no layer 'conv1' in TinyNet. Did you mean 'conv'"),
    "an unknown layer for saliency": ("", "audit.saliency(layer='pol')", "There is no layer 'pol' in TinyNet. Did you mean 'pool'"),
    "a layer without filters": ("", "audit.filters('linear')", "The layer 'linear' is a Linear; filters are looked at in an nn.Conv2d"),
    "no boxes where needed": (f"{SAMPLES}Samples.from_tensors(IMAGES, LABELS)",
                              "audit.assert_saliency_localized(metric='pointing_game', min_score=0.5)",
                              "'pointing_game' needs to know where the object is, but tensors (8 images) has no boxes or masks: give Samples boxes="),
    "an unreadable image": (f"{SAMPLES}Samples.from_folder(broken_folder())", ATTACK, "cat/torn.png cannot be read"),
    "a folder that is not there": (f"{SAMPLES}Samples.from_folder('nowhere')", ATTACK, "There is no folder nowhere"),
    "a folder without images": (f"{SAMPLES}Samples.from_folder('.')", ATTACK, "There are no images in ."),
    "no samples": (f"{SAMPLES}Samples.from_tensors(IMAGES[:0], LABELS[:0])", ATTACK, "There are no samples"),
    "too few class names": (f"{MODEL}AuditModel(TinyNet(), class_names=['a', 'b'], name='two')", ATTACK,
                            "The model 'two' has 4 classes, but class_names names 2."),
    "an unknown attack": ("", "audit.attack(eps=0.1, attack='cw')", "There is no attack 'cw'; use 'auto', 'fgsm', 'pgd', 'apgd-ce'"),
    "an attack that is no attack": ("", "audit.attack(eps=0.1, attack=[3])", "An attack is a name or a callable (model, images, labels) -> images, not 3"),
    "no attack at all": ("", "audit.attack(eps=0.1, attack=[])", "holds no attack"),
    "an unknown norm": ("", "audit.attack(norm='l7', eps=0.1)", "There is no norm 'l7'; use one of 'linf', 'l2'"),
    "an unknown saliency method": ("", "audit.saliency('lime')", "There is no saliency method 'lime'; use 'gradient', 'gradient_x_input', 'smooth_grad'"),
    "an unknown metric": ("", "audit.assert_saliency_localized(metric='dice', min_score=0.5)", "There is no saliency metric 'dice'; use one of 'pointing_game'"),
    "an unknown option of an attack": ("", "audit.attack(eps=0.1, attack='pgd', stepz=3)", "No attack of pgd takes 'stepz'; they take random_start, restarts, step_size, steps"),
    "an unknown option of a method": ("", "audit.saliency('gradient', stepz=3)", "stepz"),
    "no steps": ("", "audit.attack(eps=0.1, attack='pgd', steps=0)", "steps=0 and restarts=1; both must be at least 1"),
    "a radius of 0": ("", "audit.attack(eps=0)", "eps=0 is not a radius; give a positive number in pixel units"),
    "a radius below 0": ("", "audit.attack(eps=-0.1)", "eps=-0.1 is not a radius"),
    "a radius that is not a number": ("", "audit.attack(eps=float('nan'))", "eps=nan is not a radius"),
    "a radius that is a word": ("", "audit.attack(eps='8/255')", "eps='8/255' is not a radius"),
    "an attack that leaves the ball": ("", "audit.attack(eps=0.1, attack=lambda model, images, labels: (images + 0.2).clamp(0, 1))",
                                       "left the ball: ‖δ‖ is 0.2 in linf, but eps is 0.1"),
    "an attack that leaves the images": ("", "audit.attack(eps=5, attack=lambda model, images, labels: images + 2)", "returned values from 2.3 to 2.7; images are in [0, 1]"),
    "an attack that returns NaN": ("", "audit.attack(eps=0.1, attack=lambda model, images, labels: images * torch.nan)", "returned values from nan to nan; images are in [0, 1]"),
    "an attack that returns another shape": ("", "audit.attack(eps=0.1, attack=lambda model, images, labels: images[:1])",
                                             "returned (1, 3, 16, 16) for images of (8, 3, 16, 16)"),
    "an attack that returns no tensor": ("", "audit.attack(eps=0.1, attack=lambda model, images, labels: None)", "NoneType"),
    "a target without targeted": ("", "audit.attack(eps=0.1, target=1)", "target=1 was given without targeted=True"),
    "a target that is no class": (f"{SAMPLES}Samples.from_tensors(IMAGES, LABELS)", "audit.attack(eps=0.1, targeted=True, target=9)",
                                  "target=9 is not a class: the model has 4"),
    "a target that is the label": ("", "audit.attack(eps=0.1, targeted=True, target=0)", "target=0 is already the label of 0; leave such samples out"),
    "an attack that cannot be targeted": ("", "audit.attack(eps=0.1, targeted=True, attack=lambda model, images, labels: images)",
                                          "has no parameter 'targeted'"),
    "a share above 1": ("", "audit.assert_robust(eps=0.1, min_accuracy=35)", "min_accuracy=35 is not a share; give a number from 0 to 1"),
    "a saliency target that is no class": ("", "audit.saliency(target=9)", "target=9 is neither a class (0 to 3) nor 'predicted'"),
    "no threshold where none fits": ("", "audit.assert_saliency_localized('gradient', metric='pointing_game')", "min_score= is needed"),
    "a saliency method of another shape": ("", "audit.saliency(lambda model, images, targets: images[:2])", "returned (2, 3, 16, 16) for 8 images"),
    "a saliency map that is not finite": ("", "audit.saliency(lambda model, images, targets: images * torch.nan)", "The saliency map of 0 is not finite"),
    "a grid of one": ("", "audit.saliency(grid=1)", "grid=1 is no grid; give 2"),
    "images to fool in a list": ("", "audit.fool([IMAGES[0]], 3)", "Images to fool are Samples (samples[3:4] for one of them), or a tensor N×C×H×W or C×H×W in [0, 1]"),
    "images to fool in an array": ("", "audit.fool(IMAGES.numpy(), 3)", "(see torch.stack and torch.from_numpy), not ndarray."),
    "a target that is no number": ("", "audit.fool(None, 2.5)", "target=2.5 is not a class; give its number or its name"),
    "nothing left to fool": ("", "audit.assert_fooling_needs(IMAGES[3], 'bottom right', at_least=0.1)",
                             "Nothing is left to turn into bottom right: all 1 images are that from the start. Give images of other classes, or another target."),
    "two thresholds for the median": ("", "audit.assert_min_perturbation(median=0.3, quantiles={0.5: 0.1})",
                                      "median=0.3 and quantiles={0.5: 0.1} are thresholds of the same figure; give one."),
    "out of memory at batch size 1": (f"def full(logits): raise torch.OutOfMemoryError('full')\n{MODEL}AuditModel(Says(full))", ATTACK,
                                      "Out of memory on cpu at batch size 1 (sample 0, image 3×16×16). Use smaller images (size=) or another device."),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input_gets_one_clear_sentence_and_no_traceback_through_the_plugin(pytester, case):
    setup, body, sentence = case
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        test_audit=PRELUDE
        + textwrap.dedent("""
            def broken_folder():
                from pathlib import Path
                folder = Path("images") / "cat"
                folder.mkdir(parents=True)
                (folder / "torn.png").write_bytes(b"no picture")
                return "images"
        """)
        + f"\n{setup}\n\ndef test_it(audit):\n    {body}\n"
    )
    result = pytester.runpytest_inprocess("--cnnaudit", "--cnnaudit-device=cpu", "-Werror")
    assert result.ret == 1
    told = " ".join(line[1:].strip() for line in result.stdout.lines if line.startswith("E "))
    assert "AuditError" in told
    assert sentence in told
    frames = [line for line in result.stdout.lines if "pytest_cnnaudit/" in line and ".py:" in line]
    assert frames == []


def test_bad_input_outside_pytest_is_an_audit_error_too():
    from pytest_cnnaudit import Audit, AuditError

    with pytest.raises(AuditError, match="needs an AuditModel, but was given str"):
        Audit("resnet")
    with pytest.raises(AuditError, match=r"The device 'cuda:99' is not there: torch sees \d+ CUDA devices"):
        from torch import nn

        from pytest_cnnaudit import AuditModel

        Audit(AuditModel(nn.Conv2d(3, 3, 3)), device="cuda:99")
