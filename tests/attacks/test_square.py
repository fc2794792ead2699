import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks import square as module
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.attacks.square import square
from pytest_cnnaudit.draws import draw
from pytest_cnnaudit.results import Cost

norms = st.sampled_from(["linf", "l2"])
seeds = st.integers(0, 999)


def pixels(seed, shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brightness(images):
    """Logits of a model that nothing fools, and whose class 1 grows with the mean of the image."""
    bright = images.mean((1, 2, 3))
    return torch.stack([torch.full_like(bright, 9), bright, -bright], 1)


@given(
    norm=norms,
    eps=st.floats(1e-4, 3),
    queries=st.integers(1, 12),
    p=st.floats(0.01, 1),
    targeted=st.booleans(),
    shape=st.tuples(st.integers(1, 3), st.sampled_from([1, 3, 1, 4]), st.integers(1, 12), st.integers(1, 12)),
    seed=seeds,
)
def test_the_result_stays_in_the_ball_and_in_the_range(norm, eps, queries, p, targeted, shape, seed):
    images = (1.5 * pixels(seed, shape) - 0.25).clamp(0, 1).float()
    labels = torch.full((shape[0],), int(targeted))
    result = square(brightness, images, labels, norm=norm, eps=eps, queries=queries, p=p, targeted=targeted)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert (length(result - images, norm) <= eps + 1e-6).all()
    assert 0 <= result.min() <= result.max() <= 1


@settings(max_examples=15)
@given(
    norm=norms,
    order=st.permutations(range(6)),
    cut=st.integers(1, 5),
    at_once=st.none() | st.integers(1, 4),
    seed=seeds,
)
def test_neither_batch_nor_order_change_a_samples_result(assert_batch_is_no_matter, norm, order, cut, at_once, seed):
    def attack(model, images, labels, numbers, at_once=None):
        eps = 0.1 if norm == "linf" else 0.6
        return square(
            model, images, labels, norm=norm, eps=eps, queries=9, seeds=1000 * seed + numbers, at_once=at_once
        )

    assert_batch_is_no_matter(attack, seed, order, cut, at_once)


@settings(max_examples=5)
@given(seed=seeds)
@pytest.mark.parametrize(("norm", "factor"), [("linf", 0.99), ("linf", 1.01), ("l2", 0.99), ("l2", 2.0)])
def test_a_linear_classifier_is_fooled_beyond_the_distance_to_its_boundary(linear, norm, factor, seed):
    """In L∞ the search finds the best signs of 12 values; in L2 it only comes near the best direction."""
    model, images, labels, distances = linear(seed)
    eps = factor * float(distances[norm].min() if factor < 1 else distances[norm].max())
    with model.borrow() as borrowed, torch.no_grad():
        result = square(borrowed, images, labels, norm=norm, eps=eps, queries=300)
        assert ((borrowed(result).argmax(1) != labels) == (factor > 1)).all()


def test_a_target_is_reached(resnet20_model, cifar):
    images = cifar[0][:8]
    with resnet20_model.borrow() as model, torch.no_grad():
        targets = model(images).topk(2).indices[:, 1]
        result = square(model, images, targets, eps=16 / 255, queries=150, targeted=True)
        assert model(result).argmax(1).tolist() == targets.tolist()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_query_is_one_forward_pass_and_a_fooled_sample_asks_no_more(tiny_net, drawn, norm):
    images, _ = drawn(0, 5)
    with AuditModel(tiny_net()).borrow() as model:
        with torch.no_grad():
            labels = model(images).argmax(1)
        labels[:2] = (labels[:2] + 1) % 4
        before = model.cost
        square(model, images, labels, norm=norm, eps=1e-9, queries=7)
        assert model.cost - before == Cost(2 + 3 * 7, 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_giving_up_saves_queries_and_changes_no_answer_that_fools(resnet4b_model, cifar, norm):
    images, labels = (each[:24] for each in cifar)
    with resnet4b_model.borrow() as model, torch.no_grad():
        found, costs = [], []
        for hope in (None, 1.0):
            before = model.cost.forward
            eps = {"linf": 4 / 255, "l2": 0.5}[norm]
            found.append(square(model, images, labels, norm=norm, eps=eps, queries=600, hope=hope))
            costs.append(model.cost.forward - before)
        fooled = [model(each).argmax(1) != labels for each in found]
    assert costs[1] < 0.9 * costs[0]
    assert (fooled[0] | ~fooled[1]).all()
    assert found[0][fooled[1]].equal(found[1][fooled[1]])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_samples_ask_nothing(norm):
    images, labels = torch.rand(0, 3, 6, 6), torch.zeros(0, dtype=torch.int64)
    assert square(brightness, images, labels, norm=norm, eps=0.1).shape == images.shape


def test_no_gradient_is_asked_of_the_model():
    def hard(images):
        assert not torch.is_grad_enabled()
        return brightness(images.detach())

    square(hard, torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), eps=0.1, queries=3)


def test_every_query_asks_something_new_and_what_makes_it_worse_is_not_kept():
    seen = []

    def watched(images):
        seen.append(images.clone())
        return brightness(images)

    images = torch.full((1, 1, 6, 6), 0.5)
    result = square(watched, images, torch.tensor([0]), eps=0.1, queries=200)
    best = seen[0]
    for proposal in seen[1:]:
        assert not proposal.equal(best)  # that would waste the query
        best = proposal if proposal.mean() > best.mean() else best
    assert result.equal(best)


def test_the_squares_of_the_schedule_are_those_of_the_paper():
    """p is halved after 10, 50, 200, … of 10,000 queries (section 4): the sides in an image of 32×32."""
    assert module._sides(0.8, 32, 32, "linf") == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    assert module._sides(0.8, 32, 32, "l2") == [29, 21, 15, 11, 7, 5, 5, 3, 3, 3]
    assert module._sides(0.8, 28, 100, "linf")[0] == 28
    assert module._sides(1.0, 2, 2, "l2") == [1] * 10


@pytest.mark.parametrize("queries", [100, 2000])
def test_the_schedule_is_stretched_to_the_queries(monkeypatch, queries):
    sides = []
    recolour = module._recolour

    def watched(clean, best, eps, side, drawn):
        sides.append(int(side))
        return recolour(clean, best, eps, side, drawn)

    monkeypatch.setattr(module, "_recolour", watched)
    square(brightness, torch.full((1, 1, 32, 32), 0.5), torch.tensor([0]), eps=0.1, queries=queries)
    expected = []
    for number in range(queries):
        at = int(number / queries * 10_000)
        halved = sum(at > after for after in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
        expected.append(max(round((0.8 / 2**halved * 1024) ** 0.5), 1))
    assert sides == expected


@given(seed=seeds, side=st.integers(1, 7), channels=st.integers(1, 3))
def test_a_linf_proposal_is_a_square_of_one_new_colour(seed, side, channels):
    clean = 0.3 + 0.4 * pixels(seed, (3, channels, 7, 9))
    best = module._stripes(clean, 0.1, torch.arange(3))
    drawn = draw(torch.arange(3) + 10 * seed, torch.ones(3, dtype=torch.int64), 2 + channels)
    proposal = module._recolour(clean, best, 0.1, torch.full((3,), side), drawn)
    for before, after, image in zip(best, proposal, clean, strict=True):
        changed = (before != after).any(0).nonzero()
        assert len(changed)
        assert (changed.amax(0) - changed.amin(0) < side).all()
        (top, left), (bottom, right) = changed.amin(0).tolist(), changed.amax(0).tolist()
        colour = ((after - image) / 0.1)[:, top : bottom + 1, left : right + 1].flatten(1)
        torch.testing.assert_close(colour.abs(), torch.ones_like(colour))


@given(seed=seeds, side=st.sampled_from([3, 5, 7]), channels=st.integers(1, 3))
def test_an_l2_proposal_moves_mass_and_keeps_the_distance(seed, side, channels):
    clean = 0.4 + 0.2 * pixels(seed, (3, channels, 7, 9))
    best = module._tiles(clean, 0.3, torch.arange(3) + seed)
    torch.testing.assert_close(length(best - clean, "l2"), torch.full((3,), 0.3, dtype=torch.float64))
    drawn = draw(torch.arange(3) + 10 * seed, torch.ones(3, dtype=torch.int64), 5 + channels)
    sides = torch.full((3,), side)
    bumps = module._bumps([7, side])[[1] * 3]
    proposal = module._move_mass(clean, best, 0.3, sides, bumps, drawn)
    torch.testing.assert_close(length(proposal - clean, "l2"), torch.full((3,), 0.3, dtype=torch.float64))
    to, source = (module._square(clean, sides, drawn[:, k : k + 2])[2] for k in (0, 2))
    assert (to.flatten(1).sum(1) == side**2).all()
    outside = ~(to | source)
    torch.testing.assert_close(((proposal - clean) * outside), (best - clean) * outside)
    assert not ((proposal - clean) * (source & ~to)).any()
    # The pixels of both squares hold as much as before, in each channel.
    mass = [((each - clean) * (to | source)).square().sum((2, 3)) for each in (best, proposal)]
    torch.testing.assert_close(*mass)


@pytest.mark.parametrize("side", [1, 2, 3, 6, 11])
def test_a_bump_is_the_one_of_the_paper(side):
    """Section 3.3: nested rectangles around the centre of each half, the k-th of which adds 1/k²."""

    def half(height, width):
        values = torch.zeros(height, width, dtype=torch.float64)
        for k in range(max(height // 2, width // 2) + 1):
            values[
                max(height // 2 - k, 0) : height // 2 + k + 1, max(width // 2 - k, 0) : width // 2 + k + 1
            ] += 1 / (k + 1) ** 2  # fmt: skip
        return values / values.norm() if height else values

    expected = torch.cat([half(side // 2, side), -half(side - side // 2, side)])
    expected /= expected.norm()
    bumps = module._bumps([side, 12])[0]
    torch.testing.assert_close(bumps[0, :side, :side], expected)
    assert bumps[1].equal(bumps[0].T)
    assert not bumps[0, side:].any()
    assert not bumps[0, :, side:].any()


@pytest.mark.filterwarnings("ignore:Please import .gaussian_filter.:DeprecationWarning")
@pytest.mark.parametrize(("norm", "eps"), [("linf", 4 / 255), ("l2", 0.4)])
def test_it_is_as_strong_as_in_torchattacks(resnet20_model, patches, norm, eps):
    """In the mean of four runs: of 16 samples, one run leaves some two more or fewer than another."""
    import torchattacks

    images, labels = (each[:16] for each in patches)
    with resnet20_model.borrow() as model, torch.no_grad():
        runs = [
            square(model, images, labels, norm=norm, eps=eps, queries=100, seeds=1000 * run + torch.arange(len(images)))
            for run in range(4)
        ]
        reference = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "n_queries": 100}
        theirs = [torchattacks.Square(model, seed=run, **reference)(images, labels) for run in range(4)]
        standing, expected = (
            sum(int((model(each).argmax(1) == labels).sum()) for each in found) / 4 for found in (runs, theirs)
        )
    assert 2 < expected < len(images) - 2
    assert standing <= expected + 1


@pytest.mark.parametrize(
    ("options", "message"), [({"queries": 0}, "queries=0"), ({"p": 1.5}, "p=1.5"), ({"norm": "l1"}, "'l1'")]
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(AuditError, match=message):
        square(brightness, torch.rand(1, 3, 4, 4), torch.tensor([0]), eps=0.1, **options)
