"""What do the channels of a layer do, and what do they look for?"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_cnnaudit.audits.activations import ActivationMeasurement, measure_activations
from pytest_cnnaudit.audits.top_patches import TopPatchesMeasurement, measure_top_patches
from pytest_cnnaudit.questions.asker import Asker, check_share
from pytest_cnnaudit.results import require


class ActivationQuestions(Asker):
    """Of channels."""

    def activations(self, layer: str) -> ActivationMeasurement:
        """The maps of a layer's channels over the samples: dead channels and sparsity. See `ActivationMeasurement`."""
        return self._asked(measure_activations, layer=layer)

    def assert_no_dead_channels(self, layer: str, *, max_dead: float = 0.25) -> ActivationMeasurement:
        """Hardly any channel of the layer is dead: at most `max_dead` never rise above zero, or never change.

        Of healthy networks up to an eighth of a layer's channels may be so on a few hundred samples, which the default
        leaves room for. As a channel that has once risen is alive, it stops as soon as few enough are left.

        Args:
            layer: its name: an activation, or the convolution or normalisation before it. Where no ReLU follows, a
                channel that never rises above zero may well be of use.
            max_dead: share of the layer's channels.

        Raises:
            AssertionError: more of them are dead.
            AuditError: there is no such layer, it does not run exactly once, or it returns no maps.
        """
        check_share("max_dead", max_dead)
        found = self._asked(measure_activations, layer=layer, max_dead=max_dead)
        require(found.dead, "<=", max_dead)
        return found

    def top_patches(
        self,
        layer: str | Sequence[str] | None = None,
        channels: int | Sequence[int] | None = None,
        k: int = 9,
    ) -> TopPatchesMeasurement:
        """The image patches that activate each channel most, cut to what the unit sees. See `measure_top_patches`.

        All channels of all layers take one pass over the samples. The pictures are to be looked at: what the patches of
        a row have in common is what the channel looks for.

        Args:
            layer: the name of a layer, or several; every convolution where None.
            channels: the channel, or channels, to show; the first ones of each layer where None. Of all others, `top`
                of the measurement knows the units.
            k: patches of a channel, at most one of each sample.

        Raises:
            AuditError: there is no such layer or channel; a layer does not run exactly once, or returns no maps.
        """
        return self._asked(measure_top_patches, layer=layer, channels=channels, k=k)
