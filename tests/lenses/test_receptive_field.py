"""Receptive fields against closed forms, and against what the gradient misses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.lenses import receptive_field
from pytest_cnnaudit.lenses.receptive_field import receptive_fields


def every_unit(model, image, layer, channel=0):
    """Channel, y and x of all units of one channel."""
    shape = []
    handle = layer.register_forward_hook(lambda _layer, _inputs, returned: shape.extend(returned.shape))
    with torch.no_grad():
        model(image[None])
    handle.remove()
    return np.array([(channel, y, x) for y in range(shape[2]) for x in range(shape[3])])


def fields(model, height, width, layer=None, channel=0, **options):
    """The boxes of all units of a layer, h·w×4, and their y and x."""
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    layer = model if layer is None else layer
    units = every_unit(model, image, layer, channel)
    return receptive_fields(model, image, {"layer": layer}, {"layer": units}, **options)["layer"], units[:, 1:]


def sees(stack, axis, length):
    """The rows (or columns) that each unit along an axis sees, by the closed form: o·stride − padding + i·dilation."""
    seen = [{each} for each in range(length)]
    for layer in stack:
        kernel, stride, padding, dilation = (
            np.broadcast_to(getattr(layer, name), 2)[axis] for name in ("kernel_size", "stride", "padding", "dilation")
        )
        count = layer(torch.zeros(1, 3, *([len(seen)] * 2))).shape[2 + axis]
        seen = [
            set().union(
                *(
                    seen[row]
                    for tap in range(kernel)
                    if 0 <= (row := unit * stride - padding + tap * dilation) < len(seen)
                )
            )
            for unit in range(count)
        ]
    return seen


@st.composite
def layers(draw):
    pairs = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
    kind = draw(st.sampled_from(["conv", "max", "depthwise"]))
    kernel, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 3))
    if kind == "max":
        padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
        return nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=draw(st.booleans()))
    return nn.Conv2d(
        3, 3, kernel, stride, draw(pairs(0, 3)), dilation, groups=3 if kind == "depthwise" else 1
    ).requires_grad_(False)


@settings(max_examples=100)
@given(st.lists(layers(), min_size=1, max_size=4), st.integers(6, 26), st.integers(6, 26), st.sampled_from([1, 7, 64]))
def test_any_stack_of_convolutions_and_pooling_is_its_closed_form(stack, height, width, at_once):
    model = nn.Sequential(*stack)
    try:
        rows, columns = sees(stack, 0, height), sees(stack, 1, width)
        model(torch.zeros(1, 3, height, width))
    except RuntimeError:
        assume(False)  # smaller than a kernel
    found, units = fields(model, height, width, at_once=at_once)
    for box, (y, x) in zip(found.tolist(), units.tolist(), strict=True):
        seen = rows[y], columns[x]
        expected = (
            [min(seen[0]), min(seen[1]), max(seen[0]) + 1, max(seen[1]) + 1] if all(seen) else [0, 0, 0, 0]
        )  # padding alone is nothing of the image
        assert box == expected, (y, x)


def test_the_gradient_falls_short_where_the_field_does_not():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(3, 2), nn.Conv2d(3, 3, 3), nn.MaxPool2d(3, 2))
    found, units = fields(model.requires_grad_(False), 31, 31)
    short = 0
    for box, (y, x) in zip(found.tolist(), units.tolist(), strict=True):
        image = torch.rand(1, 3, 31, 31).requires_grad_()
        model(image)[0, 0, y, x].backward()
        reached = image.grad[0].abs().sum(0).nonzero()
        low, high = reached.amin(0).tolist(), (reached.amax(0) + 1).tolist()
        assert low[0] >= box[0] and low[1] >= box[1] and high[0] <= box[2] and high[1] <= box[3]
        short += [*low, *high] != box
    assert short > len(units) / 2
    assert (found[:, 2:] - found[:, :2]).max() == 3 + 2 + 2 * 2 + 2 * 2  # of the largest, by the closed form


class Residual(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, stride, 1), nn.Conv2d(3, 3, 3, 1, 1)
        self.stride = stride

    def forward(self, x):
        return self.conv2(self.conv1(x).relu()) + x[:, :, :: self.stride, :: self.stride]


def test_a_residual_branch_adds_nothing_where_the_other_one_sees_more():
    found, units = fields(Residual(1), 12, 12)
    for box, (y, x) in zip(found.tolist(), units.tolist(), strict=True):
        assert box == [max(y - 2, 0), max(x - 2, 0), min(y + 3, 12), min(x + 3, 12)]


def test_the_widest_branch_counts():
    class Shifted(nn.Module):
        def forward(self, x):
            return x[:, :1] + x.roll(4, 3)[:, 1:2]

    found, units = fields(Shifted(), 6, 10)
    for box, (y, x) in zip(found.tolist(), units.tolist(), strict=True):
        columns = sorted({x, (x - 4) % 10})
        assert box == [y, columns[0], y + 1, columns[-1] + 1]


class OptionA(nn.Module):
    """The shortcut of He et al. 2015, section 4.2: every second pixel, channels padded with zeros."""

    def forward(self, x):
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2))


def test_an_option_a_shortcut_sees_every_second_pixel_and_its_padded_channels_nothing():
    found, units = fields(OptionA(), 9, 7, channel=1)
    assert found.tolist() == [[2 * y, 2 * x, 2 * y + 1, 2 * x + 1] for y, x in units.tolist()]
    assert not fields(OptionA(), 9, 7, channel=0)[0].any()
    assert not fields(OptionA(), 9, 7, channel=5)[0].any()


def test_the_blocks_of_a_resnet20(resnet20):
    """Each 3×3 convolution adds 2 times the stride so far: 1 in the first stage, 2 in the second, 4 in the third."""
    image = torch.rand(3, 96, 96)
    layers = {name: resnet20.get_submodule(name) for name in ("conv1", "layer1", "layer2.0", "layer2", "layer3.0")}
    middle = {"conv1": 48, "layer1": 48, "layer2.0": 24, "layer2": 24, "layer3.0": 12}
    units = {name: np.array([(0, middle[name], middle[name])]) for name in layers}
    found = receptive_fields(resnet20, image, layers, units)
    sizes = {name: (boxes[0, 2:] - boxes[0, :2]).tolist() for name, boxes in found.items()}
    size = {"conv1": 3, "layer1": 3 + 6 * 2}
    size["layer2.0"] = size["layer1"] + 2 + 4
    size["layer2"] = size["layer2.0"] + 4 * 4
    size["layer3.0"] = size["layer2"] + 4 + 8
    assert sizes == {name: [side, side] for name, side in size.items()}


def test_channels_of_concatenated_branches_have_fields_of_their_own():
    class Fire(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.three = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, x):
            return torch.cat([self.one(x), self.three(x)], 1)

    units = np.array([(1, 4, 4), (2, 4, 4)])
    model = Fire()
    found = receptive_fields(model, torch.rand(3, 9, 9), {"": model}, {"": units})[""]
    assert found.tolist() == [[4, 4, 5, 5], [3, 3, 6, 6]]


class SqueezeExcite(nn.Module):
    """Hu et al. 2018."""

    def __init__(self):
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(3, 3, 3), nn.Linear(3, 1), nn.Linear(1, 3)

    def forward(self, x):
        x = self.conv(x)
        gate = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        return x * gate[:, :, None, None]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0].transpose(1, 2).unflatten(2, x.shape[2:])


@pytest.mark.parametrize(
    "model",
    [SqueezeExcite(), Attention(), nn.InstanceNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)],
    ids=lambda model: type(model).__name__,
)
def test_global_mixing_is_the_whole_image(model):
    found, _ = fields(model.eval(), 8, 11)
    assert (found == [0, 0, 8, 11]).all()


def test_adaptive_pooling_has_windows_of_several_sizes():
    found, units = fields(nn.AdaptiveMaxPool2d((3, 4)), 10, 10)
    for box, (y, x) in zip(found.tolist(), units.tolist(), strict=True):
        assert box[::2] == [math.floor(y * 10 / 3), math.ceil((y + 1) * 10 / 3)]
        assert box[1::2] == [math.floor(x * 10 / 4), math.ceil((x + 1) * 10 / 4)]


@pytest.mark.parametrize(
    "name", ["ReLU", "ReLU6", "Hardtanh", "Hardswish", "Hardsigmoid", "LeakyReLU", "GELU", "SiLU", "PReLU", "Softplus"]
)
def test_activations_pass_it_on(name):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), getattr(nn, name)(), nn.BatchNorm2d(3), nn.LocalResponseNorm(2)).eval()
    found, units = fields(model, 6, 6)
    assert found.tolist() == [[y, x, y + 3, x + 3] for y, x in units.tolist()]


def test_weights_of_zero_see_too():
    model = nn.Conv2d(3, 3, 3)
    nn.init.zeros_(model.weight)
    found, units = fields(model, 6, 6)
    assert found.tolist() == [[y, x, y + 3, x + 3] for y, x in units.tolist()]


class Counted(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.passes = model, 0

    def forward(self, images):
        self.passes += len(images)
        return self.model(images)


def test_one_unit_takes_about_4_log2_h_passes():
    model = Counted(nn.Conv2d(3, 3, 7, 2, 3))
    receptive_fields(model, torch.rand(3, 256, 256), {"": model.model}, {"": np.array([(0, 60, 50)])})
    assert model.passes <= 2 + 4 * 8


def test_units_that_see_no_rows_of_each_other_share_passes():
    """One at a time, the 64·64 units of a small kernel would need 4·6 passes each; two of every row and column, 500."""
    model = Counted(nn.Conv2d(3, 3, 3, padding=1))
    units = np.array([(0, y, x) for y in range(64) for x in range(64)])
    receptive_fields(model, torch.rand(3, 64, 64), {"": model.model}, {"": units})
    assert model.passes <= 60


def test_all_units_of_all_layers_take_no_more_than_every_row_and_column_twice(resnet20):
    model = Counted(resnet20)
    image = torch.rand(3, 32, 32)
    layers = {name: part for name, part in resnet20.named_modules() if isinstance(part, nn.Conv2d)}
    units = {name: every_unit(resnet20, image, layer) for name, layer in layers.items()}
    together = receptive_fields(model, image, layers, units)
    assert model.passes <= 2 * (32 + 32)
    for name in ("conv1", "layer2.0.conv1", "layer3.2.conv2"):
        alone = receptive_fields(resnet20, image, {name: layers[name]}, {name: units[name]})
        assert np.array_equal(alone[name], together[name])


def test_passes_go_no_further_than_the_layers_that_are_still_asked():
    class Tail(nn.Module):
        def forward(self, x):
            raise AssertionError("the tail ran")

    model = nn.Sequential(nn.Conv2d(3, 3, 3), Tail())
    found = receptive_fields(model, torch.rand(3, 8, 8), {"0": model[0]}, {"0": np.array([(0, 1, 2)])})
    assert found["0"].tolist() == [[1, 2, 4, 5]]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(0, 6), st.integers(0, 6)), min_size=1),
)
def test_a_shared_pass_answers_every_question_as_its_own_would(drawn):
    """Of what the unit of a question may see, exactly what it asks for holds NaN."""
    asked = np.array([(begin, begin + length) for begin, length, _, _ in drawn])
    may_see = np.array([(max(0, begin - before), begin + length + after) for begin, length, before, after in drawn])
    probes, place = receptive_field._shared(asked, may_see)
    assert len(place) == len(asked)
    for (begin, end), (low, high), probe in zip(asked.tolist(), may_see.tolist(), place, strict=True):
        filled = {row for first, last in probes[probe] for row in range(first, last)}
        assert filled & set(range(low, high)) == set(range(begin, end))


class Remembers(nn.Module):
    """Updates a buffer in every mode."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, images):
        self.mean.mul_(0.9).add_(images.mean((0, 2, 3)), alpha=0.1)
        return self.conv(images)


def test_no_nan_and_nothing_else_is_left_behind():
    model, image = Remembers(), torch.rand(3, 8, 8)
    before, state = image.clone(), torch.get_rng_state()
    flags = torch.backends.cudnn.enabled
    receptive_fields(model, image, {"conv": model.conv}, {"conv": np.array([(0, 0, 0)])})
    assert torch.equal(model.mean, torch.zeros(3))
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.cudnn.enabled == flags
    assert torch.is_grad_enabled()
    assert not any(part._forward_hooks for part in model.modules())


def test_an_exception_leaves_nothing_behind_either():
    model = Remembers()

    def breaks(_):
        raise ValueError("broken")

    model.conv.forward = breaks
    with pytest.raises(ValueError, match="broken"):
        receptive_fields(model, torch.rand(3, 8, 8), {"conv": model.conv}, {"conv": np.array([(0, 0, 0)])})
    assert torch.equal(model.mean, torch.zeros(3))
    assert not any(part._forward_hooks for part in model.modules())


def test_algorithms_that_compute_tiles_are_off_while_it_looks():
    """cuDNN's and NNPACK's fast ones add times zero what a unit does not see, and NaN times zero is NaN."""
    seen = []

    class Watched(nn.Conv2d):
        def forward(self, x):
            seen.append((torch.backends.cudnn.enabled, torch._C._get_nnpack_enabled()))
            return super().forward(x)

    model = Watched(3, 3, 3)
    receptive_fields(model, torch.rand(3, 8, 8), {"": model}, {"": np.array([(0, 0, 0)])})
    assert set(seen) == {(False, False)}


def test_a_model_in_train_mode_is_refused_for_its_images_mix():
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)).train()
    with pytest.raises(AuditError, match="another image of the batch holds NaN"):
        fields(model, 8, 8)
    assert not model[1].running_mean.isnan().any()


def test_a_layer_that_returns_nan_anyway_is_refused():
    model = nn.Conv2d(3, 3, 3)
    nn.init.constant_(model.bias, math.nan)
    with pytest.raises(AuditError, match="returns NaN for the image as it is"):
        fields(model, 8, 8)
