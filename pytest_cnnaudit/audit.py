"""`Audit`: what a test holds in its hand. It measures, asserts, and keeps what it measured for the report."""

from __future__ import annotations

from pytest_cnnaudit.questions.activations import ActivationQuestions
from pytest_cnnaudit.questions.explanations import ExplanationQuestions
from pytest_cnnaudit.questions.filters import FilterQuestions
from pytest_cnnaudit.questions.fooling import FoolingQuestions
from pytest_cnnaudit.questions.masking import MaskingQuestions
from pytest_cnnaudit.questions.neighbours import NeighbourQuestions
from pytest_cnnaudit.questions.neuron import NeuronQuestions
from pytest_cnnaudit.questions.perturbation import PerturbationQuestions
from pytest_cnnaudit.questions.regression import RegressionQuestions
from pytest_cnnaudit.questions.robustness import RobustnessQuestions
from pytest_cnnaudit.questions.saliency import SaliencyQuestions
from pytest_cnnaudit.questions.synthesis import SynthesisQuestions


class Audit(
    FilterQuestions,
    ActivationQuestions,
    NeighbourQuestions,
    NeuronQuestions,
    SaliencyQuestions,
    ExplanationQuestions,
    SynthesisQuestions,
    RobustnessQuestions,
    PerturbationQuestions,
    FoolingQuestions,
    MaskingQuestions,
    RegressionQuestions,
):
    """Measurements of one model on some samples, each with a named assertion.

    In a test it comes as the fixture `audit`; anywhere else, make one: ``Audit(model, samples)``. A plain measurement
    always runs to its end; an assertion may stop as soon as its verdict is certain, and returns its measurement.

    Args:
        model: the model under audit.
        samples: what it is measured on; None is enough for `filters` and `filter_banks`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        seed: every random draw follows from it, from `scope` and from the sample's id.
        scope: sets this audit's draws apart from those of others with the same seed: in a test, the test's id.
        batch_size: samples at a time; chosen by the size of an image where None, and halved when memory runs out.
        precision: of the passes that attacks make, ``"float32"`` or ``"bfloat16"``; what they find is always confirmed
            in the model's own.
        link: where the report of this audit will be, for failure messages.
        cache: where results are kept, ``Cache(folder)``, so that nothing is measured twice; None to keep none.
        baselines: what was measured last time, ``Baselines(file, test)``; None where nothing is compared with it.
    """
