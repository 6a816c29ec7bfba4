"""Recipe files: what YAML means here, where each key stands, parents, overrides, and files that are no recipes."""

import contextlib
import math

import pytest
import yaml

from genkit.errors import Problem, RecipeError
from genkit.recipe.source import from_values, read


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Recipes are read from the working folder, so that messages are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text, name="r.yaml"):
    with open(name, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    return name


def values_of(text, *overrides):
    return read(write(text), overrides).values


def problems_of(text, *overrides):
    with pytest.raises(RecipeError) as caught:
        read(write(text), overrides)
    return caught.value.problems


def message_of(text, *overrides):
    (problem,) = problems_of(text, *overrides)
    return str(problem)


# ---- what YAML means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3e-4", 3e-4),
        ("3E4", 3e4),
        ("1.0e-3", 1e-3),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1", 1),
        ("-7", -7),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ('"3e-4"', "3e-4"),
        ("'80'", "80"),
        *((word, word) for word in ("on", "off", "no", "yes", "y", "N", "No", "ON")),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("e5", "e5"),
        (".", "."),
        ("!!str 5", "5"),
    ],
)
def test_scalar(written, meant):
    value = values_of(f"a: {written}")["a"]
    assert value == meant
    assert type(value) is type(meant)


def test_nan_is_a_number_for_the_checker_to_refuse():
    assert math.isnan(values_of("a: .NaN")["a"])


def test_a_leading_zero_makes_no_float():
    value = values_of("seed: 012")["seed"]
    assert (value, type(value)) == (12, int)


def test_places_are_lines_of_keys_and_items():
    source = read(write("# a comment\na: 1\nb:\n  c: [5,\n      6]\n"))
    assert source.values == {"a": 1, "b": {"c": [5, 6]}}
    assert source.places == {
        (): "r.yaml",
        ("a",): "r.yaml:2",
        ("b",): "r.yaml:3",
        ("b", "c"): "r.yaml:4",
        ("b", "c", 0): "r.yaml:4",
        ("b", "c", 1): "r.yaml:5",
    }


@pytest.mark.parametrize(
    ("path", "place"),
    [(("b", "c"), "r.yaml:3"), (("b", "c", "deeper"), "r.yaml:3"), (("b", "x"), "r.yaml:2"), (("x",), "r.yaml")],
)
def test_a_key_that_is_not_written_stands_where_its_owner_does(path, place):
    assert read(write("a: 1\nb:\n  c: 1\n")).place(path) == place


def test_duplicate_keys_are_all_found_with_both_lines():
    assert problems_of("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n") == (
        Problem("b.c", "this key is given twice, first at r.yaml:3", "r.yaml:4"),
        Problem("a", "this key is given twice, first at r.yaml:1", "r.yaml:5"),
    )


def test_a_number_and_its_text_are_the_same_key():
    assert message_of("1: a\n'1': b\n") == "r.yaml:2: 1: this key is given twice, first at r.yaml:1"


def test_an_alias_repeats_what_it_names():
    assert values_of("a: &net {use: mlp, dims: [8]}\nb: *net") == {"a": {"use": "mlp", "dims": [8]}} | {
        "b": {"use": "mlp", "dims": [8]}
    }


def test_what_an_alias_repeats_is_overridden_apart():
    assert values_of("a: &net {x: 1}\nb: *net", "b.x=2") == {"a": {"x": 1}, "b": {"x": 2}}


# ---- what is no recipe -------------------------------------------------------------------------------------------

TOO_LARGE = "r.yaml: the recipe is too large or too deep, or an alias refers to itself"


def not_read(tag):
    return f"the tag {tag!r} is not read; only plain values are"


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "r.yaml: the recipe is empty", id="empty"),
        pytest.param("# nothing\n", "r.yaml: the recipe is empty", id="comment"),
        pytest.param("null", "r.yaml: the recipe is empty", id="null"),
        pytest.param("- a\n", "r.yaml: a recipe is a mapping of keys, list given", id="list"),
        pytest.param("hello", "r.yaml: a recipe is a mapping of keys, str given", id="scalar"),
        pytest.param("a: 1\n---\nb: 2\n", "r.yaml:2: this is not YAML: but found another document", id="two"),
        pytest.param(
            "a:\n\tb: 1\n",
            r"r.yaml:2: this is not YAML: found character '\t' that cannot start any token",
            id="tab",
        ),
        pytest.param("a: *x", "r.yaml:1: this is not YAML: found undefined alias 'x'", id="undefined alias"),
        pytest.param("a: &x [*x]", TOO_LARGE, id="list in itself"),
        pytest.param("a: &x {b: *x}", TOO_LARGE, id="mapping in itself"),
        pytest.param(BOMB, TOO_LARGE, id="alias bomb"),
        pytest.param("a: " + "[" * 100 + "]" * 100, TOO_LARGE, id="deep"),
        pytest.param(
            "a: !!python/name:os.system",
            f"r.yaml:1: a: {not_read('tag:yaml.org,2002:python/name:os.system')}",
            id="python name",
        ),
        pytest.param(
            "a: 1\nb: !local x",
            f"r.yaml:2: b: {not_read('!local')}",
            id="local tag",
        ),
    ],
)
def test_what_is_no_recipe_is_refused(text, message):
    assert message_of(text) == message


@pytest.mark.parametrize("encoded", ["a: é".encode("latin-1"), "a: 1".encode("utf-16")], ids=["latin-1", "utf-16"])
def test_text_that_is_not_utf8_is_refused(encoded):
    message = message_of(encoded)
    assert message.startswith("r.yaml: the recipe cannot be read: 'utf-8' codec can't decode byte 0x")


def test_a_byte_order_mark_is_no_key():
    assert values_of(b"\xef\xbb\xbfa: 1") == {"a": 1}


@pytest.mark.parametrize(
    "value", ['!!python/object/apply:os.system ["touch pwned"]', "!!python/object/new:os.system {x: 1}"]
)
def test_unsafe_tags_run_nothing(value, folder):
    with contextlib.suppress(RecipeError):
        read(write(f"a: {value}"))
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ('!!python/object/apply:os.system ["touch pwned"]', "tag:yaml.org,2002:python/object/apply:os.system"),
        ("!!python/object/new:os.system {x: 1}", "tag:yaml.org,2002:python/object/new:os.system"),
        ("!local [1]", "!local"),
        ("!!set {b, c}", "tag:yaml.org,2002:set"),
        ("!!timestamp 2020-01-01", "tag:yaml.org,2002:timestamp"),
        ("!!binary aGk=", "tag:yaml.org,2002:binary"),
    ],
)
def test_tags_other_than_plain_ones_are_refused(value, tag):
    assert message_of(f"a: {value}") == f"r.yaml:1: a: {not_read(tag)}"


@pytest.mark.parametrize("value", ["!!int abc", "!!float abc", "!!bool abc", "!!int 3.5"])
def test_a_tag_that_its_value_contradicts_is_refused(value):
    tag, _, text = value.partition(" ")
    assert message_of(f"a: {value}") == f"r.yaml:1: a: {text!r} is no {tag.removeprefix('!!')} that can be used"


@pytest.mark.parametrize("value", ["!!int {b: 1}", "!!str [1]", "!!seq {b: 1}", "!!map [1]"])
def test_a_tag_that_its_brackets_contradict_is_refused(value):
    assert message_of(f"a: {value}").startswith("r.yaml:1: a: ")


@pytest.mark.parametrize("value", [2**63 - 1, 1 - 2**63])
def test_a_whole_number_of_63_bits_is_read(value):
    assert values_of(f"a: {value}") == {"a": value}


@pytest.mark.parametrize("text", [str(2**63), str(-(2**64)), "9" * 5000], ids=["64 bits", "65 bits", "5000 digits"])
def test_a_whole_number_that_no_machine_holds_is_refused(text):
    assert message_of(f"a: {text}") == f"r.yaml:1: a: {text[:40]!r} is no int that can be used"


@pytest.mark.parametrize("text", [b"a: 1\nb: \x01", b"a: \x00"])
def test_control_characters_are_refused(text):
    assert message_of(text).startswith("r.yaml: this is not YAML: ")


def test_nesting_beyond_pythons_stack_is_refused():
    assert message_of("a: " + "[" * 5000 + "]" * 5000) == TOO_LARGE


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("vae_mpl.yaml", "there is no such recipe; did you mean 'vae_mlp.yaml'? (there are: other.yml, vae_mlp.yaml)"),
        ("zzz", "there is no such recipe (there are: other.yml, vae_mlp.yaml)"),
        ("nowhere/vae_mlp.yaml", "there is no such recipe"),
    ],
)
def test_a_missing_file_names_the_closest(asked, message):
    write("a: 1", "vae_mlp.yaml")
    write("a: 1", "other.yml")
    with pytest.raises(RecipeError) as caught:
        read(asked)
    assert str(caught.value) == f"{asked}: {message}"


def test_a_folder_is_no_recipe(folder):
    with pytest.raises(RecipeError, match=r"^\.: the recipe cannot be read: .*Is a directory"):
        read(".")


# ---- extends -----------------------------------------------------------------------------------------------------


def test_a_chain_of_parents_by_relative_paths(folder):
    (folder / "deep" / "er").mkdir(parents=True)
    write("a: 1\nb: 1\nc: {x: 1, y: 1}\n", "top.yaml")
    write("extends: ../top.yaml\nb: 2\nc: {y: 2}\n", "deep/middle.yaml")
    write("\nextends: ../middle.yaml\nc:\n  z: 3\n", "deep/er/leaf.yaml")
    source = read("deep/er/leaf.yaml")
    assert source.values == {"a": 1, "b": 2, "c": {"x": 1, "y": 2, "z": 3}}
    assert [source.place(path) for path in (("a",), ("b",), ("c", "x"), ("c", "y"), ("c", "z"))] == [
        "deep/er/../../top.yaml:1",
        "deep/er/../middle.yaml:2",
        "deep/er/../../top.yaml:3",
        "deep/er/../middle.yaml:3",
        "deep/er/leaf.yaml:4",
    ]


@pytest.mark.parametrize(
    ("child", "merged"),
    [
        pytest.param("{use: mlp, dims: [4]}", {"use": "mlp", "dims": [4], "act": "relu"}, id="same name: merged"),
        pytest.param("{dims: [4]}", {"use": "mlp", "dims": [4], "act": "relu"}, id="no name: merged"),
        pytest.param("{use: cnn}", {"use": "cnn"}, id="other name: swapped whole"),
        pytest.param("cnn", "cnn", id="bare name: swapped whole"),
        pytest.param("null", None, id="null"),
    ],
)
def test_a_component_is_merged_or_swapped_whole(child, merged):
    write("net:\n  use: mlp\n  dims: [8, 8]\n  act: relu\n", "parent.yaml")
    assert values_of(f"extends: parent.yaml\nnet: {child}") == {"net": merged}


def test_a_swapped_component_forgets_where_its_parent_stood():
    write("net:\n  use: mlp\n  dims: [8, 8]\n", "parent.yaml")
    source = read(write("extends: parent.yaml\n\nnet: {use: cnn}"))
    assert source.place(("net", "dims")) == "r.yaml:3"


def test_extends_null_is_no_parent():
    assert values_of("extends: null\na: 1") == {"a": 1}


@pytest.mark.parametrize("parent", ["[a.yaml, b.yaml]", "5", "{use: a}"])
def test_extends_takes_one_path(parent):
    message = message_of(f"a: 1\nextends: {parent}")
    assert message == f"r.yaml:2: extends: the path of one recipe is wanted, {yaml.safe_load(parent)!r} given"


@pytest.mark.parametrize("length", [1, 3])
def test_a_cycle_of_parents_is_refused(length):
    for i in range(length):
        write(f"a: 1\nextends: r{(i + 1) % length}.yaml\n", f"r{i}.yaml")
    with pytest.raises(RecipeError) as caught:
        read("r0.yaml")
    assert str(caught.value) == f"r{length - 1}.yaml:2: extends: r0.yaml extends itself"


def test_a_missing_parent_says_who_extends_it_and_names_the_closest(folder):
    (folder / "deep").mkdir()
    write("a: 1", "parent.yaml")
    write("\nextends: ../perent.yaml", "deep/r.yaml")
    with pytest.raises(RecipeError) as caught:
        read("deep/r.yaml")
    assert str(caught.value) == (
        "deep/r.yaml:2: extends: there is no such recipe deep/../perent.yaml; did you mean 'parent.yaml'? "
        "(there are: parent.yaml)"
    )


def test_a_parent_that_cannot_be_read_says_who_extends_it(folder):
    (folder / "deep").mkdir()
    message = message_of("a: 1\nextends: deep")
    assert message.startswith("r.yaml:2: extends: the recipe deep cannot be read: ")


@pytest.mark.parametrize("parent", ["loop.yaml", '"a\\0b"'])
def test_a_parent_whose_path_leads_nowhere_is_refused(folder, parent):
    (folder / "loop.yaml").symlink_to("loop.yaml")
    assert message_of(f"extends: {parent}").startswith("r.yaml:1: extends: ")


# ---- overrides ---------------------------------------------------------------------------------------------------

BASE = """\
a: 1
m: {x: 5, deep: {y: 6}}
l: [1, 2, {use: q}]
s: mlp
nothing: null
empty: []
evaluate: {bpd: {every: 1}}
"""


@pytest.mark.parametrize(
    ("assignments", "key", "value"),
    [
        (["a=2"], "a", 2),
        ([" a =2"], "a", 2),
        (["a=3e-4"], "a", 3e-4),
        (["a=x=y"], "a", "x=y"),
        (["a='80'"], "a", "80"),
        (["a=[1, {b: on}]"], "a", [1, {"b": "on"}]),
        (["new.deep.er=1"], "new", {"deep": {"er": 1}}),
        (["nothing.x=1"], "nothing", {"x": 1}),
        (["m.deep.y=7"], "m", {"x": 5, "deep": {"y": 7}}),
        (["m.deep.z=7", "m.x=8"], "m", {"x": 8, "deep": {"y": 6, "z": 7}}),
        (["m.deep=cnn"], "m", {"x": 5, "deep": "cnn"}),
        (["m.deep=cnn", "m.deep.width=4"], "m", {"x": 5, "deep": {"use": "cnn", "width": 4}}),
        (["s.width=4"], "s", {"use": "mlp", "width": 4}),
        (["m.x=null"], "m", {"deep": {"y": 6}}),
        (["m.gone=null"], "m", {"x": 5, "deep": {"y": 6}}),
        (["l.0=9"], "l", [9, 2, {"use": "q"}]),
        (["l.0=null"], "l", [None, 2, {"use": "q"}]),
        (["l.2.use=r"], "l", [1, 2, {"use": "r"}]),
        (["evaluate.bpd=null"], "evaluate", {}),
        (["evaluate.bpd.every=3", "evaluate.bpd.every=4"], "evaluate", {"bpd": {"every": 4}}),
    ],
)
def test_override(assignments, key, value):
    before = values_of(BASE)
    after = values_of(BASE, *assignments)
    assert after == before | {key: value}


@pytest.mark.parametrize("assignment", ["a=null", "a=", "a=~", "m=null", "l=null", "nothing=null"])
def test_null_takes_a_key_away(assignment):
    before = values_of(BASE)
    del before[assignment.partition("=")[0]]
    assert values_of(BASE, assignment) == before


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a", "an override is written key.path=value"),
        ("", "an override is written key.path=value"),
        ("=1", "an override is written key.path=value"),
        ("  =1", "an override is written key.path=value"),
        ("a=[1", "this is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a={b: 1, b: 2}", "b: this key is given twice, first at command line a={b: 1, b: 2}"),
        ("a=&x [*x]", "the recipe is too large or too deep, or an alias refers to itself"),
        ("a.b=1", "a: has no keys below it: it is 1"),
        ("m.x.y.z=1", "m.x: has no keys below it: it is 5"),
        ("l.3=1", "l.3: an index from 0 to 2 is wanted, '3' given"),
        ("l.-1=1", "l.-1: an index from 0 to 2 is wanted, '-1' given"),
        ("l.use=1", "l.use: an index from 0 to 2 is wanted, 'use' given"),
        ("l.9.use=1", "l.9: an index from 0 to 2 is wanted, '9' given"),
        ("a=18446744073709551616", "'18446744073709551616' is no int that can be used"),
        ("a=!local 1", not_read("!local")),
        ("empty.0=1", "empty.0: the list is empty"),
        ("l.0.use=1", "l.0: has no keys below it: it is 1"),
    ],
)
def test_an_override_that_cannot_be_applied(assignment, message):
    assert message_of(BASE, assignment) == f"command line {assignment}: {message}"


@pytest.mark.parametrize("assignment", ["m..x=1", "new.=1", ".a=1", ".=1"])
def test_an_override_has_no_empty_keys(assignment):
    assert message_of(BASE, assignment) == (f"command line {assignment}: an override is written key.path=value")


def test_an_index_of_another_script_is_no_index():
    assert message_of(BASE, "l.²=1") == "command line l.²=1: l.²: an index from 0 to 2 is wanted, '²' given"


@pytest.mark.parametrize(
    ("assignment", "path"),
    [
        ("m.deep=cnn", ("m", "deep", "y")),
        ("l.0=9", ("l", 0)),
        ("new.x=1", ("new", "x")),
        ("m.7=1", ("m", "7")),
        ("evaluate.10.use=x", ("evaluate", "10", "use")),
    ],
)
def test_what_is_overridden_stands_on_the_command_line(assignment, path):
    source = read(write(BASE), [assignment])
    assert source.place(path) == f"command line {assignment}"
    assert source.place(("a",)) == "r.yaml:1"


def test_overrides_come_after_the_parents():
    write("net: {use: mlp, dims: [8]}", "parent.yaml")
    assert values_of("extends: parent.yaml\nnet: {act: gelu}", "net.dims.0=4") == {
        "net": {"use": "mlp", "dims": [4], "act": "gelu"}
    }


def test_values_from_python_are_copied_before_they_are_overridden():
    given = {"m": {"x": (1, 2)}}
    assert from_values(given, ["m.x.0=9", "m.y=3"]).values == {"m": {"x": [9, 2], "y": 3}}
    assert given == {"m": {"x": (1, 2)}}
