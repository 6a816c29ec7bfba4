"""Mode coverage: counted against what is known, refused where nothing can be counted, loud about a collapse."""

import importlib.metadata
import math
import signal

import numpy as np
import pytest
import scipy.stats
import torch
import toy
from torch import Tensor

import genkit
from genkit import Dataset, DataSpec, Factory, Figure, GenerativeModel, Note, Record, Sampler, Samples, Split
from genkit.engine.assembly import dry_build
from genkit.engine.feed import Feed
from genkit.recipe import load_recipe
from genkit.registry import GROUP, Plugin, Registrar, installed, load_registry
from genkit.runs import resume
from genkit_features.extractor import Classifies, FeatureExtractor
from genkit_metrics.mode_coverage import ChannelView, ImageModes, MixtureModes, divergence_from_uniform
from genkit_mnist.mnist import read_idx

CPU = torch.device("cpu")


class Anything(GenerativeModel):
    pass


class Given(Sampler):
    """Draws what it is given, in order."""

    def __init__(self, x):
        self.x = x
        self.place = 0

    def sample(self, num_samples, context=None):
        self.place += num_samples
        return Samples(self.x[self.place - num_samples : self.place])


class Shades(Dataset):
    """Labelled images: the shade is the class."""

    def __init__(self, counts=(3, 3, 3, 3)):
        self.labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        self.classes = len(counts)

    @property
    def spec(self):
        return DataSpec((1, 2, 2), num_classes=self.classes)

    def split(self, name):
        return Split(shades(self.labels), Tensor.float, self.labels)


def shades(labels):
    return (labels / 10).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


class Shade(FeatureExtractor, Classifies):
    """Tells shades apart."""

    def __init__(self, spec: DataSpec, /):
        self.spec = spec
        self.seen = None

    def fit(self, train, test):
        self.seen = (train, test)
        return "looked at the shades"

    @property
    def label(self):
        return "shade v2"

    def features(self, x):
        return x.flatten(1)

    def classify(self, x):
        assert x.shape[1:] == self.spec.shape
        return (10 * x.flatten(1).mean(1)).round().long()


class Digits(Shade):
    """Knows every MNIST digit by heart."""

    def __init__(self, spec: DataSpec, /):
        super().__init__(spec)
        self.known = {}
        for name in ("train", "t10k"):
            images, labels = read_idx(f"{name}-images-idx3-ubyte"), read_idx(f"{name}-labels-idx1-ubyte")
            self.known |= {i.tobytes(): d for i, d in zip(images.numpy(), labels.tolist(), strict=True)}

    def classify(self, x):
        assert x.shape[1:] == self.spec.shape == (1, 28, 28)
        return torch.tensor([self.known[image.mul(255).round().byte().numpy().tobytes()] for image in x])


def prepared(dataset, **options):
    evaluator = genkit.build("evaluator", {"use": "mode_coverage", **options}, Anything(dataset.spec))
    evaluator.prepare(dataset)
    return evaluator


def of_shades(dataset, extractor=Shade, **options):
    evaluator = genkit.build("evaluator", {"use": "mode_coverage", **options}, Anything(dataset.spec))
    evaluator.build = Factory("shade", {}, extractor)
    evaluator.prepare(dataset)
    return evaluator


def subject_of(dataset, samples, names=("train", "test"), history=(), epoch=30):
    data = {name: Feed(dataset.split(name), CPU) for name in names}
    model = Anything(dataset.spec)
    return genkit.Subject(model, None, Given(samples), dataset, data, epoch=epoch, batch_size=999, history=history)


def judged(evaluator, subject):
    results = list(evaluator.evaluate(subject, None))
    figures = {result.name: result for result in results if isinstance(result, Figure)}
    return figures, [result for result in results if isinstance(result, Note)]


def mixture(**options):
    return genkit.build("dataset", {"use": "mixture", "train": 500, "test": 5000, **options})


# ---- mixtures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "modes"), [("ring", 8), ("grid", 25)])
def test_perfect_sampler_reaches_all_modes_with_the_right_share(layout, modes):
    data = mixture(layout=layout, validation=40_000)
    figures, notes = judged(prepared(data, num_samples=40_000), subject_of(data, data.split("validation").source))
    assert figures[""].value == figures[""].floor == modes
    assert figures["high_quality"].value == pytest.approx(0.98889, abs=0.0025)
    assert figures["high_quality"].floor == pytest.approx(0.98889, abs=0.0075)
    assert 0 <= figures["kl"].value < 0.002
    assert 0 <= figures["kl"].floor < 0.01
    assert 0.9 / modes < figures["smallest"].value < 1 / modes < figures["largest"].value < 1.1 / modes
    assert notes == []


@pytest.mark.parametrize(("within", "dims"), [(1.0, 2), (2.0, 2), (3.0, 3)])
def test_high_quality_is_the_chi_distributions(within, dims):
    centres = [[0.0] * dims, [3.0] * dims]
    data = mixture(layout="centres", centres=centres, validation=20_000)
    evaluator = prepared(data, num_samples=20_000, within=within)
    figures, _ = judged(evaluator, subject_of(data, data.split("validation").source))
    share = scipy.stats.chi(dims).cdf(within)
    assert figures["high_quality"].value == pytest.approx(share, abs=5 * (share * (1 - share) / 20_000) ** 0.5)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_high_quality_does_not_depend_on_where_the_modes_lie(offset):
    centres = [[offset + x, offset + y] for x in (0.0, 1.0) for y in (0.0, 1.0)]
    data = mixture(layout="centres", centres=centres, std=0.01, validation=20_000)
    figures, _ = judged(prepared(data, num_samples=20_000), subject_of(data, data.split("validation").source))
    assert figures["high_quality"].value == pytest.approx(0.98889, abs=0.004)


def test_collapsed_sampler_has_one_mode():
    data = mixture()
    figures, notes = judged(prepared(data, num_samples=100), subject_of(data, data.centres[3].expand(100, 2)))
    assert {name: figure.value for name, figure in figures.items()} == {
        "": 1,
        "kl": pytest.approx(math.log(8)),
        "largest": 1,
        "smallest": 0,
        "high_quality": 1,
    }
    assert notes == []


def test_figures_are_those_of_the_histogram():
    data, counts = mixture(), [10, 20, 5, 1, 0, 30, 4, 30]
    samples = data.centres.repeat_interleave(torch.tensor(counts), 0)
    samples[35] += 0.035 / math.sqrt(2)  # the only one of its mode, further away than 3 x 0.01
    figures, _ = judged(prepared(data, num_samples=100), subject_of(data, samples))
    assert figures[""].value == 6
    assert figures["kl"].value == pytest.approx(scipy.stats.entropy(counts, [1 / 8] * 8))
    assert (figures["largest"].value, figures["smallest"].value) == (0.3, 0)
    assert figures["high_quality"].value == pytest.approx(0.99)


def test_uniform_histogram_has_no_divergence():
    data = mixture()
    figures, _ = judged(prepared(data, num_samples=80), subject_of(data, data.centres.repeat(10, 1)))
    assert figures["kl"].value == pytest.approx(0, abs=1e-12)
    assert divergence_from_uniform(torch.full((1000,), 26)) == pytest.approx(0, abs=1e-12)


def test_divergence_is_scipys():
    counts = torch.tensor(np.random.default_rng(0).integers(0, 50, 1000))
    assert (counts == 0).any()
    expected = scipy.stats.entropy(counts.numpy(), np.full(1000, 1e-3))
    assert divergence_from_uniform(counts) == pytest.approx(expected, rel=1e-9)


def test_figures_say_what_they_are():
    data = mixture(test=30)
    figures, _ = judged(prepared(data, num_samples=100), subject_of(data, data.centres[3].expand(100, 2)))
    assert [(name, figure.better, figure.unit) for name, figure in figures.items()] == [
        ("", "higher", ""),
        ("kl", "lower", "nats"),
        ("largest", "lower", ""),
        ("smallest", "higher", ""),
        ("high_quality", "higher", ""),
    ]
    assert {figure.tag for figure in figures.values()} == {"100 samples, 8 modes; floor: 30 of test"}


@pytest.mark.parametrize(
    ("names", "source"),
    [(("train", "validation", "test"), "test"), (("train", "validation"), "validation"), (("train",), "train")],
)
def test_floor_is_what_held_out_data_get(names, source):
    data = mixture(train=400, validation=300, test=200)
    subject = subject_of(data, data.centres[3].expand(150, 2), names)
    figures, _ = judged(prepared(data, num_samples=150), subject)
    found = data.split(source)
    (chosen,) = genkit.spread(Feed(found, CPU), 150, 1000)
    counts = torch.bincount(chosen.labels, minlength=8)
    inside = (chosen.x - data.centres[chosen.labels]).norm(dim=1) <= 0.03
    assert figures[""].floor == 8
    assert figures["kl"].floor == pytest.approx(scipy.stats.entropy(counts.numpy(), [1 / 8] * 8))
    assert figures["largest"].floor == pytest.approx(counts.max().item() / 150)
    assert figures["smallest"].floor == pytest.approx(counts.min().item() / 150)
    assert figures["high_quality"].floor == pytest.approx(inside.float().mean().item())
    assert figures[""].tag.endswith(f"floor: 150 of {source}")


def test_nearest_centre_is_the_mode():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    nearest, inside = MixtureModes(centres, 1.0).assign(torch.tensor([[0.5, 0.5], [4.0, 0.0], [10.0, 0.9], [9.0, 0.9]]))
    assert nearest.tolist() == [0, 0, 1, 1]
    assert inside.tolist() == [True, False, True, False]


# ---- images ------------------------------------------------------------------------------------------------------


def test_labelled_images_are_told_apart_by_the_classifier():
    data = Shades((3, 3, 3, 3))
    labels = torch.tensor([0] * 5 + [2] * 15)
    evaluator, subject = of_shades(data, num_samples=20), subject_of(data, shades(labels))
    figures, notes = judged(evaluator, subject)
    assert {name: figure.value for name, figure in figures.items()} == {
        "": 2,
        "kl": pytest.approx(scipy.stats.entropy([5, 0, 15, 0], [1 / 4] * 4)),
        "largest": 0.75,
        "smallest": 0,
    }
    assert {name: figure.floor for name, figure in figures.items()} == {
        "": 4,
        "kl": pytest.approx(0, abs=1e-12),
        "largest": 0.25,
        "smallest": 0.25,
    }
    assert figures[""].tag == "shade v2; 20 samples, 4 modes; floor: 12 of test"
    assert notes == [Note("looked at the shades", "note")]
    assert evaluator.modes.extractor.seen == (subject.data["train"], subject.data["test"])


def test_colour_images_are_one_image_each():
    x = torch.rand(6, 3, 2, 2)
    seen = []

    class Reads(Shade):
        def classify(self, x):
            seen.append(x)
            return super().classify(x)

    nearest, inside = ImageModes(Reads(DataSpec((3, 2, 2), num_classes=10)), 1, 10).assign(x)
    assert torch.equal(seen[0], x)
    assert nearest.shape == (6,)
    assert inside.all()


def test_three_digits_in_the_channels_are_one_number():
    images, labels = read_idx("t10k-images-idx3-ubyte"), read_idx("t10k-labels-idx1-ubyte")
    chosen = [(labels == digit).nonzero()[5].item() for digit in (3, 1, 4, 0, 0, 7, 9, 9, 9)]
    x = genkit.bytes_to_unit(images[chosen]).view(3, 3, 28, 28)
    data = genkit.build("dataset", {"use": "stacked_mnist", "train": 20, "test": 40})
    evaluator = of_shades(data, Digits, num_samples=3)
    assert evaluator.modes.count == 1000
    nearest, inside = evaluator.modes.assign(x)
    assert nearest.tolist() == [314, 7, 999]
    assert inside.all()
    test = next(Feed(data.split("test"), CPU).batches(40))
    assert torch.equal(evaluator.modes.assign(test.x)[0], test.labels)
    figures, _ = judged(evaluator, subject_of(data, x))
    assert figures[""].value == 3
    assert figures["kl"].value == pytest.approx(math.log(1000 / 3))
    assert figures[""].tag == "shade v2; 3 samples, 1000 modes; floor: 3 of test"


def test_classifier_of_stacked_images_learns_single_channels_with_their_own_labels():
    data = genkit.build("dataset", {"use": "stacked_mnist", "train": 20, "test": 40})
    evaluator = of_shades(data, Digits, num_samples=3)
    judged(evaluator, subject_of(data, next(Feed(data.split("train"), CPU).batches(3)).x))
    train, test = evaluator.modes.extractor.seen
    assert (len(train), len(test)) == (18, 39)
    for view in (train, test):
        for batch in view.batches(7):
            assert batch.x.shape[1:] == (1, 28, 28)
            assert torch.equal(evaluator.modes.extractor.classify(batch.x), batch.labels)


@pytest.mark.parametrize("size", [1, 3, 7, 500])
@pytest.mark.parametrize("count", [9, 11])
def test_channel_view_takes_stacks_apart(size, count):
    digits = torch.randint(10, (count, 3))
    labels = 100 * digits[:, 0] + 10 * digits[:, 1] + digits[:, 2]
    x = (digits / 10).view(count, 3, 1, 1).expand(count, 3, 2, 2).clone()
    view = ChannelView(Feed(Split(x, Tensor.float, labels), CPU), 3, 10)
    assert len(view) == 9  # three stacks, as many channels as there are stacks
    batches = list(view.batches(size))
    digits = digits[torch.randperm(count, generator=torch.Generator().manual_seed(0))[:3].sort().values]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), digits.flatten())
    images = torch.cat([batch.x for batch in batches])
    assert images.shape == (9, 1, 2, 2)
    assert torch.equal(images[:, 0, 0, 0], digits.flatten() / 10)
    assert all(len(batch.x) <= max(size, 3) for batch in batches)


def registry():
    """What is installed, and toys without labels."""
    found = load_registry(importlib.metadata.entry_points(group=GROUP))
    Registrar(found, Plugin("toys", "toy", "tests", "0"))("bits", toy.Bits)
    return found


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"use": "bits"}, {}, "evaluate.modes: mode_coverage: mode coverage needs labelled "),
        (
            {"use": "mnist"},
            {"extractor": "values"},
            "evaluate.modes: mode_coverage: mode coverage needs an extractor that classifies, which values does not",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused_before_anything_is_trained(data, options, message):
    recipe = {
        "data": data,
        "model": {"use": "generator", "latent_dim": 2, "network": {"use": "mlp", "hidden_dims": [4]}},
        "objective": {"use": "adversarial"},
        "train": {"epochs": 1},
        "evaluate": {"modes": {"use": "mode_coverage", **options}},
    }
    with pytest.raises(genkit.RecipeError) as info:
        dry_build(load_recipe(recipe, registry=registry()))
    assert message in str(info.value)


@pytest.mark.parametrize("data", ["mnist", "stacked_mnist", "mixture"])
def test_what_can_be_counted_is_built_without_data(data):
    recipe = {
        "data": {"use": data},
        "model": {"use": "generator", "latent_dim": 2, "network": {"use": "mlp", "hidden_dims": [4]}},
        "objective": {"use": "adversarial"},
        "train": {"epochs": 1},
        "evaluate": {"modes": {"use": "mode_coverage"}},
    }
    modes = dry_build(load_recipe(recipe)).evaluators["modes"].modes
    assert modes.count == {"mnist": 10, "stacked_mnist": 1000, "mixture": 8}[data]


# ---- the warning -------------------------------------------------------------------------------------------------


def warned(before, now, **options):
    """Whether a collapse is said, given the largest shares measured before and the one measured now."""
    data = mixture(test=20)
    history = [
        Record(step, step, "", f"modes/{name}", value)
        for step, share in enumerate(before, start=1)
        for name, value in (("largest", share), ("kl", 0.0), ("high_quality", 1.0))
    ]
    count = round(100 * now)
    samples = data.centres[[0] * count + [1] * (100 - count)]
    evaluator = prepared(data, num_samples=100, **options)
    _, notes = judged(evaluator, subject_of(data, samples, history=history))
    assert all(note.level == "warning" and note.text.startswith("collapsed: one mode") for note in notes)
    return len(notes)


@pytest.mark.parametrize("patience", [1, 3, 5, 16])
def test_collapse_is_said_after_so_many_evaluations_in_a_row(patience):
    for before in range(16):
        assert warned([0.95] * before, 0.95, patience=patience) == (before + 1 >= patience), before


def test_five_evaluations_are_enough():
    assert [warned([1.0] * before, 1.0) for before in range(6)] == [0, 0, 0, 0, 1, 1]


def test_one_better_evaluation_between_begins_the_count_again():
    assert warned([0.95, 0.95, 0.5, 0.95], 0.95, patience=3) == 0
    assert warned([0.95, 0.5, 0.95, 0.95], 0.95, patience=3) == 1
    assert warned([0.95] * 4, 0.5, patience=3) == 0


def test_share_that_means_a_collapse_can_be_chosen():
    assert warned([0.7] * 2, 0.7, patience=3) == 0
    assert warned([0.7] * 2, 0.7, patience=3, collapse=0.6) == 1
    assert warned([0.95] * 2, 0.95, patience=3, collapse=0.99) == 0


def test_warning_says_how_bad_it_is():
    data = mixture(test=20)
    history = [Record(step, step, "", "modes/largest", 1.0) for step in (1, 2)]
    evaluator = prepared(data, num_samples=10, collapse=0.8, patience=3)
    _, notes = judged(evaluator, subject_of(data, data.centres[:1].expand(10, 2), history=history))
    assert notes == [
        Note("collapsed: one mode has had more than 80% of all samples for 3 evaluations in a row", "warning")
    ]


def test_untrained_model_has_not_collapsed():
    data = mixture(test=20)
    evaluator, samples = prepared(data, num_samples=10, patience=2), data.centres[:1].expand(10, 2)
    before = [Record(0, 0, "", "modes/largest", 1.0)]
    assert judged(evaluator, subject_of(data, samples, epoch=0))[1] == []
    assert judged(prepared(data, num_samples=10, patience=1), subject_of(data, samples, epoch=0))[1] == []
    assert judged(evaluator, subject_of(data, samples, history=before, epoch=1))[1] == []
    before.append(Record(5, 1, "", "modes/largest", 1.0))
    assert len(judged(evaluator, subject_of(data, samples, history=before, epoch=2))[1]) == 1


COLLAPSED = {
    "data": {"use": "mixture", "train": 64, "test": 16},
    "model": {"use": "generator", "latent_dim": 2, "network": {"use": "mlp", "hidden_dims": [4]}},
    "objective": {"use": "adversarial", "critic": {"use": "mlp", "hidden_dims": [4]}},
    "sampler": {"use": "prior", "temperature": 0},
    "train": {"epochs": 4, "batch_size": 32, "optimizer": {"use": "adam", "lr": 1e-9}},
    "evaluate": {"modes": {"use": "mode_coverage", "num_samples": 50, "patience": 3, "every": 1}},
}
WARNING = "modes: warning: collapsed: one mode has had more than 90% of all samples for 3 evaluations in a row"


def heard(capsys):
    """For each line of an evaluator's figures, whether the warning follows it."""
    lines = capsys.readouterr().err.splitlines()
    return [lines[i + 1].strip() == WARNING for i, line in enumerate(lines) if "modes/largest 1 " in line]


def test_collapse_of_a_run_is_in_the_log(tmp_path, capsys):
    genkit.run(COLLAPSED, name="collapsed", runs=tmp_path, device="cpu")
    assert heard(capsys) == [False, False, False, True, True]  # before training, and after each epoch


class Stopper:
    @genkit.hookimpl
    def on_epoch_end(self, report):
        if report.epoch == 2:
            signal.raise_signal(signal.SIGTERM)


def test_collapse_is_remembered_by_a_run_that_goes_on(tmp_path, capsys):
    stopper, manager = Stopper(), installed().manager
    manager.register(stopper)
    try:
        stopped = genkit.run(COLLAPSED, name="collapsed", runs=tmp_path, device="cpu")
    finally:
        manager.unregister(stopper)
    assert stopped.status == "interrupted"
    assert heard(capsys) == [False, False]
    resume(tmp_path / "collapsed", device="cpu")
    assert heard(capsys) == [False, True, True]  # the second, third and fourth


def test_run_that_does_not_collapse_is_not_accused(tmp_path, capsys):
    recipe = {**COLLAPSED, "sampler": {"use": "prior", "temperature": 100.0}}
    genkit.run(recipe, name="wide", runs=tmp_path, device="cpu")
    assert "collapsed:" not in capsys.readouterr().err
