"""What does a single neuron respond to?"""

from __future__ import annotations

from pytest_cnnaudit.audits.neuron import NeuronMeasurement, measure_neuron
from pytest_cnnaudit.lenses.neuron import Unit
from pytest_cnnaudit.lenses.relu_rules import Rule
from pytest_cnnaudit.questions.asker import Asker


class NeuronQuestions(Asker):
    """Of single neurons."""

    def neuron(
        self,
        layer: str,
        channel: int,
        unit: Unit | None = None,
        *,
        method: Rule = "guided_backprop",
        k: int = 9,
    ) -> NeuronMeasurement:
        """What a neuron responds to: the patches that excite it most, beside their (guided) gradients.

        Args:
            layer: the name of a layer that runs once and returns maps or vectors.
            channel: of the layer, from 0.
            unit: row and column in the layer's map; for each sample the strongest where None.
            method: ``"guided_backprop"``, ``"deconvnet"`` or ``"gradient"``.
            k: how many samples are shown.

        Raises:
            AuditError: there is no such layer, channel, unit or method; or no ReLU between the neuron and the image, so
                that a rule for ReLUs changes nothing (of a first convolution, ask for the ``"gradient"``).
        """
        return self._asked(
            measure_neuron,
            layer=layer,
            channel=channel,
            unit=unit,
            method=method,
            k=k,
        )
