"""Which plugins are wanted, which genkit they were written for, and what they do to others when they are loaded."""

import random
import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest
import torch

import genkit
from genkit import plugin as plugin_module
from genkit import registry as registry_module
from genkit.errors import PluginError, RecipeError, UsageError
from genkit.plugin import PLUGIN_API, Plugin, Selection, api_problem, is_strict
from genkit.registry import GROUP, load_registry

HEAD = "from genkit import Component, hookimpl\n"
GOOD = """
class Kernel(Component, kind="kernel"):
    '''Abstract kernel.'''

class Gauss(Kernel):
    '''A bell.'''
    def __init__(self, *, width: float = 1.0) -> None: ...

@hookimpl
def register_components(register):
    register("gauss", Gauss)
"""


class Package:
    """Stands for an installed distribution."""

    def __init__(self, name):
        self.name = name
        self.version = "1.2"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a plugin's module and returns its entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, source=GOOD, head="", distribution=None):
        (tmp_path / f"trial_{name}.py").write_text(textwrap.dedent(head) + HEAD + textwrap.dedent(source))
        return EntryPoint(name, f"trial_{name}", GROUP)._for(Package(distribution or f"{name}-dist"))

    yield make
    for name in [name for name in sys.modules if name.startswith("trial_")]:
        del sys.modules[name]


# ---- conduct -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "note"),
    [
        ("print('hello')\n", "printed 'hello'"),
        ("import torch\ntorch.set_default_dtype(torch.float64)\n", "changed torch's default dtype; that was put back"),
        ("import torch\ntorch.manual_seed(7)\n", "changed torch's random numbers; that was put back"),
        ("import random\nrandom.seed(0)\n", "changed Python's random numbers; that was put back"),
    ],
)
def test_bad_conduct_is_reported_by_name_and_harms_nobody(write, capsys, head, note):
    states = torch.get_rng_state(), random.getstate()
    registry = load_registry([write("bad", "", head), write("good")])
    assert registry.broken() == []
    assert registry.names("kernel") == ["gauss"]
    (complaint,) = registry.complaints()
    assert str(complaint).startswith("plugin 'bad' of bad-dist 1.2 (")
    assert f"trial_bad.py) {note}; mend, update or uninstall bad-dist" in str(complaint)
    assert capsys.readouterr() == ("", "")
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert torch.get_default_dtype() == torch.float32


def test_a_slow_plugin_is_reported(write, monkeypatch):
    moments = iter(range(0, 100, 3))
    monkeypatch.setattr("genkit.isolation.time.perf_counter", lambda: float(next(moments)))
    (complaint,) = load_registry([write("slow")]).complaints()
    assert "trial_slow.py) took 3.0 s to load, which every command waits for" in str(complaint)


LAZY = """
@hookimpl
def register_components(register):
    register("late", "trial_late:Late", kind="kernel")
"""
LATE = """
from trial_good import Kernel

class Late(Kernel):
    '''Late.'''
    def __init__(self): ...
"""


@pytest.mark.parametrize("strict", [False, True])
def test_a_component_whose_import_harms_others(write, monkeypatch, strict):
    write("late", LATE, "import torch\ntorch.set_default_dtype(torch.float64)\n")
    registry = load_registry([write("lazy", LAZY), write("good")])
    assert registry.complaints() == []
    message = (
        r"has a kernel 'late' \(trial_late:Late\) that changed torch's default dtype; that was put back when it was"
    )
    if strict:
        monkeypatch.setenv("GENKIT_STRICT_PLUGINS", "1")
        with pytest.raises(PluginError, match=message):
            registry.get("kernel", "late").load()
    else:
        with pytest.warns(UserWarning, match=message):
            assert registry.get("kernel", "late").load().__name__ == "Late"
        assert registry.get("kernel", "late").load().__name__ == "Late"  # said once
        with pytest.raises(PluginError, match=message):
            registry.get("kernel", "late").load(strict=True)
    assert torch.get_default_dtype() == torch.float32


# ---- versions ----------------------------------------------------------------------------------------------------


def test_the_api_has_a_number():
    assert genkit.PLUGIN_API == PLUGIN_API == "1.0"


@pytest.mark.parametrize("stated", [">=1.0,<2", "==1.*", "~=1.0", ""])
def test_a_plugin_for_this_api_works(write, stated):
    registry = load_registry([write("good", head=f"GENKIT_API = {stated!r}\n")])
    assert registry.complaints() == []
    assert registry.names("kernel") == ["gauss"]


@pytest.mark.parametrize("crash", ["", "from genkit import SomethingOfTheFuture\n"])
@pytest.mark.parametrize("stated", [">=2", "<1", ">=1.1,<2"])
def test_a_plugin_for_another_api_is_refused_before_it_registers(write, crash, stated):
    registry = load_registry([write("old", head=f"GENKIT_API = {stated!r}\n{crash}"), write("good")])
    (broken,) = registry.broken()
    assert broken.error == f"it was written for the plugin API {stated}, and this genkit has 1.0"
    (complaint,) = registry.complaints()
    assert str(complaint).endswith("; install a version of old-dist for this genkit, or a genkit for it")
    assert [r.plugin.name for r in registry.components()] == ["good"]
    assert [name for name, _ in registry.manager.list_name_plugin()] == ["good-dist:good"]


@pytest.mark.parametrize("stated", ["'new'", "1", "('>=1',)"])
def test_a_range_that_is_none_is_refused(write, stated):
    (broken,) = load_registry([write("odd", head=f"GENKIT_API = {stated}\n")]).broken()
    assert broken.error.startswith("GENKIT_API = ")
    assert "is no range of versions; write '>=1.0,<2', for example" in broken.error


def test_a_later_minor_number_fits_a_range_that_names_an_earlier(monkeypatch):
    monkeypatch.setattr(plugin_module, "PLUGIN_API", "1.7")
    assert api_problem(">=1.0,<2") == ""
    assert api_problem("<1.7") != ""


# ---- selection ---------------------------------------------------------------------------------------------------


@pytest.fixture
def three(write):
    """Three plugins, two of one distribution."""
    return [
        write("one", GOOD.replace('"gauss"', '"first"'), distribution="Both_Dist"),
        write("two", GOOD.replace('"gauss"', '"second"'), distribution="Both_Dist"),
        write("three", GOOD.replace('"gauss"', '"third"')),
    ]


@pytest.mark.parametrize(
    ("only", "without", "names"),
    [
        (None, None, ["first", "second", "third"]),
        ("one", None, ["first"]),
        ("one, three", None, ["first", "third"]),
        ("both-dist", None, ["first", "second"]),
        (None, "one", ["second", "third"]),
        (None, "both.dist", ["third"]),
        ("both-dist", "two", ["first"]),
        ("", "", ["first", "second", "third"]),
    ],
)
def test_plugins_are_chosen_by_their_own_or_their_distributions_names(three, monkeypatch, only, without, names):
    for variable, value in (("GENKIT_LOAD_PLUGINS", only), ("GENKIT_NO_PLUGINS", without)):
        if value is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, value)
    registry = load_registry(three, Selection.of_environment())
    assert registry.names("kernel") == names
    assert len(registry.plugins) + len(registry.left_out) == 3


def test_a_plugin_that_is_left_out_is_never_imported(write):
    registry = load_registry([write("bad", "raise RuntimeError"), write("good")], Selection(without=("bad",)))
    assert registry.complaints() == []
    assert "trial_bad" not in sys.modules
    with pytest.raises(UsageError) as caught:
        registry.get("kernel", "guass")
    assert str(caught.value).splitlines()[1:] == [
        "  not loaded (--no-plugin or GENKIT_NO_PLUGINS names it): bad-dist:bad"
    ]


@pytest.mark.parametrize("selection", [Selection(only=("thre",)), Selection(without=("thre",))])
def test_a_name_that_no_plugin_has_is_refused(three, selection):
    with pytest.raises(PluginError) as caught:
        load_registry(three, selection)
    assert "names 'thre', but no plugin or distribution of plugins that is installed is called so" in str(caught.value)
    assert "did you mean 'three'?" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_plugin_is_found_by_its_own_or_its_distributions_name(three):
    registry = load_registry(three)
    assert registry.called("three") == registry.called("Three.dist") == [registry.plugins[1]]
    assert [plugin.name for plugin in registry.called("both-dist")] == ["one", "two"]
    with pytest.raises(PluginError, match="no plugin or distribution is called 'thre'; did you mean 'three'"):
        registry.called("thre")


# ---- strictness --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "strict"), [(None, False), ("", False), ("0", False), ("off", False), ("1", True), ("yes", True)]
)
def test_strictness_is_asked_for(monkeypatch, value, strict):
    if value is None:
        monkeypatch.delenv("GENKIT_STRICT_PLUGINS", raising=False)
    else:
        monkeypatch.setenv("GENKIT_STRICT_PLUGINS", value)
    assert is_strict() is strict


@pytest.mark.parametrize("head", ["raise RuntimeError('no luck')\n", "print('hello')\n", "GENKIT_API = '>=3'\n"])
def test_any_problem_is_fatal_where_plugins_are_taken_strictly(write, monkeypatch, head):
    entries = [write("bad", head=head), write("good", GOOD.replace('"gauss"', '"arc"'))]
    monkeypatch.setattr(registry_module.importlib.metadata, "entry_points", lambda group: entries)
    monkeypatch.setenv("GENKIT_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=r"plugins are taken strictly:\n  plugin 'bad' of bad-dist 1.2 \(") as caught:
        registry_module.installed.__wrapped__()
    assert caught.value.exit_code == 2
    monkeypatch.setenv("GENKIT_STRICT_PLUGINS", "0")
    assert "arc" in registry_module.installed.__wrapped__().names("kernel")


# ---- who served a recipe -----------------------------------------------------------------------------------------


OWNER = """
from genkit import Factory, use

class Shape(Component, kind="shape"):
    '''Abstract shape.'''

class Blob(Shape):
    '''A blob.'''
    def __init__(self, *, kernel: Factory["Kernel"] = use("gauss")) -> None: ...

@hookimpl
def register_components(register):
    register("gauss", Gauss)
    register("blob", Blob)
"""


def test_a_default_means_the_component_of_its_owners_distribution(write):
    from genkit.recipe.check import resolve

    kinds = write("kinds", GOOD.replace('register("gauss", Gauss)', "pass"))
    owner = OWNER.replace("class Blob", "from trial_kinds import Gauss, Kernel\n\nclass Blob")
    registry = load_registry([kinds, *(write(name, owner) for name in ("first", "second"))])
    for name in ("first-dist", "second-dist"):
        assert resolve("shape", f"{name}/blob", registry).to_plain() == {
            "use": f"{name}/blob",
            "kernel": {"use": f"{name}/gauss", "width": 1.0},
        }
    with pytest.raises(RecipeError, match=r"kernel.use: kernel 'gauss' is registered by plugin 'first' of first-dist"):
        resolve("shape", {"use": "first-dist/blob", "kernel": "gauss"}, registry)


def test_a_fault_tells_all_that_is_known():
    plugin = Plugin("name", "module", "dist", "3", "/file.py")
    fault = plugin.fault("does not work", "try another")
    assert (fault.plugin, fault.distribution, fault.version, fault.file) == ("name", "dist", "3", "/file.py")
    assert str(fault) == "plugin 'name' of dist 3 (/file.py) does not work; try another"
