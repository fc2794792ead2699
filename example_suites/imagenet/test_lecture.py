"""The lecture "Visualizing CNNs", slide by slide: what it shows of AlexNet and VGG, here of a SqueezeNet 1.1.

The pictures are to be looked at; what can be asserted about them is. The lecture's own networks join in where their
weights can be had.
"""

import pytest

LECTURE = ["alexnet", "resnet18", "resnet101", "densenet121"]
OBJECTS = ["African elephant", "koala", "iPod", "schooner", "flamingo", "goldfish", "daisy", "volcano"]

photos = pytest.mark.parametrize("audit_samples", ["photos"], indirect=True)
elephant = pytest.mark.parametrize("audit_samples", ["elephant"], indirect=True)


class TestFirstLayer:
    @pytest.mark.parametrize("audit_model", ["squeezenet1_1", *LECTURE], indirect=True)
    def test_filters_are_oriented_edges_bars_and_colour_blobs(self, audit):
        audit.assert_filters_smooth()

    @pytest.mark.parametrize("audit_model", ["squeezenet1_1", *LECTURE], indirect=True)
    def test_filters_of_several_networks_side_by_side(self, audit, other_models):
        """All learn much the same: more alike than noise that is as smooth and as coloured."""
        found = audit.filter_banks(*other_models)
        assert found.similarity.ci95[0] > found.smooth_noise


class TestLastLayer:
    def test_nearest_neighbours(self, audit):
        """Of 120 images of 120 classes, what is nearest: by pixels what has the same colours, by features its like."""
        audit.neighbours(k=4)


class TestActivations:
    @elephant
    def test_channels_of_an_early_layer(self, audit):
        """64 maps of 55×55: edges, colours and their opposites."""
        audit.activations("features.2")

    @photos
    def test_channels_of_a_later_layer(self, audit):
        """Sparse maps of 13×13: each channel answers to few things, in few places."""
        found = audit.assert_no_dead_channels("features.12")
        assert found.sparsity >= 0.6


class TestMaximallyActivatingPatches:
    def test_patches(self, audit):
        """One pass over the boxed images for all layers; each patch is what its unit sees, exactly."""
        found = audit.top_patches(["features.1", "features.4", "features.7", "features.10"], k=9)
        assert found.active >= 0.9


class TestIntermediateNeurons:
    @pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "gradient"])
    def test_a_neuron(self, audit, method):
        """What the patches that excite a channel have in common, drawn by its gradient."""
        audit.neuron("features.7", 100, method=method)


class TestAttribution:
    """Where it looks in the photographs, and whether that is what it needs."""

    @photos
    @pytest.mark.parametrize("method", ["gradient", "guided_backprop", "grad_cam"])
    def test_pixels_that_count(self, audit, method):
        audit.saliency_faithfulness(method, steps=10)

    @photos
    def test_grad_cam_changes_when_the_weights_do(self, audit):
        audit.assert_saliency_sane("grad_cam", stages=4)


class TestGradientAscent:
    def test_classes(self, audit):
        """I* = argmax f(I) + R(I), for the scores before the softmax."""
        audit.assert_visualizes(OBJECTS, size=192)

    @pytest.mark.parametrize("recipe", ["simonyan", "yosinski", "nguyen", "plain"])
    def test_the_recipes_of_the_papers(self, audit, recipe):
        """The same with the regularisers of each paper, and with none."""
        audit.visualize(OBJECTS[:4], recipe=recipe, size=160)

    @pytest.mark.parametrize("layer", ["features.3", "features.7", "features.12"])
    def test_channels(self, audit, layer):
        """Textures, then patterns, then parts of objects."""
        audit.visualize([(layer, channel) for channel in range(8)], size=128)


class TestDeepDream:
    @elephant
    @pytest.mark.parametrize("layer", ["features.3", "features.6", "features.9"])
    def test_what_a_layer_sees_in_an_elephant(self, audit, layer):
        found = audit.dream(None, layer, octaves=3)
        assert found.growth >= 1.5


class TestFoolingImages:
    @elephant
    def test_the_elephant_becomes_a_koala(self, audit):
        """The smallest change after which the network is nine tenths sure of a koala: nobody sees it."""
        found = audit.fool(None, "koala", norm="l2", confidence=0.9)
        assert found.fooled >= 1.0
        assert found.smallest <= 2.0

    @photos
    def test_turning_any_photograph_into_an_ipod_needs_a_change(self, audit):
        audit.assert_fooling_needs(None, "iPod", norm="l2", at_least=0.05)

    @pytest.mark.xfail(reason="a network that was never told of noise is sure of it")
    def test_noise_is_rejected(self, audit):
        """Uniform noise, changed by no more than 8/255, is called a class with certainty."""
        audit.assert_rejects_noise(size=224, noises=1)
