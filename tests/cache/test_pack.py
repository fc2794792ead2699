"""What is packed comes back as it was, bit for bit; and what is no packed value is refused, whatever it is."""

import dataclasses
import functools
import json
import runpy
import struct
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis.extra import numpy as some_numpy

from pytest_cnnaudit import Audit, AuditModel, Samples
from pytest_cnnaudit.audits.saliency_scores import Baseline
from pytest_cnnaudit.cache.pack import PackError, pack, unpack
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.results import Cost, Exhibit, Line, Mark, Measurement, Metric, Picture, Row

_FRESH = {"comparisons", "link", "baseline"}  # of a metric that nothing has been asked of


def difference(one, other, where=""):
    """Where two values differ, in type or in any bit; empty where they are the same."""
    if type(one) is not type(other):
        return f"{where}: {type(one)} and {type(other)}"
    if isinstance(one, Metric):
        parts = [
            (f".{slot}", getattr(one, slot), getattr(other, slot)) for slot in Metric.__slots__ if slot not in _FRESH
        ]
        parts.append((".value", float(one), float(other)))
    elif dataclasses.is_dataclass(one):
        parts = [
            (f".{each.name}", getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one)
        ]
    elif isinstance(one, dict):
        parts = [("'s keys", list(one), list(other))]
        parts += [(f"[{key!r}]", a, b) for (key, a), b in zip(one.items(), other.values(), strict=False)]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{where}: {len(one)} and {len(other)} items"
        parts = [(f"[{number}]", a, b) for number, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        a, b = plain(one), plain(other)
        return "" if a == b else f"{where}: {a!r:.200} and {b!r:.200}"
    return next(filter(None, (difference(a, b, where + step) for step, a, b in parts)), "")


def attributes(one, other, names):
    return [(f".{name}", getattr(one, name), getattr(other, name)) for name in names]


def plain(value):
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.contiguous().reshape(-1).view(torch.uint8).tolist()
    return struct.pack("<d", value) if isinstance(value, float) else value


def assert_same(one, other):
    assert not difference(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1.0, 1),
        (0.0, -0.0),
        ((1,), [1]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.float32([1]), np.float64([1])),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (torch.zeros(2), torch.tensor([0.0, -0.0])),
        (Metric(1, name="a"), Metric(1, name="b")),
        (Metric(1, name="a", ci95=(0, 1)), Metric(1, name="a", ci95=(0, 2))),
        (Row("a", (Picture(np.zeros((2, 2), np.uint8)),)), Row("a", (Picture(np.ones((2, 2), np.uint8)),))),
    ],
)
def test_the_comparison_of_this_file_sees_small_differences(one, other):
    assert difference(one, other)
    assert not difference(one, one)


# Any value -----------------------------------------------------------------------------------------------------------

text = st.text(st.characters())  # lone surrogates, too
plain_dtypes = some_numpy.scalar_dtypes() | some_numpy.byte_string_dtypes() | some_numpy.unicode_string_dtypes()
arrays = some_numpy.arrays(plain_dtypes, some_numpy.array_shapes(min_dims=0, min_side=0, max_side=3))
tensor_dtypes = st.sampled_from(
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.int64, torch.uint8, torch.bool]
)
tensors = st.builds(
    lambda shape, dtype: (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 4 - 1).to(dtype),
    some_numpy.array_shapes(min_dims=0, min_side=0, max_side=3),
    tensor_dtypes,
)
numbers = st.integers() | st.floats() | st.integers(2**62, 2**70)
scalars = plain_dtypes.flatmap(some_numpy.from_dtype)
keys = st.none() | st.booleans() | numbers | text | st.binary() | st.tuples(text, st.integers())
metrics = st.builds(
    Metric,
    st.floats(),
    name=text,
    unit=text,
    n=st.integers(0),
    of=text,
    count=st.none() | st.integers(0),
    ci95=st.none() | st.tuples(st.floats(), st.floats()),
    higher_is_better=st.none() | st.booleans(),
    bounds=st.none() | st.tuples(st.floats(), st.floats()),
    help=text,
    story=st.lists(text).map(tuple),
)
leaves = keys | scalars | arrays | tensors | metrics | st.builds(torch.Size, st.lists(st.integers(0, 2**40)))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.builds(Mark, inner, inner)
        | st.builds(Baseline, inner, inner)
    ),
    max_leaves=8,
)


@given(value=values)
@example(value="\ud83d\ude00")  # two lone surrogates are not the one character that they stand for elsewhere
@example(value={float("nan"): [float("-inf"), -0.0, struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]]})
@example(value=torch.zeros(0, dtype=torch.float64))
@example(value=[torch.zeros(0, 3).T, torch.zeros(3, 0)[::2], np.zeros((3, 0))[::2], np.zeros((0, 3)).T, b""])
@example(value=[np.float64("nan"), np.str_("a\0"), np.bytes_(b"a\0"), np.datetime64("NaT", "ns"), 10**5000])
def test_any_value_comes_back_as_it_was(value):
    assert_same(value, unpack(pack(value)))


@pytest.mark.parametrize(
    "dtype", ["<f2", ">f4", "<c16", ">i8", "|b1", "|u1", "<M8[ns]", "<m8[25s]", "<U3", "|S2", "<f16"]
)
def test_arrays_keep_their_dtype_and_shape_in_whatever_order_they_lie(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for each in (array, array[:, ::-1, ::2], array.T, array[..., 0], array[0, 0, 0, ...], array[:0]):
        assert_same(each, unpack(pack(each)))


@pytest.mark.parametrize(
    "transform",
    [
        lambda x: x,
        lambda x: x.T,
        lambda x: x[:, ::2],
        torch.conj,
        lambda x: x[0, 0],
        lambda x: torch._neg_view(x.real + 0),
    ],
)
def test_tensors_keep_their_numbers_in_whatever_order_they_lie(transform):
    tensor = transform(torch.tensor([[1 + 2j, 3 - 4j, 5], [6, 7, 8j]]))
    found = unpack(pack(tensor))
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)


def test_arrays_and_tensors_can_be_written_to_without_changing_each_other():
    found = unpack(pack({"a": np.zeros(3, np.uint8), "b": np.zeros(3), "t": torch.zeros(3, dtype=torch.bfloat16)}))
    found["a"][:], found["t"][:] = 255, 1
    assert found["b"].tolist() == [0, 0, 0]
    assert found["b"].ctypes.data % 8 == 0
    assert found["t"].tolist() == [1, 1, 1]


def test_what_is_one_object_is_stored_once_and_stays_one():
    pixels, metric = np.zeros((1000, 1000), np.uint8), Metric(0.5, name="median")
    data = pack([Picture(pixels), Picture(pixels), metric, {0.5: metric}])
    one, other, headline, quantiles = unpack(data)
    assert len(data) < 1_100_000
    assert one.pixels is other.pixels
    assert headline is quantiles[0.5]


def test_a_metric_comes_back_unasked():
    metric = Metric(0.3, name="accuracy", n=10, count=3, ci95=(0.1, 0.6), higher_is_better=True, story=("why",))
    assert metric < 0.5
    assert not metric.ci95[0] > 0.2
    metric.link = "index.html#test"
    found = unpack(pack(metric))
    assert_same(metric, found)
    assert (len(metric.comparisons), found.comparisons, found.link) == (2, [], "")
    assert found >= 0.1
    assert found.ci95[1] <= 0.6
    assert [(each.op, each.on) for each in found.comparisons] == [(">=", ""), ("<=", "upper end")]


# Every measurement ---------------------------------------------------------------------------------------------------

_TINY = runpy.run_path(str(Path(__file__).parents[1] / "audits" / "tiny_suite.py"))
IMAGES, LABELS, BOXES = _TINY["quadrant_images"]()

MEASURED = {
    "filters": lambda audit: audit.filters(),
    "filter_banks": lambda audit: audit.filter_banks(another_model()),
    "activations": lambda audit: audit.activations("relu"),
    "top_patches": lambda audit: audit.top_patches("relu", k=3),
    "neighbours": lambda audit: audit.neighbours(k=1),
    "neuron": lambda audit: audit.neuron("relu", 1, method="gradient"),
    "saliency": lambda audit: audit.saliency("grad_cam"),
    "saliency_faithfulness": lambda audit: audit.saliency_faithfulness("gradient", steps=4),
    "saliency_sanity": lambda audit: audit.saliency_sanity("gradient", stages=2),
    "visualize": lambda audit: audit.visualize([0, 1, 2, ("relu", 1)], steps=4, size=16),
    "dream": lambda audit: audit.dream(None, "relu", octaves=1, steps=2),
    "fool": lambda audit: audit.fool(None, 1, "linf"),
    "fooling_images": lambda audit: audit.fooling_images([0, 1], noises=2, steps=3),
    "attack": lambda audit: audit.attack("linf", 0.11, attack="pgd", steps=4),
    "robustness_curve": lambda audit: audit.robustness_curve("linf", [0.05, 0.11]),
    "min_perturbation": lambda audit: audit.min_perturbation("linf"),
    "gradient_masking": lambda audit: audit.gradient_masking("linf", 0.11),
}


def another_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = _TINY["TinyNet"]()
        torch.nn.init.normal_(module.conv.weight)
    return AuditModel(module.eval(), class_names=_TINY["CLASSES"], name="another")


@functools.cache
def measured(name):
    return measured_again(name)


def measured_again(name):
    model = AuditModel(_TINY["TinyNet"]().eval(), class_names=_TINY["CLASSES"], name="tiny")
    samples = Samples.from_tensors(IMAGES, LABELS, boxes=BOXES)
    return MEASURED[name](Audit(model, samples, device="cpu", batch_size=1))


def test_every_kind_of_measurement_is_tested_here():
    methods = {name for name in dir(Audit) if not name.startswith(("_", "assert_")) and callable(getattr(Audit, name))}
    assert methods == set(MEASURED)


@pytest.mark.parametrize("name", MEASURED)
def test_a_measurement_comes_back_whole(name):
    found = measured(name)
    again = unpack(pack(found))
    assert_same(found, again)
    assert found.kind == name
    assert repr(again) == repr(found)
    assert_same(found.metrics, again.metrics)


@pytest.mark.parametrize("name", sorted(set(MEASURED) - {"filters", "filter_banks"}))
def test_a_measurement_of_parts_that_were_kept_is_the_same(name, monkeypatch):
    whole, measure, sizes = measured(name), Engine.measure, []

    def kept(self, samples, step, **settings):
        def again(batch):
            data = pack(step(batch))
            sizes.append(len(data))
            return unpack(data)

        return measure(self, samples, again, **settings)

    monkeypatch.setattr(Engine, "measure", kept)
    assert_same(whole, measured_again(name))
    assert len(sizes) >= 2


def test_the_methods_of_a_measurement_work_on_what_comes_back():
    found = unpack(pack(measured("min_perturbation")))
    assert_same(measured("min_perturbation").quantile(0.4), found.quantile(0.4))
    assert found.quantile(0.5) is found.median
    assert found.linked("there").median.link == "there"
    curve = measured("robustness_curve")
    assert_same(curve.at(0.05), unpack(pack(curve)).at(0.05))


# What cannot be packed -----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Foreign:
    x: int = 0


class Name(str):
    __slots__ = ()


def measurement(**columns):
    return Measurement(kind="k", title="t", settings={}, per_sample=columns)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (measurement(x=[1, 2, {"a": lambda: 0}]), "per_sample['x'][2]['a']: function cannot be packed"),
        (print, "builtin_function_or_method cannot be packed"),
        ({("a", 1): Path()}, "[('a', 1)]: PosixPath cannot be packed"),
        ({Path("a"): 1}, "[PosixPath('a')]: PosixPath cannot be packed"),
        (Exhibit("t", "", (Row("a", ({1},)),)), "rows[0].pictures[0]: set cannot be packed"),
        ([Foreign()], "[0]: Foreign cannot be packed"),
        ([Name("a")], "[0]: Name cannot be packed"),
        ([Metric], "[0]: type cannot be packed"),
        (torch.nn.Linear(1, 1), "Linear cannot be packed"),
        (torch.nn.Parameter(torch.zeros(1)), "Parameter cannot be packed"),
        (
            [torch.zeros(1, requires_grad=True)],
            "[0]: tensor of torch.float32 on cpu that requires grad cannot be packed",
        ),
        (torch.zeros(1, device="meta"), "tensor of torch.float32 on meta cannot be packed"),
        (torch.zeros(2).to_sparse(), "tensor of torch.float32 on cpu cannot be packed"),
        (np.array([print]), "array of object cannot be packed"),
        (np.zeros(2, [("a", "i4")]), "array of [('a', '<i4')] cannot be packed"),
        (np.zeros(2, [("a", "U0")])["a"], "array of <U0 cannot be packed"),
        (np.ma.zeros(2), "MaskedArray cannot be packed"),
        (np.void(b"abc"), "void cannot be packed"),
    ],
)
def test_anything_else_is_refused_by_type_and_place(value, said):
    with pytest.raises(PackError) as refused:
        pack(value)
    assert str(refused.value) == said


def test_what_is_nested_too_deeply_is_refused():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(PackError, match="nested too deeply"):
        pack(value)
    while value:  # or the interpreter would take them apart recursively
        value = value[0]


# What cannot be unpacked ---------------------------------------------------------------------------------------------

PACKED = pack(
    {
        "metric": Metric(0.3, name="a", ci95=(0.1, float("nan")), story=("b",)),
        "arrays": [np.arange(5.0), np.array(["a", "bc"]), np.array("2020-01-01", "M8[D]"), np.float32(3)],
        "tensors": (torch.zeros(2, 3, dtype=torch.bfloat16), torch.Size([2])),
        "made": [Line("l", [1.0], [2.0]), Baseline(0.1, 0.2), Cost(1, 2)],
        3: b"bytes",
        "large": 2**80,
    }
)


def tree(node):
    """A file with this tree and 64 bytes of numbers."""
    content = node if isinstance(node, bytes) else json.dumps(node).encode()
    return struct.pack("<8sQQ", PACKED[:8], len(content), 64) + content + bytes(64)


def unpacked_or_refused(data):
    try:
        unpack(data)
    except PackError as error:
        return str(error)
    return ""


def test_a_value_that_is_cut_short_anywhere_is_refused():
    assert all(unpacked_or_refused(PACKED[:length]) for length in range(len(PACKED)))
    assert unpacked_or_refused(PACKED + b"\0")
    unpack(PACKED)


def test_flipped_bits_never_do_worse_than_another_value():
    refused = 0
    for bit in range(8 * len(PACKED)):
        data = bytearray(PACKED)
        data[bit // 8] ^= 1 << bit % 8
        refused += bool(unpacked_or_refused(bytes(data)))
    assert refused > 2 * len(PACKED)


@given(data=st.binary())
def test_random_bytes_are_refused(data):
    assert unpacked_or_refused(data)
    unpacked_or_refused(PACKED[:8] + data)  # this may be a value, by chance


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
tags = st.sampled_from(
    ["int", "float", "bytes", "list", "tuple", "dict", "size", "text", "scalar", "known", "array", "tensor", "metric"]
)
dtypes = st.sampled_from(
    ["<f8", "<U1", "|b1", "|O", "<M8[s]", "<M8", "<M8[xy]", "|S0", "<f3", "torch.float32", "torch.x"]
)
shapes = st.lists(st.integers(-1, 4) | st.sampled_from([2**31, 2**63, 0.5, True]))
nodes = (
    json_values
    | st.builds(lambda tag, content: [tag, *content], tags, st.lists(json_values, max_size=4))
    | st.builds(
        lambda *parts: list(parts),
        st.sampled_from(["array", "tensor"]),
        dtypes,
        shapes,
        st.integers(-1, 65) | st.sampled_from([2**63, 0.5]),
        st.integers(-1, 65) | st.sampled_from([2**63, None]),
    )
    | st.builds(lambda dtype, bits: ["scalar", dtype, bits.hex()], dtypes, st.binary(max_size=9))
    | st.builds(
        lambda module, name, fields: ["made", f"pytest_cnnaudit.{module}", name, *fields],
        st.sampled_from(["results", "results.x", "audits.classify", "__main__", "", "."]) | st.text(),
        st.sampled_from(["Cost", "Metric", "Cost.__init__", "Clean", "dataclass", "np.ndarray", ""]) | st.text(),
        st.lists(json_values, max_size=2),
    )
)


@given(node=nodes | st.binary())
def test_a_tree_of_anything_is_a_value_or_refused(node):
    unpacked_or_refused(tree(node))


made = ["made", "pytest_cnnaudit.results.measurement", "Cost", ["forward", "backward"], [1, 2]]


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (["made", "os", "system", ["a"], ["b"]], "no dataclass or NamedTuple 'system'"),
        (["made", "dataclasses", "Field", ["a"], ["b"]], "no dataclass or NamedTuple 'Field'"),
        (["made", "pytest_cnnauditor", "A", [], []], "no dataclass or NamedTuple 'A'"),
        (
            ["made", "pytest_cnnaudit.__main__", "A", [], []],
            "no dataclass or NamedTuple 'A'",
        ),  # its import ends in sys.exit
        (["made", "pytest_cnnaudit.nowhere", "A", [], []], "No module named"),
        (["made", "pytest_cnnaudit.results.exhibits", "np.ndarray", [], []], "no dataclass or NamedTuple 'np.ndarray'"),
        (["made", "pytest_cnnaudit.results.metric", "Metric", [], []], "no dataclass or NamedTuple 'Metric'"),
        (["made", "pytest_cnnaudit.results.metric", "require", [], []], "no dataclass or NamedTuple 'require'"),
        (["made", "pytest_cnnaudit.audits.curve", "Measurement", [], []], "no dataclass or NamedTuple 'Measurement'"),
        ([*made[:3], ["forward"], [1]], "was packed with the fields"),
        ([*made[:4], [1]], "malformed"),
        (["metric", 1.0, ["name"], ["a"]], "was packed with the fields"),
        (["array", "|O", [8], 0, 64], "no dtype"),
        (["array", "<f8", [9], 0, 64], "malformed"),
        (["array", "<f8", [-1], 0, 64], "no shape"),
        (["array", "<f8", [8], 8, 64], "has no 64 bytes at 8"),
        (["tensor", "torch.load", [8], 0, 64], "malformed"),
        (["known", 0], "malformed"),
        ([[made, ["known", -2]]], "no value"),
        (["list", [made, made, ["known", -1]]], "malformed"),
        ({"a": 1}, "no value"),
        (b"[1, NaN]", "no number of JSON"),
        (b"[" * 100_000, "malformed"),
        (b"1" * 5000, "malformed"),
    ],
)
def test_what_is_malformed_is_refused_and_says_why(node, said):
    assert said in unpacked_or_refused(tree(node))


def test_another_version_of_the_format_is_refused():
    assert "of this version" in unpacked_or_refused(PACKED[:7] + b"\x02" + PACKED[8:])


def test_a_class_with_other_fields_than_before_is_refused(monkeypatch):
    data = pack(Mark(0.5, "median"))
    assert unpack(data) == Mark(0.5, "median")

    @dataclasses.dataclass
    class Changed:
        at: float
        label: str
        colour: str = "red"

    Changed.__module__, Changed.__qualname__ = Mark.__module__, Mark.__qualname__
    monkeypatch.setattr("pytest_cnnaudit.results.exhibits.Mark", Changed)
    with pytest.raises(PackError, match=r"\['at', 'label'\], and has \['at', 'label', 'colour'\] now"):
        unpack(data)
