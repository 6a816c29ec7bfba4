"""Distances between sets, against NumPy and SciPy; their floors; what stands in their tags."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

import genkit
from genkit import Factory, Figure, GenerativeModel, Note, Sampler, Samples, Split
from genkit.engine.feed import Feed
from genkit_features.extractor import FeatureExtractor
from genkit_metrics import precision_recall as module
from genkit_metrics.comparison import SEED, Comparison
from genkit_metrics.frechet import Frechet, frechet_distance
from genkit_metrics.kernel import kernel_distance
from genkit_metrics.precision_recall import precision_recall

CPU = torch.device("cpu")
SPEC = genkit.DataSpec((2,))


class Anything(GenerativeModel):
    pass


class Cloud(Sampler):
    """Draws from a normal, and keeps how many were asked for."""

    def __init__(self, model, objective, /, *, shift: float = 0.0):
        self.shift = shift
        self.asked = []

    def sample(self, num_samples, context=None):
        self.asked.append(num_samples)
        return Samples(torch.randn(num_samples, 2) + self.shift)


class Halved(FeatureExtractor):
    """An extractor that has something to say."""

    def __init__(self, spec, /):
        self.seen = None

    def fit(self, train, test):
        self.seen, first = (train, test), self.seen is None
        return "learnt to halve" if first else ""

    @property
    def label(self):
        return "halved v7"

    def features(self, x):
        return x / 2


def every(examples, count):
    """Examples from all over, as genkit chooses them."""
    view = Feed(Split(examples, Tensor.float), CPU)
    return torch.cat([batch.x for batch in genkit.spread(view, count, 1000)])


def subject_of(sampler=None, **splits):
    data = {name: Feed(Split(values, Tensor.float), CPU) for name, values in splits.items()}
    model = Anything(SPEC)
    return genkit.Subject(model, None, sampler or Cloud(model, None), None, data, epoch=0, batch_size=7)


def built(use, **options):
    return genkit.build("evaluator", {"use": use, "extractor": "values", **options}, Anything(SPEC))


def figures(evaluator, subject, split, seed=5):
    torch.manual_seed(seed)
    with torch.no_grad():
        return {result.name: result for result in evaluator.evaluate(subject, split) if isinstance(result, Figure)}


def correlated(count, dims, seed, shift=0.0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(size=(count, dims)) @ random.normal(size=(dims, dims)) + shift)


# ---- the Fréchet distance ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 2, 16])
def test_frechet_is_scipys(dims):
    x, y = correlated(400, dims, 1), correlated(300, dims, 2, shift=0.3)
    first, second = np.atleast_2d(np.cov(x.numpy().T)), np.atleast_2d(np.cov(y.numpy().T))
    root = scipy.linalg.sqrtm(first @ second).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(first + second - 2 * root)
    assert frechet_distance(x, y)[""] == pytest.approx(expected, rel=1e-6)


def test_frechet_of_diagonal_normals_is_the_closed_form():
    z = correlated(500, 3, 3)
    z = z - z.mean(0)
    z = torch.linalg.solve_triangular(torch.linalg.cholesky(z.T @ z / 499), z.T, upper=False).T  # covariance exactly 1
    scales, others = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 0.1, 0.5]).double()
    shift = torch.tensor([0.0, -1.0, 2.0]).double()
    expected = shift.square().sum() + (scales - others).square().sum()
    assert frechet_distance(z * scales, z * others + shift)[""] == pytest.approx(expected.item(), rel=1e-6)


def test_frechet_with_fewer_examples_than_features():
    x, y = correlated(10, 40, 4), correlated(12, 40, 5, shift=1.0)
    a, b = ((v - v.mean(0)) / (len(v) - 1) ** 0.5 for v in (x, y))
    cross = torch.linalg.matrix_norm(a @ b.T, "nuc")  # the trace of the root, where the covariances are singular
    expected = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * cross
    assert frechet_distance(x, y)[""] == pytest.approx(expected.item(), rel=1e-4)


def test_frechet_of_a_set_from_itself_is_zero_and_not_below():
    for seed in range(5):
        x = correlated(50, 8, seed).float()
        assert 0 <= frechet_distance(x, x)[""] < 1e-4


# ---- the kernel distance -----------------------------------------------------------------------------------------


def brute_force_mmd(x, y):
    """The unbiased estimate, summed pair by pair."""

    def k(a, b):
        return (float(np.dot(a, b)) / len(a) + 1) ** 3

    x, y = x.double().numpy(), y.double().numpy()
    within = [
        sum(k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (len(s) * (len(s) - 1))
        for s in (x, y)
    ]
    return sum(within) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


@pytest.mark.parametrize("dims", [1, 5])
def test_kernel_is_the_double_sum(dims):
    x, y = correlated(30, dims, 6).float(), correlated(30, dims, 7, shift=0.4).float()
    found = kernel_distance(x, y, subsets=3, subset_size=30)
    assert found[""] == pytest.approx(brute_force_mmd(x, y), rel=1e-4)
    assert found["std"] == pytest.approx(0, abs=1e-4)  # each subset is the whole


def test_kernel_is_accurate_for_features_far_from_zero():
    x, y = (correlated(30, 5, seed).float() + 20 for seed in (6, 7))
    assert kernel_distance(x, y, subsets=1)[""] == pytest.approx(brute_force_mmd(x, y), rel=1e-3)


def test_kernel_is_near_zero_for_one_distribution_alone():
    torch.manual_seed(1)
    x, y = torch.randn(600, 4), torch.randn(600, 4)
    same, other = (kernel_distance(x, v, subsets=50, subset_size=200) for v in (y, y + 0.5))
    assert abs(same[""]) < 0.03
    assert other[""] > 0.3
    assert 0 < same["std"] < other["std"]


def test_kernel_does_not_grow_with_fewer_examples():
    torch.manual_seed(2)
    found = torch.tensor([kernel_distance(torch.randn(5, 2), torch.randn(5, 2), subsets=1)[""] for _ in range(400)])
    assert abs(found.mean()) < 4 * found.std() / 20  # unbiased, so below 0 as often as above
    assert (found < 0).float().mean() > 0.3


@pytest.mark.parametrize(("count", "other"), [(9, 14), (14, 9)])
def test_kernel_takes_smaller_subsets_of_fewer_examples(count, other):
    x, y = correlated(count, 2, 8).float(), correlated(other, 2, 9).float()
    found = kernel_distance(x, y, subsets=400, subset_size=1000)
    assert found[""] == pytest.approx(brute_force_mmd(x, y), abs=5 * found["std"] / 20)


# ---- precision and recall, density and coverage ------------------------------------------------------------------


def naive(data, samples, k):
    """The four figures, ball by ball."""
    x, y = data.double().numpy(), samples.double().numpy()

    def radius(points, i):
        distances = sorted(float(np.linalg.norm(points[i] - p)) for j, p in enumerate(points) if j != i)
        return distances[min(k, len(distances)) - 1]

    balls = [(a, radius(x, i)) for i, a in enumerate(x)]
    sample_balls = [(b, radius(y, i)) for i, b in enumerate(y)]
    inside = np.array([[np.linalg.norm(b - a) <= r for a, r in balls] for b in y])
    back = np.array([[np.linalg.norm(a - b) <= r for b, r in sample_balls] for a in x])
    return {
        "precision": inside.any(1).mean(),
        "recall": back.any(1).mean(),
        "density": inside.sum() / min(k, len(x) - 1) / len(y),
        "coverage": inside.any(0).mean(),
    }


@pytest.mark.parametrize("neighbours", [1, 3, 5])
@pytest.mark.parametrize("rows", [7, 1000])
def test_precision_and_recall_are_those_of_the_naive_loop(neighbours, rows, monkeypatch):
    monkeypatch.setattr(module, "ROWS", rows)
    x, y = correlated(40, 3, 10).float(), correlated(55, 3, 11, shift=0.5).float()
    expected = naive(x, y, neighbours)
    assert 0 < expected["recall"] < 1
    assert 0 < expected["precision"] < 1
    assert 0 < expected["coverage"] < 1
    assert precision_recall(x, y, neighbours) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_precision_and_recall_tell_apart_what_is_close(offset):
    ring = genkit.build("dataset", {"use": "mixture", "train": 150, "test": 150, "std": 0.001})
    x, y = (ring.split(name).source + offset for name in ("train", "test"))
    assert precision_recall(x, y, 3) == pytest.approx(naive(x, y, 3), abs=0.02)


def test_a_set_has_all_of_itself():
    x = correlated(60, 4, 12).float()
    found = precision_recall(x, x.clone())
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)


def test_sets_far_apart_have_nothing_of_each_other():
    x = correlated(60, 4, 13).float()
    assert set(precision_recall(x, x + 1000).values()) == {0.0}


def test_dropped_modes_cost_recall_and_leave_precision():
    torch.manual_seed(3)
    modes = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]]).repeat(60, 1)
    data = modes + torch.randn(240, 2)
    found = precision_recall(data, modes[:1] + torch.randn(240, 2))
    assert found["precision"] > 0.9
    assert 0.15 < found["recall"] <= 0.25  # one mode in four
    assert 0.15 < found["coverage"] <= 0.25
    turned = precision_recall(modes[:1] + torch.randn(240, 2), data)
    assert turned["recall"] > 0.8
    assert turned["precision"] <= 0.25


@pytest.mark.parametrize(("count", "other"), [(3, 4), (2, 30), (30, 2)])
def test_fewer_examples_than_neighbours(count, other):
    x, y = correlated(count, 2, 14).float(), correlated(other, 2, 15).float()
    assert precision_recall(x, y, neighbours=10) == pytest.approx(naive(x, y, 10), abs=1e-6)


# ---- the comparison and its floor --------------------------------------------------------------------------------


def test_figure_and_floor_are_the_same_measure():
    train, validation, test = (correlated(count, 2, seed).float() for count, seed in ((90, 1), (60, 2), (70, 3)))
    subject = subject_of(train=train, validation=validation, test=test)
    found = figures(built("frechet", num_samples=50), subject, "validation")[""]
    torch.manual_seed(5)
    samples = torch.cat([subject.sampler.sample(size).x for size in [7] * 7 + [1]])
    assert subject.sampler.asked[:8] == [7] * 7 + [1]
    assert found.value == pytest.approx(frechet_distance(every(validation, 50), samples)[""], rel=1e-6)
    assert found.floor == pytest.approx(frechet_distance(every(test, 50), every(train, 50))[""], rel=1e-6)
    assert found.better == "lower"


def test_tag_names_extractor_number_and_split():
    subject = subject_of(train=torch.randn(90, 2), validation=torch.randn(60, 2), test=torch.randn(70, 2))
    for use in ("frechet", "kernel", "precision_recall"):
        evaluator = built(use, num_samples=50)
        assert evaluator.splits == ("validation", "test")
        for split in evaluator.splits:
            for found in figures(evaluator, subject, split).values():
                assert found.tag == f"values; 50 samples against 50 of {split}; floor: 50 of train against 50 of test"


def test_smaller_split_is_compared_with_as_many_samples():
    subject = subject_of(train=torch.randn(90, 2), validation=torch.randn(20, 2))
    found = figures(built("frechet", num_samples=50), subject, "validation")[""]
    assert found.tag == "values; 20 samples against 20 of validation; floor: 20 of train against 20 of validation"
    assert sum(subject.sampler.asked) == 20


def test_floor_has_as_many_examples_as_the_figure_beside_it():
    train, validation, test = (correlated(count, 2, seed).float() for count, seed in ((90, 1), (20, 2), (70, 3)))
    evaluator, subject = built("frechet", num_samples=50), subject_of(train=train, validation=validation, test=test)
    for split, count in (("validation", 20), ("test", 50)):  # the distance falls with the number of examples
        found = figures(evaluator, subject, split)[""]
        assert found.floor == pytest.approx(frechet_distance(every(test, count), every(train, count))[""], rel=1e-6), (
            split
        )


@pytest.mark.parametrize(("count", "half"), [(61, 30), (200, 50)])
def test_floor_is_half_against_half_where_nothing_is_held_out(count, half):
    train = correlated(count, 2, 4).float()
    found = figures(built("frechet", num_samples=50, splits=["train"]), subject_of(train=train), "train")[""]
    torch.manual_seed(SEED)
    shuffled = every(train, min(100, count))[torch.randperm(min(100, count))]
    expected = frechet_distance(*(shuffled[start : 2 * half : 2] for start in (0, 1)))[""]
    assert found.floor == pytest.approx(expected, rel=1e-6)
    assert found.tag.endswith(f"of train; floor: {half} of train against {half} of train")


def test_floor_does_not_tell_neighbours_apart():
    """MNIST's training images alternate between two sources."""
    train = torch.randn(100, 2) + 20.0 * (torch.arange(100) % 2)[:, None]
    found = figures(built("frechet", num_samples=50, splits=["train"]), subject_of(train=train), "train")[""]
    assert found.floor < 30  # even against odd it would be 800


def test_floor_does_not_disturb_the_figures_random_numbers():
    subject = subject_of(train=torch.randn(90, 2), validation=torch.randn(60, 2), test=torch.randn(70, 2))
    evaluator = built("kernel", num_samples=50, subsets=4, subset_size=10)
    first, second = (figures(evaluator, subject, "validation") for _ in range(2))
    assert first == second
    later = built("kernel", num_samples=50, subsets=4, subset_size=10)
    figures(later, subject, "test", seed=9)  # the floor is found here
    assert figures(later, subject, "validation")[""].value == first[""].value


def test_floor_is_the_same_whenever_it_is_found():
    subject = subject_of(train=torch.randn(90, 2), validation=torch.randn(60, 2), test=torch.randn(70, 2))
    floors, states = set(), []
    for seed, split in ((1, "validation"), (2, "validation"), (3, "test")):
        evaluator = built("kernel", num_samples=50, subsets=4, subset_size=10)
        floors.add(figures(evaluator, subject, split, seed)[""].floor)
        states.append(torch.get_rng_state())
        figures(evaluator, subject, split, seed)
        assert torch.equal(torch.get_rng_state(), states[-1])  # the second time no floor is found
    assert len(floors) == 1
    assert not torch.equal(states[0], states[1])


def test_floors_tell_which_way_is_better():
    subject = subject_of(train=torch.randn(200, 2), test=torch.randn(200, 2))
    same = figures(built("precision_recall", num_samples=150), subject, "test")
    assert list(same) == ["precision", "recall", "density", "coverage"]
    assert all(found.better == "higher" and abs(found.value - found.floor) < 0.15 for found in same.values())
    far = subject_of(Cloud(None, None, shift=30.0), train=torch.randn(200, 2), test=torch.randn(200, 2))
    for found in figures(built("precision_recall", num_samples=150), far, "test").values():
        assert found.value == 0
        assert found.floor > 0.8
    kernel = figures(built("kernel"), far, "test")
    assert (kernel[""].better, kernel["std"].better) == ("lower", None)
    assert kernel[""].value > 1000 * abs(kernel[""].floor)


def test_extractor_is_fitted_before_it_is_used_and_what_it_says_is_passed_on():
    evaluator = Frechet(Anything(SPEC), extractor=Factory("halved", {}, Halved), num_samples=40)
    subject = subject_of(train=torch.randn(50, 2), test=torch.randn(50, 2))
    note, figure = evaluator.evaluate(subject, "test")
    assert note == Note("learnt to halve", "note")
    assert figure.tag.startswith("halved v7; 40 samples against 40 of test")
    assert evaluator.compare.extractor.seen == (subject.data["train"], subject.data["test"])
    halves = (every(subject.data[name].split.source, 40) / 2 for name in ("test", "train"))
    assert figure.floor == pytest.approx(frechet_distance(*halves)[""], rel=1e-6)
    (again,) = evaluator.evaluate(subject, "test")
    assert isinstance(again, Figure)


def test_comparison_takes_examples_from_all_over_in_batches_of_any_size():
    seen = []

    def measure(data, samples):
        seen.append((data, samples))
        return {"": 0.0}

    train, test = torch.randn(90, 2), torch.randn(60, 2)
    compare = Comparison(Factory("halved", {}, Halved), SPEC, 21, measure, {"": None})
    list(compare(subject_of(train=train, test=test), "test"))
    (data, samples), (held_out, trained) = seen
    assert torch.equal(data, every(test, 21) / 2)
    assert samples.shape == (21, 2)
    assert torch.equal(held_out, every(test, 21) / 2)
    assert torch.equal(trained, every(train, 21) / 2)


@pytest.mark.parametrize("use", ["frechet", "kernel", "precision_recall"])
@pytest.mark.parametrize("single", ["validation", "test", "train"])
def test_single_example_is_compared_with_nothing(use, single):
    counts = {"train": 9, "validation": 9, "test": 9} | {single: 1}
    subject = subject_of(**{name: torch.randn(count, 2) for name, count in counts.items()})
    with pytest.raises(genkit.GenkitError, match=f"1 example.* of {single}"):
        figures(built(use), subject, "validation")


@pytest.mark.parametrize("use", ["frechet", "kernel", "precision_recall"])
def test_default_extractor_is_refused_for_vectors_with_what_would_do(use):
    with pytest.raises(genkit.RecipeError, match=r"classifier is for images.*\(2,\).*extractor: values would do"):
        genkit.build("evaluator", use, Anything(SPEC))
