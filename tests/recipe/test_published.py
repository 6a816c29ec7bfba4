"""What a recipe says of a published figure: checked like all of it, and of no influence on anything else."""

from pathlib import Path

import pytest
import toy

import genkit
from genkit.engine.folder import recipe_text
from genkit.recipe import load_recipe
from genkit.recipe.published import said

TEXT = """\
data: bits
model: {use: denoiser, network: {use: line, bias: false}}
objective: denoising
sampler: decoded
train: {epochs: 2, optimizer: momentum, schedule: decay}
evaluate:
  cost: nats
published:
  paper: "Nobody: Bits, 1999"
  table: "Table 1"
  figure: cost
  value: 4
  unit: nats
  protocol:
    train.epochs: 3280
    train.optimizer: sgd
    model.network.bias: true
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Checks ``TEXT``, or another text, with overrides."""
    monkeypatch.chdir(tmp_path)

    def checked(*overrides, text=TEXT):
        Path("r.yaml").write_text(text)
        return load_recipe("r.yaml", overrides, toy.registry())

    return checked


def refused(check, *overrides, **given):
    with pytest.raises(genkit.RecipeError) as caught:
        check(*overrides, **given)
    return str(caught.value)


def test_it_is_kept_in_the_resolved_recipe_which_reads_back_equal(check):
    plain = check().to_plain()
    assert plain["published"] == {
        "paper": "Nobody: Bits, 1999",
        "table": "Table 1",
        "figure": "cost",
        "value": 4.0,
        "unit": "nats",
        "protocol": {"train.epochs": 3280, "train.optimizer": "sgd", "model.network.bias": True},
        "note": None,
    }
    again = check(text=recipe_text(check()))
    assert again.to_plain() == plain
    assert type(again.published.protocol["train.epochs"]) is int


def test_a_recipe_without_one_does_not_speak_of_it(check):
    without = check("published=null")
    assert without.published is None
    assert "published" not in without.to_plain()


def test_a_protocol_is_changed_key_by_dotted_key(check):
    changes = ["train.epochs=7", "train.batch_size=20", "train.optimizer=null"]
    protocol = check(*(f"published.protocol.{change}" for change in changes)).published.protocol
    assert protocol == {"train.epochs": 7, "model.network.bias": True, "train.batch_size": 20}
    assert check("published.protocol={train.epochs: 7}").published.protocol == {"train.epochs": 7}


def test_a_child_changes_single_keys_of_its_parents_protocol(check):
    check()
    Path("parent.yaml").write_text(TEXT)
    child = "extends: parent.yaml\npublished: {value: 5, protocol: {train.epochs: 7}}\n"
    published = check(text=child).published
    assert (published.value, published.table) == (5.0, "Table 1")
    assert published.protocol == {"train.epochs": 7, "train.optimizer": "sgd", "model.network.bias": True}
    assert check(text="extends: parent.yaml\npublished: null\n").published is None


@pytest.mark.parametrize("figure", ["cost", "cost/standard_error"])
def test_its_figure_is_an_entry_or_one_of_its_others(check, figure):
    assert check(f"published.figure={figure}").published.figure == figure


AWAY = "published: null is for a recipe that is compared with nothing"
CHOICE = "should be one value or a list: each value has a dotted key of its own"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "figure: cost",
            "figure: cots/nats",
            f"r.yaml:11: published.figure: no evaluator goes by 'cots'; did you mean 'cost'? (allowed: cost); {AWAY}",
        ),
        (
            "train.optimizer: sgd",
            "train.optimzer: sgd",
            "r.yaml:16: published.protocol.train.optimzer: the resolved recipe has no such key; did you mean "
            f"'train.optimizer'?; {AWAY}",
        ),
        (
            "train.optimizer: sgd",
            "train.keep: 1",
            "r.yaml:16: published.protocol.train.keep: the resolved recipe has no such key; did you mean "
            f"'train.keep.last'?; {AWAY}",
        ),
        (
            "train.optimizer: sgd",
            "published.value: 4",
            f"r.yaml:16: published.protocol.published.value: the resolved recipe has no such key; {AWAY}",
        ),
        (
            "train.optimizer: sgd",
            "train: {epochs: 3}",
            f"r.yaml:16: published.protocol.train: {CHOICE}, {{'epochs': 3}} given",
        ),
        (
            "3280",
            "3280.5",
            "r.yaml:15: published.protocol.train.epochs: a whole number of epochs is wanted, 3280.5 given",
        ),
        ("3280", "true", "r.yaml:15: published.protocol.train.epochs: a whole number of epochs is wanted, True given"),
        ("3280", "0", "r.yaml:15: published.protocol.train.epochs: a whole number of epochs is wanted, 0 given"),
        ("value: 4", "value: '4'", "r.yaml:12: published.value: should be a valid number, '4' given"),
        ("value: 4", "value: .nan", "r.yaml:12: published.value: should be a finite number, nan given"),
        ("unit: nats", "units: nats", "r.yaml:13: published.units: there is no such key; did you mean 'unit'? "),
        (
            '  table: "Table 1"\n',
            "",
            "r.yaml:8: published.table: this key is missing: str. Where it stands in the paper.",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(check, old, new, message):
    assert old in TEXT
    assert refused(check, text=TEXT.replace(old, new, 1)).startswith(message)


def test_what_an_override_breaks_is_told_with_the_way_out(check):
    message = refused(check, "evaluate={other: nats}")
    assert message == f"r.yaml:11: published.figure: no evaluator goes by 'cost' (allowed: other); {AWAY}"
    assert refused(check, "published.protocol.train.x=1").startswith("command line published.protocol.train.x=1: ")


def test_a_component_is_said_by_its_name_and_a_list_as_a_whole_and_in_parts():
    plain = {"model": {"use": "a", "parts": [{"use": "b", "dims": [1, 2]}], "empty": {}}, "served_by": {"x": 1}}
    assert said(plain) == {
        "model": "a",
        "model.use": "a",
        "model.parts": ["b"],
        "model.parts.0": "b",
        "model.parts.0.use": "b",
        "model.parts.0.dims": [1, 2],
        "model.parts.0.dims.0": 1,
        "model.parts.0.dims.1": 2,
    }
