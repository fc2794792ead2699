"""A layer's output and the gradient there: exact, above the layer only, never of the wrong run."""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.layer import activations_at, gradients_at

IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.tensor([0, 1, 3])


class Shifted(nn.Module):
    """Passes on what it gets, plus what it is told to."""

    shift = 0.0

    def forward(self, x):
        return x + self.shift


class Residual(nn.Module):
    """The layer is the input of a skip connection, and what follows changes its output in place."""

    def __init__(self, width=6):
        super().__init__()
        self.conv1, self.layer = nn.Conv2d(3, width, 3, padding=1), Shifted()
        self.relu, self.conv2 = nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = self.relu(self.layer(self.conv1(x)))
        out = self.conv2(x)
        out += x
        return self.head(out.tanh().mean((2, 3)))


class Dense(Residual):
    """The layer is concatenated with what is made of it, as in a DenseNet, and there is no global pool."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12 * 64, 4)

    def forward(self, x):
        x = self.layer(self.conv1(x))
        return self.head(torch.cat([x, self.conv2(x.relu())], 1).tanh().flatten(1))


@pytest.mark.parametrize("kind", [Residual, Dense])
def test_the_gradient_is_the_slope_of_the_score_when_the_layers_output_moves(kind):
    torch.manual_seed(0)
    net = kind().double()
    _, gradients = gradients_at(AuditModel(net), IMAGES, TARGETS, net.layer)
    assert gradients.abs().amax() > 1e-3
    eps = 1e-5
    for place in [(0, 0, 0, 0), (1, 3, 4, 5), (2, 5, 7, 7), (1, 2, 0, 3)]:
        scores = []
        for sign in (1, -1):
            net.layer.shift = torch.zeros(3, 6, 8, 8).double()
            net.layer.shift[place] = sign * eps
            with torch.no_grad():
                scores.append(net(IMAGES)[place[0], TARGETS[place[0]]])
        assert float(gradients[place]) == pytest.approx(float(scores[0] - scores[1]) / (2 * eps), abs=1e-8)


def test_the_backward_pass_ends_at_the_layer_even_where_weights_below_ask_for_gradients(tiny_net):
    net = tiny_net()
    reached = []

    def watch(name, part):
        def after(_module, _inputs, returned):
            if returned.requires_grad:
                returned.register_hook(lambda _gradient: reached.append(name))

        part.register_forward_hook(after)

    for name, part in net.named_children():
        watch(name, part)
    net.relu.inplace = False  # it would run on the watched tensors
    gradients_at(net, IMAGES, TARGETS, net.bn2)
    assert reached == ["linear", "relu"]  # and neither bn2 nor what is below
    assert all(weight.grad is None for weight in net.parameters())


def test_both_are_returned_without_a_graph(tiny_net):
    net = tiny_net()
    for found in (*gradients_at(net, IMAGES, TARGETS, net.bn2), activations_at(net, IMAGES, net.bn2)):
        assert not found.requires_grad
        assert found.grad_fn is None


def test_activations_alone_are_the_same_and_need_no_gradient(tiny_net):
    net = tiny_net()
    expected, _ = gradients_at(net, IMAGES, TARGETS, net.bn2)
    assert activations_at(net, IMAGES, net.bn2).equal(expected)

    class Opaque(nn.Module):
        def forward(self, images):
            with torch.inference_mode():
                return net(images)

    assert activations_at(Opaque(), IMAGES, net.bn2).equal(expected)


class Tokens(nn.Module):
    """A small transformer's outline: patches of 2×2 and a class token; the head takes the class token."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix = nn.Conv2d(3, 6, 2, 2), nn.Conv1d(17, 17, 1)
        self.first, self.last, self.head = nn.LayerNorm(6), nn.LayerNorm(6), nn.Linear(6, 4)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = self.first(torch.cat([patches.mean(1, keepdim=True), patches], 1))
        return self.head(self.last(tokens + self.mix(tokens).tanh())[:, 0])


def to_maps(tokens):
    return tokens[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)


def test_tokens_become_maps_by_reshape():
    torch.manual_seed(0)
    net = Tokens().double()
    activations, gradients = gradients_at(AuditModel(net), IMAGES, TARGETS, net.first, to_maps)
    tokens = net.first(
        torch.cat([(patches := net.patches(IMAGES).flatten(2).transpose(1, 2)).mean(1, keepdim=True), patches], 1)
    ).detach()
    assert activations.shape == gradients.shape == (3, 6, 4, 4)
    assert activations[1, 2, 3, 1] == tokens[1, 1 + 3 * 4 + 1, 2]
    tokens.requires_grad_()
    score = net.head(net.last(tokens + net.mix(tokens).tanh())[:, 0])[range(3), TARGETS].sum()
    (expected,) = torch.autograd.grad(score, tokens)
    torch.testing.assert_close(gradients, to_maps(expected))


@pytest.mark.parametrize(
    ("layer", "reshape", "message"),
    [
        ("first", None, r"map N×C×H×W; this one returns \(3, 17, 6\) \(tokens .* give reshape="),
        ("last", to_maps, "do not depend on what reshape= keeps.*class token"),
        ("first", lambda tokens: tokens[:, 1:], r"reshape= turned \(3, 17, 6\) into \(3, 16, 6\)"),
        ("first", lambda tokens: to_maps(tokens)[:2], r"into \(2, 6, 4, 4\); it must be N×c×h×w"),
    ],
)
def test_where_tokens_make_no_maps_it_is_said(layer, reshape, message):
    torch.manual_seed(0)
    net = Tokens().double()
    with pytest.raises(AuditError, match=message):
        gradients_at(AuditModel(net), IMAGES, TARGETS, getattr(net, layer), reshape)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda net: net.relu, "runs more than once"),
        (lambda net: nn.Conv2d(3, 3, 1), "did not run"),
        (lambda net: net.linear, r"map N×C×H×W; this one returns \(3, 4\)\.$"),
    ],
)
@pytest.mark.parametrize("function", ["activations", "gradients"])
def test_a_layer_that_does_not_do_is_refused_and_left_without_a_hook(tiny_net, layer, message, function):
    net = tiny_net()
    refused = layer(net)
    with pytest.raises(AuditError, match=message):
        if function == "activations":
            activations_at(net, IMAGES, refused)
        else:
            gradients_at(net, IMAGES, TARGETS, refused)
    assert not any(part._forward_hooks for part in (*net.modules(), refused))


def test_the_relu_that_torchvisions_resnets_run_twice_is_refused_and_the_block_is_not():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = resnet18(num_classes=4).eval()
    images = torch.rand(2, 3, 33, 47)
    with pytest.raises(AuditError, match="runs more than once"):
        gradients_at(AuditModel(net), images, TARGETS[:2], net.layer4[1].relu)
    activations, gradients = gradients_at(AuditModel(net), images, TARGETS[:2], net.layer4)
    assert activations.shape == (2, 512, 2, 2)
    torch.testing.assert_close(
        gradients, (net.fc.weight[TARGETS[:2]] / 4).detach()[:, :, None, None].expand(-1, -1, 2, 2)
    )


def test_a_layer_that_returns_a_tuple_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(64, 1, batch_first=True), nn.Linear(64, 4)

        def forward(self, images):
            tokens = images.flatten(2).float()
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    net = Net()
    with pytest.raises(AuditError, match="returns a tuple; name one"):
        gradients_at(net, IMAGES, TARGETS, net.attention)


def test_a_layer_that_the_scores_do_not_depend_on_is_an_error(tiny_net):
    class WithAnAuxiliaryHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.aside = tiny_net(), nn.Conv2d(3, 2, 1).double()

        def forward(self, images):
            self.aside(images)
            return self.main(images)

    net = WithAnAuxiliaryHead()
    for model in (net, AuditModel(net)):  # the weights of the first ask for gradients, so its logits have a graph
        with pytest.raises(AuditError, match="class scores do not depend on the layer"):
            gradients_at(model, IMAGES, TARGETS, net.aside)


def test_a_traced_model_runs_without_its_blocks_and_that_is_said(tiny_net):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = tiny_net()

        def forward(self, images):
            return self.block(images)

    net = Net()
    traced = torch.fx.symbolic_trace(net)
    expected = gradients_at(net, IMAGES, TARGETS, net.block.bn2)
    for found, each in zip(gradients_at(traced, IMAGES, TARGETS, traced.block.bn2), expected, strict=True):
        torch.testing.assert_close(found, each)
    with pytest.raises(AuditError, match=r"did not run.*traced"):
        gradients_at(traced, IMAGES, TARGETS, net.block)
