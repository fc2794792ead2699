"""Banks that hold the same filters are told from banks that are merely as smooth; the lens has its own tests."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.lenses.filter_banks import best_match, smooth_noise
from pytest_cnnaudit.questions.filters import FilterQuestions


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gabors(size, seed, count=64):
    """Oriented edges and colour blobs, anywhere near the middle: as in the first layers of AlexNet and ResNets."""
    rng = np.random.default_rng(seed)
    steps = torch.arange(size) - (size - 1) / 2
    bank = []
    for number in range(count):
        top, left = rng.uniform(-1, 1, 2)
        y, x = steps[:, None] - top, steps[None, :] - left
        angle, frequency, phase = rng.uniform(0, math.pi), rng.uniform(0.08, 0.3), rng.uniform(0, 2 * math.pi)
        blob = torch.exp(-(x**2 + y**2) / (2 * (size / 5 * rng.uniform(0.8, 1.2)) ** 2))
        wave = torch.cos(2 * math.pi * frequency * (x * math.cos(angle) + y * math.sin(angle)) + phase)
        colour = torch.from_numpy(rng.standard_normal(3)).float() if number % 3 == 0 else torch.ones(3)
        bank.append((blob if number % 3 == 0 else blob * wave) * colour[:, None, None])
    return torch.stack(bank).float()


def model(weight, name="model"):
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False)
    conv.weight.data.copy_(weight)
    return AuditModel(nn.Sequential(conv), name=name)


def compared(*banks, **options):
    first, *others = [model(bank, name) for bank, name in zip(banks, "abcd", strict=False)]
    return FilterQuestions(first, device="cpu").filter_banks(*others, **options)


def inner(count, *, size=9, seed=0):
    """Filters with zeros around, which can be moved by 2 and stay whole."""
    bank = torch.zeros(count, 3, size, size)
    bank[:, :, 2:-2, 2:-2] = noise(count, 3, size - 4, size - 4, seed=seed)
    return bank


def test_the_same_filters_elsewhere_and_negated_are_one_bank():
    bank = inner(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    found = compared(bank, -bank[order].roll((1, -2), (2, 3)))
    assert float(found.similarity) == pytest.approx(1)
    assert found.matches["a", "b"].filter.tolist() == order.argsort().tolist()
    assert found.matches["a", "b"].shift.tolist() == [[-1, 2]] * 12
    assert found.matches["b", "a"].sign.tolist() == [-1] * 12
    assert found.smooth_noise < 0.6
    assert not found.notes


def test_the_similarity_is_the_mean_over_the_filters_of_all_banks_of_their_best_match_in_each_other():
    banks = [noise(5, 3, 3, 3), noise(9, 3, 3, 3, seed=1), noise(2, 3, 5, 5, seed=2)]
    found = compared(*banks)
    of_filters = [
        torch.stack([best_match(bank, other).cosine for other in banks if other is not bank]).mean(0) for bank in banks
    ]
    values = torch.cat(of_filters).numpy()
    np.testing.assert_allclose(found.per_sample["similarity"], values)
    assert float(found.similarity) == pytest.approx(values.mean())
    assert found.similarity.ci95[0] < values.mean() < found.similarity.ci95[1]
    assert (found.similarity.n, len(found.ids)) == (16, 16)
    assert found.ids[5] == "b filter 0"
    assert found.per_sample["bank"].tolist() == [0] * 5 + [1] * 9 + [2] * 2
    assert float(found.pairs["b", "c"]) == pytest.approx(float(best_match(banks[1], banks[2]).cosine.mean()))
    assert set(found.pairs) == {(one, other) for one in "abc" for other in "abc" if one != other}


def test_no_figure_depends_on_which_model_is_audited():
    one, other = model(gabors(7, 0, 20), "one"), model(gabors(5, 1, 30), "other")
    here = FilterQuestions(one, device="cpu").filter_banks(other)
    there = FilterQuestions(other, device="cpu").filter_banks(one)
    for metric, same in zip(here.metrics, there.metrics, strict=True):
        assert float(metric) == pytest.approx(float(same))


@pytest.mark.parametrize(("size", "other"), [(11, 11), (7, 7), (11, 7)])
def test_banks_of_oriented_edges_and_blobs_are_far_more_alike_than_noise_of_their_own_spectrum(size, other):
    found = compared(gabors(size, 0), gabors(other, 1))
    assert found.similarity.ci95[0] > found.smooth_noise + 0.1  # measured: 0.85 to 0.92 beside 0.70 to 0.74
    assert found.smooth_noise > found.noise + 0.3  # 0.17 to 0.25
    assert not found.notes


def test_noise_scores_what_noise_scores():
    found = compared(noise(64, 3, 7, 7), noise(64, 3, 7, 7, seed=1))
    assert float(found.similarity) == pytest.approx(float(found.noise), abs=0.01)
    assert found.similarity < found.smooth_noise < found.similarity + 0.08
    assert "no more alike than noise" in found.notes[0]


def test_one_bank_of_noise_is_not_alike_to_one_of_edges():
    found = compared(gabors(7, 0), noise(64, 3, 7, 7))
    assert float(found.similarity) == pytest.approx(float(found.noise), abs=0.03)
    assert "no more alike than noise" in found.notes[0]


def test_filters_that_are_smooth_and_nothing_else_score_what_smooth_noise_scores():
    banks = [smooth_noise((64, 3, 11, 11), [gabors(11, 2, 500)], seed=seed) for seed in (0, 1)]
    found = compared(*banks)
    assert float(found.similarity) == pytest.approx(float(found.smooth_noise), abs=0.04)
    assert found.similarity > 2 * float(found.noise)
    assert "no more alike than noise" in found.notes[0]


def test_dead_filters_are_left_out_and_counted():
    bank, other = noise(8, 3, 3, 3), noise(8, 3, 3, 3, seed=1)
    alone = compared(bank[[0, 1, 3, 4, 5, 7]], other)
    bank[2], bank[6] = 0, 1e-4 * other[0]  # a perfect match, were it alive
    found = compared(bank, other)
    for metric, same in zip(alone.metrics, found.metrics, strict=True):
        assert float(metric) == pytest.approx(float(same))
    assert found.similarity.n == 14
    assert np.flatnonzero(found.per_sample["dead"]).tolist() == [2, 6]
    assert np.flatnonzero(np.isnan(found.per_sample["similarity"])).tolist() == [2, 6]
    assert found.notes[0].startswith("2 of 8 filters of a are dead")
    assert found.exhibits[0].rows[0].pictures[0].caption == "0, 8×3×3×3, 2 dead"


def test_real_first_layers_share_filters_and_random_ones_do_not(shared_models, resnet20_model, resnet4b_model):
    squeezenet = AuditModel(shared_models.load("imagenet_squeezenet1_1"), name="squeezenet")
    found = FilterQuestions(squeezenet, device="cpu").filter_banks(resnet20_model, resnet4b_model)
    assert 0.65 < found.similarity < 0.75  # measured: 0.69, smooth noise 0.63, white noise 0.45
    assert found.similarity.ci95[0] > found.smooth_noise + 0.02
    assert found.smooth_noise > found.noise + 0.1
    assert found.similarity.n == 94  # two filters of the ResNet-20 are dead
    torch.manual_seed(0)
    random = AuditModel(shared_models.CifarResNet(20), name="random")
    found = FilterQuestions(random, device="cpu").filter_banks(squeezenet)
    assert found.similarity < found.smooth_noise + 0.02
    assert "no more alike than noise" in found.notes[0]


# What is shown.


def tiles(picture, columns, gap=4):
    """The filters of a sheet."""
    height, width = picture.pixels.shape[:2]
    side = (width + gap) // columns
    return [
        picture.pixels[top : top + side - gap, left : left + side - gap]
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def test_like_stands_by_like():
    bank = inner(16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    sheets = compared(bank, bank[order], -bank).exhibits[0]
    assert sheets.columns == ("a", "b", "c")
    first, shuffled, negated = sheets.rows[0].pictures
    assert np.array_equal(first.pixels, shuffled.pixels)
    assert len({tile.tobytes() for tile in tiles(first, 4)}) == 16
    for tile, other in zip(tiles(first, 4), tiles(negated, 4), strict=True):
        assert np.abs(tile.astype(int) + other - 255).max() <= 1


def test_the_pairs_most_alike_come_first_with_gaps_where_there_is_no_partner_and_the_dead_last():
    bank = inner(9, size=7)
    few = torch.cat([bank[[2]], bank[[0]] + 0.1 * inner(1, size=7, seed=5), noise(1, 3, 7, 7), torch.zeros(1, 3, 7, 7)])
    first, second = compared(bank, few).exhibits[0].rows[0].pictures
    leading, shown = tiles(first, 3), tiles(second, 3)
    assert np.array_equal(shown[0], leading[0])
    assert [np.abs(shown[place].astype(int) - leading[place]).max() < 40 for place in (1, 2)] == [True, False]
    assert (len(leading), len(shown)) == (9, 6)
    assert (shown[3] == 128).all()  # grey: dead
    assert (shown[4] == 255).all()  # nothing
    dead_alone = tiles(compared(bank, few[[0, 1, 3]]).exhibits[0].rows[0].pictures[1], 3)
    assert [(tile == 255).all() for tile in dead_alone] == [False, False, True, False, True, True]
    second, first = compared(few, bank).exhibits[0].rows[0].pictures
    assert np.array_equal(tiles(first, 3)[0], tiles(second, 3)[0])
    assert len({tile.tobytes() for tile in tiles(first, 3)}) == 9  # those without a partner as well


@pytest.mark.parametrize("size", [3, 4, 5, 7, 11, 16])
def test_sheets_are_large_enough_to_look_at_and_pixels_are_squares(size):
    picture = compared(noise(64, 3, size, size), noise(16, 3, 3, 3)).exhibits[0].rows[0].pictures[0]
    assert picture.pixels.shape[1] == pytest.approx(720, abs=80)
    tile = tiles(picture, 8)[9]
    times = len(tile) // size
    assert np.array_equal(tile, tile[::times, ::times].repeat(times, 0).repeat(times, 1))
    assert len(np.unique(tile.reshape(-1, 3), axis=0)) > size


def test_a_match_that_is_moved_to_fit_looks_like_the_filter_and_its_caption_says_how():
    bank = inner(20)
    best, worst, _ = compared(bank, -bank.roll((1, -2), (2, 3))).exhibits[1:]
    assert best.columns == ("a", "b", "b, to fit")
    assert (len(best.rows), len(worst.rows)) == (12, 6)
    for row in best.rows:
        filter_, there, moved = row.pictures
        assert row.title == filter_.caption
        assert there.caption == f"1.00, {row.title}"
        assert moved.caption == "1 up, 2 right, negated"
        assert np.array_equal(moved.pixels, filter_.pixels)
        assert not np.array_equal(there.pixels, filter_.pixels)
        assert filter_.pixels.shape == (126, 126, 3)  # wide enough for the page not to enlarge it


def test_moves_between_kernels_of_two_sizes_are_counted_from_middle_to_middle():
    small = noise(3, 3, 4, 4)
    large = torch.zeros(3, 3, 9, 9)
    for number, (top, left) in enumerate([(2, 2), (0, 5), (3, 3)]):
        large[number, :, top : top + 4, left : left + 4] = small[number]
    rows = {row.title: row for row in compared(large, small).exhibits[1].rows}
    assert [rows[f"filter {number}"].pictures[2].caption for number in range(3)] == [
        "0.5 up, 0.5 left",
        "2.5 up, 2.5 right",
        "0.5 down, 0.5 right",
    ]


def test_the_best_matches_come_from_the_top_and_the_weakest_from_the_bottom():
    found = compared(gabors(7, 0, 40), gabors(7, 1))
    best, worst, _ = found.exhibits[1:]
    similarity = found.per_sample["similarity"][:40]
    order = np.argsort(-similarity)
    assert [row.title for row in best.rows] == [f"filter {each}" for each in order[:12]]
    assert [row.title for row in worst.rows] == [f"filter {each}" for each in order[::-1][:6]]


def test_the_table_holds_every_pair_beside_its_noise():
    found = compared(noise(4, 3, 3, 3), noise(64, 3, 3, 3, seed=1), gabors(5, 0))
    table = found.exhibits[-1]
    assert table.columns == ("filters of", "looked for in", "similarity", "white noise", "smooth noise")
    assert {row.cells[:2]: row.cells[2] for row in table.rows} == {
        pair: f"{float(metric):.2f}" for pair, metric in found.pairs.items()
    }
    white = {row.cells[:2]: float(row.cells[3]) for row in table.rows}
    assert white["a", "b"] > white["b", "a"] + 0.1  # it is easier to find 4 filters among 64 than the other way


# What can be given.


class Net(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 6, 5)
        self.point, self.head = nn.Conv2d(6, 4, 1), nn.Linear(4, 2)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_layers_can_be_named_of_either_model(net):
    torch.manual_seed(1)
    other = AuditModel(Net(), name="other")
    audit = FilterQuestions(AuditModel(net, name="audited"), device="cpu")
    found = audit.filter_banks((other, "second"), layer="second")
    assert dict(found.settings) == {"audited": "second, 6×4×5×5", "other": "second, 6×4×5×5"}
    expected = best_match(net.second.weight, other.module.second.weight).cosine.mean()
    assert float(found.pairs["audited", "other"]) == pytest.approx(float(expected))
    assert audit.measurements == [found]


def test_the_audited_layer_itself_is_left_out():
    models = [model(noise(4, 3, 3, 3, seed=seed), name) for seed, name in enumerate("abc")]
    found = FilterQuestions(models[1], device="cpu").filter_banks(*models)
    assert list(found.settings) == ["b", "a", "c"]


def test_models_of_one_name_are_told_apart(net):
    audit = FilterQuestions(AuditModel(net), device="cpu")
    assert list(audit.filter_banks(AuditModel(Net(4)), layer="second").settings) == ["Net second", "Net first"]
    names = list(audit.filter_banks(AuditModel(Net()), model(noise(2, 3, 3, 3), "other")).settings)
    assert names == ["Net first (1)", "Net first (2)", "other"]


def test_filters_of_other_input_channels_are_refused_by_name(net):
    audit = FilterQuestions(AuditModel(net, name="colour"), device="cpu")
    with pytest.raises(
        AuditError, match=r"filters of colour \(first\) have 3 input channels and those of grey \(first\) have 1;"
    ):
        audit.filter_banks(AuditModel(Net(1), name="grey"))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("head", "layer 'head' of Net is a Linear; filters are compared in an nn.Conv2d"),
        ("point", "layer 'point' of Net has 1×1 kernels"),
        ("frist", "no layer 'frist' in Net. Did you mean 'first'"),
    ],
)
def test_layers_that_cannot_be_compared_are_refused_by_name(net, layer, message):
    audit = FilterQuestions(AuditModel(net), device="cpu")
    with pytest.raises(AuditError, match=message):
        audit.filter_banks((AuditModel(Net()), layer))
    with pytest.raises(AuditError, match=message):
        audit.filter_banks(AuditModel(Net()), layer=layer)


@pytest.mark.parametrize(("value", "word"), [(0.0, "all zero"), (math.nan, "not finite"), (math.inf, "not finite")])
def test_weights_that_are_no_filters_are_refused(value, word):
    with pytest.raises(AuditError, match=f"weights of the layer '0' of b are {word}"):
        compared(noise(4, 3, 3, 3), torch.full((4, 3, 3, 3), value))


def test_something_to_compare_with_is_needed(net):
    audited = AuditModel(net)
    audit = FilterQuestions(audited, device="cpu")
    for others in ((), (audited,)):
        with pytest.raises(AuditError, match="nothing to compare the filters of Net with"):
            audit.filter_banks(*others)
    for other, name in ((net, "Net"), ((net, "first"), "Net"), ("first", "str"), ((audited,), "tuple")):
        with pytest.raises(AuditError, match=f"but was given {name}"):
            audit.filter_banks(other)


def test_no_pass_is_made_and_both_models_are_left_as_they_were(net, untouched, counting):
    torch.manual_seed(1)
    other = Net()
    checks = [untouched(each.train()) for each in (net, other)]
    found = FilterQuestions(AuditModel(counting(net)), device="cpu").filter_banks(AuditModel(counting(other)))
    assert (found.cost.forward, found.cost.backward) == (0, 0)  # Net has no forward: a pass would raise
    for check in checks:
        check()


def test_a_plain_assert_says_what_was_compared():
    found = compared(noise(4, 3, 3, 3), noise(5, 3, 3, 3, seed=1))
    assert not found.similarity >= 0.99
    assert found.similarity.comparisons[0].threshold == 0.99
    story = "\n".join(found.similarity.story)
    assert "a 0 4×3×3×3; b 0 5×3×3×3" in story
    assert "white noise 0." in story
    assert "smooth noise 0." in story


def test_models_of_half_precision_are_compared():
    half = AuditModel(nn.Sequential(nn.Conv2d(3, 4, 3)).bfloat16(), name="half")
    found = FilterQuestions(half, device="cpu").filter_banks(model(half.module[0].weight.detach().float(), "same"))
    assert float(found.similarity) == pytest.approx(1)
