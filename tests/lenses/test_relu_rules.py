"""The rules at every ReLU, however it is called and wherever it stands, against networks with the rules written in."""

import gc
from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.gradient import gradient
from pytest_cnnaudit.lenses.guided_backprop import deconvnet, guided_backprop
from pytest_cnnaudit.lenses.relu_rules import check_rule, following, relus_in_sight

RULES = {"guided_backprop": guided_backprop, "deconvnet": deconvnet}
rules = pytest.mark.parametrize("rule", RULES)
IMAGES = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.tensor([0, 3])


class Written(torch.autograd.Function):
    """ReLU, or clamping to [0, top], with the rule as the papers give it."""

    @staticmethod
    def forward(ctx, values, rule, top):
        ctx.save_for_backward((values > 0) & (values < top))
        ctx.rule = rule
        return values.clamp(0, top)

    @staticmethod
    def backward(ctx, above):
        (active,) = ctx.saved_tensors
        positive = torch.where(above > 0, above, 0)
        return torch.where(active, positive, 0) if ctx.rule == "guided_backprop" else positive, None, None


class Plain(nn.Module):
    def __init__(self, relu):
        super().__init__()
        torch.manual_seed(3)
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last, self.relu = nn.Linear(6, 4), relu
        self.double()

    def forward(self, images):
        maps = self.relu(self.two(self.relu(self.one(images))))
        return self.last(maps.mean((2, 3)))


class Residual(Plain):
    """As ResNet: the sum goes through the ReLU that the branch went through; the block's input is a ReLU's output."""

    def forward(self, images):
        maps = self.relu(self.one(images))
        return self.last(self.relu(self.two(maps.clone()) + maps).mean((2, 3)))


class PreActivation(Plain):
    """As ResNet v2: the skip connection takes the ReLU's input."""

    def forward(self, images):
        maps = self.one(images)
        return self.last((self.two(self.relu(maps.clone())) + maps).mean((2, 3)))


class Dense(Plain):
    """As DenseNet: a ReLU's input and its output both go on."""

    def forward(self, images):
        maps = self.one(images)
        both = torch.cat([maps[:, :3], self.two(self.relu(maps.clone()))[:, 3:]], 1)
        return self.last((self.relu(both) * maps).mean((2, 3)))


class OnViews(Plain):
    """ReLUs on parts and reshaped views; in place, they change what is viewed."""

    def forward(self, images):
        maps = self.one(images)
        part = maps[:, :4]
        changed = self.relu(part)
        maps = maps if changed is part or changed._base is maps else torch.cat([changed, maps[:, 4:]], 1)
        flat = self.two(maps).flatten(2)
        return self.last(self.relu(flat).mean(2))


WAYS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "functional": F.relu,
    "functional in place": lambda values: F.relu(values, inplace=True),
    "functional, all by name": lambda values: F.relu(input=values, inplace=True),
    "torch": torch.relu,
    "torch in place": torch.relu_,
    "method": torch.Tensor.relu,
    "method in place": torch.Tensor.relu_,
    "ATen": torch.ops.aten.relu.default,
    "ATen in place": torch.ops.aten.relu_.default,
    "clamp": lambda values: values.clamp(min=0),
    "clamp in place": lambda values: values.clamp_(min=0.0),
    "clamp_min": lambda values: values.clamp_min(0),
    "clip": lambda values: torch.clip(values, 0),
    "threshold": lambda values: F.threshold(values, 0, 0),
    "threshold in place": nn.Threshold(0, 0, inplace=True),
}
BOUNDED = {
    "ReLU6": (nn.ReLU6(), 6),
    "ReLU6 in place": (nn.ReLU6(inplace=True), 6),
    "relu6": (F.relu6, 6),
    "clamp to 6": (lambda values: values.clamp(0, 6), 6),
    "hardtanh": (nn.Hardtanh(0, 0.5), 0.5),
    "hardtanh in place": (lambda values: F.hardtanh_(values, 0.0, 0.5), 0.5),
}


def written(net, images=IMAGES, targets=TARGETS):
    pixels = images.clone().requires_grad_()
    net(pixels).gather(1, targets[:, None]).sum().backward()
    assert pixels.grad.any()
    return pixels.grad


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@rules
@pytest.mark.parametrize("kind", [Plain, Residual, PreActivation, Dense, OnViews])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_exact_for_every_way_to_call_a_relu_and_every_place_of_it(rule, kind, way):
    expected = written(kind(lambda values: Written.apply(values, rule, torch.inf)))
    assert not torch.allclose(expected, gradient(kind(F.relu), IMAGES, TARGETS))
    same(RULES[rule](kind(WAYS[way]), IMAGES, TARGETS), expected)


@rules
@pytest.mark.parametrize("kind", [Plain, PreActivation, OnViews])
@pytest.mark.parametrize("way", BOUNDED)
def test_it_is_exact_for_relus_that_are_bounded_above(rule, kind, way):
    images = 10 * IMAGES
    relu, top = BOUNDED[way]
    expected = written(kind(lambda values: Written.apply(values, rule, top)), images)
    same(RULES[rule](kind(relu), images, TARGETS), expected)


@rules
@given(
    size=st.tuples(st.integers(3, 11), st.integers(3, 11)),
    count=st.integers(1, 3),
    seed=st.integers(0, 99),
    way=st.sampled_from(sorted(WAYS)),
)
def test_it_is_exact_for_images_of_all_sizes(rule, size, count, seed, way):
    images = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    targets = torch.arange(count)
    expected = written(Residual(lambda values: Written.apply(values, rule, torch.inf)), images, targets)
    same(RULES[rule](Residual(WAYS[way]), images, targets), expected)


@contextmanager
def relus_written(monkeypatch, net, rule):
    """A copy of the network in which every ReLU, module or function, has the rule written in."""

    class Module(nn.Module):
        def __init__(self, top):
            super().__init__()
            self.top = top

        def forward(self, values):
            return Written.apply(values, rule, self.top)

    copy = deepcopy(net)
    for parent in list(copy.modules()):
        for name, part in parent.named_children():
            if isinstance(part, nn.ReLU | nn.ReLU6):
                setattr(parent, name, Module(6 if isinstance(part, nn.ReLU6) else torch.inf))
    with monkeypatch.context() as patch:
        patch.setattr(F, "relu", lambda values, inplace=False: Written.apply(values, rule, torch.inf))
        yield copy


@rules
@pytest.mark.parametrize(
    "name", ["resnet18", "densenet121", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_1", "alexnet"]
)
def test_it_is_exact_in_the_networks_of_torchvision(monkeypatch, rule, name):
    """One in-place ReLU for a whole block, dense connections with functional ones, ReLU6, shuffled channels."""
    import torchvision

    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(num_classes=4).double().eval().requires_grad_(requires_grad=False)
    images = torch.rand(2, 3, 65, 71, dtype=torch.float64)
    with relus_written(monkeypatch, net, rule) as reference:
        expected = written(reference, images)
    found = RULES[rule](net, images, TARGETS)
    torch.testing.assert_close(found / expected.abs().amax(), expected / expected.abs().amax(), rtol=0, atol=1e-9)


@rules
def test_what_is_above_one_for_images_is_no_relu(rule):
    """Many models clamp what they are given to [0, 1]: that must not cut the map."""

    class Clamped(Plain):
        def forward(self, images):
            return super().forward(images.clamp(0, 1))

    found = RULES[rule](Clamped(F.relu), IMAGES, TARGETS)
    same(found, RULES[rule](Plain(F.relu), IMAGES, TARGETS))
    assert (found < 0).any()


@rules
@pytest.mark.parametrize(
    "activation",
    [F.silu, F.gelu, F.leaky_relu, F.elu, F.hardswish, F.hardtanh, torch.tanh, lambda values: values.clamp(min=0.1)],
)
def test_a_network_without_relu_gives_an_error_and_no_plain_gradient(rule, activation):
    with pytest.raises(AuditError, match=f"no ReLU between the class scores and the image, so that {rule} would be"):
        RULES[rule](Plain(activation), IMAGES, TARGETS)


@rules
def test_a_relu_beside_the_way_to_the_image_does_not_count(rule):
    class OfTheWeights(Plain):
        def forward(self, images):
            return super().forward(images) * self.last.bias.relu()

    with pytest.raises(AuditError, match="no ReLU between"):
        RULES[rule](OfTheWeights(F.silu), IMAGES, TARGETS)


@rules
def test_in_a_network_of_several_activations_the_others_keep_their_gradient(rule):
    class Mixed(Plain):
        def forward(self, images):
            maps = F.silu(self.two(self.relu(self.one(images))))
            return self.last(maps.mean((2, 3)))

    expected = written(Mixed(lambda values: Written.apply(values, rule, torch.inf)))
    same(RULES[rule](Mixed(F.relu), IMAGES, TARGETS), expected)


@rules
def test_graphs_of_torch_fx_and_torch_export_are_exact(rule):
    net = OnViews(nn.ReLU(inplace=True)).eval()
    expected = written(OnViews(lambda values: Written.apply(values, rule, torch.inf)))
    same(RULES[rule](torch.export.export(net, (IMAGES,)).module(), IMAGES, TARGETS), expected)
    plain = Residual(nn.ReLU(inplace=True))
    expected = written(Residual(lambda values: Written.apply(values, rule, torch.inf)))
    same(RULES[rule](torch.fx.symbolic_trace(plain), IMAGES, TARGETS), expected)


@pytest.mark.filterwarnings("ignore")  # of torch.compile
def test_what_torch_compile_has_compiled_is_exact_and_is_compiled_again_afterwards():
    net = Residual(F.relu).eval()
    compiled = torch.compile(net, backend="aot_eager")
    fast = compiled(IMAGES)  # has its graph of one node
    assert "CompiledFunction" in fast.grad_fn.name()
    for rule, lens in RULES.items():
        expected = written(Residual(lambda values, rule=rule: Written.apply(values, rule, torch.inf)))
        same(lens(AuditModel(compiled), IMAGES, TARGETS), expected)
    again = compiled(IMAGES)
    assert "CompiledFunction" in again.grad_fn.name()
    # Where it cannot be helped (older versions of torch), it is refused.
    with pytest.raises(AuditError, match="runs compiled"), following("deconvnet", again, "the class scores"):
        pass


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch.jit
def test_torchscript_is_refused_whole_or_in_part_from_the_first_pass_on():
    net = Plain(nn.ReLU())
    traced = torch.jit.trace(net, IMAGES)
    inside = nn.Sequential(nn.ReLU(), torch.jit.script(net))
    for model in (traced, inside):
        for _ in range(3):
            with pytest.raises(AuditError, match="is TorchScript, in which deconvnet cannot reach the ReLUs"):
                deconvnet(model, IMAGES, TARGETS)
    scripted = torch.jit.script(net)
    for _ in range(3):  # until it is one node of the graph
        scripted(IMAGES.clone().requires_grad_()).sum().backward()
    with pytest.raises(AuditError, match="runs compiled"):
        guided_backprop(scripted.forward, IMAGES, TARGETS)  # no module, in which TorchScript would be seen


@rules
def test_a_branch_without_a_gradient_is_passed_over(rule):
    class Forgetful(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values.clone()

        @staticmethod
        def backward(ctx, above):
            return None

    class Branched(Plain):
        def forward(self, images):
            aside = self.relu(self.one(images))
            return super().forward(images) + Forgetful.apply(aside).mean()

    same(RULES[rule](Branched(F.relu), IMAGES, TARGETS), RULES[rule](Plain(F.relu), IMAGES, TARGETS))


@rules
def test_a_gradient_that_goes_two_ways_is_cut_on_one_of_them_only(rule):
    """The same gradient goes on to a skip connection: it must not be changed there."""

    class Net(Plain):
        def forward(self, images):
            maps = self.one(images)
            both = self.relu(maps.clone()) + maps
            return self.last(both.mean((2, 3)))

    expected = written(Net(lambda values: Written.apply(values, rule, torch.inf)))
    same(RULES[rule](Net(F.relu), IMAGES, TARGETS), expected)


def test_the_plain_gradient_is_left_alone():
    pixels = IMAGES.clone().requires_grad_()
    net = Plain(F.relu)
    with relus_in_sight(net, "gradient"):
        logits = net(pixels)
        with following("gradient", logits, "the class scores"):
            (found,) = torch.autograd.grad(logits.gather(1, TARGETS[:, None]).sum(), pixels)
    same(found, gradient(net, IMAGES, TARGETS))


def test_a_rule_that_there_is_not_is_refused():
    with pytest.raises(AuditError, match="no rule 'lrp' for ReLUs; use 'gradient', 'guided_backprop', 'deconvnet'"):
        check_rule("lrp")


# ---- nothing is left, nothing disturbs ----


@rules
def test_batch_mates_change_nothing(rule):
    images = torch.rand(5, 3, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([0, 1, 2, 3, 0])
    together = RULES[rule](Residual(nn.ReLU(inplace=True)), images, targets)
    for each in range(5):
        alone = RULES[rule](Residual(nn.ReLU(inplace=True)), images[each : each + 1], targets[each : each + 1])
        same(alone[0], together[each])


@rules
@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
def test_the_callers_modes_frozen_weights_and_inference_tensors_change_nothing(tiny_net, rule, surrounding):
    net = tiny_net()
    expected = RULES[rule](net, IMAGES, TARGETS)
    net.requires_grad_(requires_grad=False)
    with surrounding():
        images = IMAGES.clone()
        assert images.is_inference() == (surrounding is torch.inference_mode)
        same(RULES[rule](net, images, TARGETS.clone()), expected)
        assert torch.is_inference_mode_enabled() == images.is_inference()
        assert not torch.is_grad_enabled()


@rules
def test_a_model_handed_over_in_train_mode_is_audited_in_eval_mode_and_handed_back(tiny_net, rule):
    net = tiny_net()
    expected = RULES[rule](net, IMAGES, TARGETS)
    net.train()
    before = deepcopy(net.state_dict())
    with AuditModel(net).borrow() as model:
        same(RULES[rule](model, IMAGES, TARGETS), expected)
    assert all(part.training for part in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def hooks_of(net):
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [len(getattr(part, table)) for part in net.modules() for table in tables]


@rules
@pytest.mark.parametrize("fails", ["forward", "backward", "no ReLU", None])
def test_nothing_is_left_behind(tiny_net, rule, fails):
    class Stops(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values.clone()

        @staticmethod
        def backward(ctx, above):
            raise RuntimeError("stop")

    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny_net()

        def forward(self, images):
            if fails == "no ReLU":
                return images.mean((2, 3)).repeat(1, 2)
            logits = self.net(images)
            if fails == "forward":
                raise RuntimeError("stop")
            return self.net(Stops.apply(images)) if fails == "backward" else logits

    model = Failing()
    parts = list(model.modules())
    if fails is None:
        RULES[rule](model, IMAGES, TARGETS)
    else:
        with pytest.raises(AuditError if fails == "no ReLU" else RuntimeError):
            RULES[rule](model, IMAGES, TARGETS)
    assert torch._C._len_torch_function_stack() == 0
    assert list(model.modules()) == parts
    assert not any(hooks_of(model))
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    same(deepcopy(model).net(IMAGES), model.net(IMAGES))


@rules
def test_a_graph_that_the_model_keeps_is_as_it_was(rule):
    class Keeps(Plain):
        """Its weights are computed once, and go through a ReLU that the image goes through as well."""

        def forward(self, images):
            if not hasattr(self, "kept"):
                self.factor = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
                self.kept = F.relu(self.factor * 3)
            return super().forward(images * self.kept)

    net = Keeps(F.relu)
    RULES[rule](net, IMAGES, TARGETS)
    (slope,) = torch.autograd.grad(-net.kept, net.factor)
    assert float(slope) == pytest.approx(-3)  # a rule left in the graph would have made it 0


@rules
def test_memory_is_flat_over_200_batches(rule):
    net = Residual(nn.ReLU(inplace=True))

    def alive():
        return sum(
            issubclass(type(each), torch.Tensor) or "Backward" in type(each).__name__ for each in gc.get_objects()
        )

    RULES[rule](net, IMAGES, TARGETS)
    gc.collect()
    gc.disable()  # what a cycle keeps alive would be seen as well
    try:
        before = alive()
        for _ in range(200):
            RULES[rule](net, IMAGES, TARGETS)
        assert alive() == before
    finally:
        gc.enable()
