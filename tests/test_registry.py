"""Finding plugins: each is loaded on its own, and what is wrong with one is reported with its place."""

import importlib
import inspect
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from genkit import sources
from genkit.conformance import RESERVED_OPTIONS, conformance
from genkit.errors import PluginError, UsageError
from genkit.registry import GROUP, OWN_DISTRIBUTION, installed, load_registry

PREFIX = "probe_"  # of the modules that these tests write


class Package:
    """Stands for an installed distribution."""

    def __init__(self, name, version="1.2"):
        self.name = name
        self.version = version


HEAD = """
from genkit import Component, hookimpl

class Kernel(Component, kind="kernel"):
    '''Abstract kernel.'''
"""
REGISTER = """
@hookimpl
def register_components(register):
"""
GOOD = (
    HEAD
    + """
class Gauss(Kernel):
    \"\"\"A bell.

    More of it.
    \"\"\"

    def __init__(self, /, *, width: float = 1.0) -> None: ...
"""
    + REGISTER
    + "    register('gauss', Gauss)\n"
)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a plugin's module and returns its entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, source, *, distribution=None, module=None):
        (tmp_path / f"{PREFIX}{name}.py").write_text(textwrap.dedent(source))
        package = Package(distribution or f"{name}-dist")
        return EntryPoint(name, module or f"{PREFIX}{name}", GROUP)._for(package)

    yield make
    for name in [name for name in sys.modules if name.startswith(PREFIX)]:
        del sys.modules[name]
    sources.summaries.cache_clear()


@pytest.fixture
def good(plugin):
    return plugin("good", GOOD)


def line_of(entry, text):
    """``file:line`` of a text in a plugin's module."""
    file = Path(sys.path[0]) / f"{entry.module}.py"
    (number,) = [n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line]
    return f"{file}:{number}"


def error_of(entry):
    """Why a plugin does not work; it has registered nothing."""
    registry = load_registry([entry])
    (broken,) = registry.broken()
    assert broken.name == entry.name
    assert registry.components() == []
    return broken.error


# ---- plugins that work -------------------------------------------------------------------------------------------


def test_a_plugin_is_described(good, tmp_path):
    registry = load_registry([good])
    (plugin,) = registry.plugins
    assert (plugin.name, plugin.module, plugin.distribution, plugin.version, plugin.error) == (
        "good",
        "probe_good",
        "good-dist",
        "1.2",
        "",
    )
    assert plugin.location == str(tmp_path / "probe_good.py")
    assert registry.broken() == []


def test_a_kind_of_a_plugins_own(good):
    registry = load_registry([good])
    assert (registry.kinds(), registry.names("kernel")) == (["kernel"], ["gauss"])
    registration = registry.get("kernel", "gauss")
    assert (registration.target, registration.summary) == ("probe_good:Gauss", "A bell.")
    assert registration.load() is sys.modules["probe_good"].Gauss


def test_a_registration_as_a_string_imports_nothing(plugin, good):
    lazy = plugin(
        "lazy", f"from genkit import hookimpl\n{REGISTER}    register('bell', 'probe_good:Gauss', kind='kernel')"
    )
    registry = load_registry([lazy])
    registration = registry.get("kernel", "bell")
    assert registration.summary == "A bell."
    assert "probe_good" not in sys.modules
    assert registration.load().__name__ == "Gauss"
    assert "probe_good" in sys.modules


def test_components_come_by_kind_and_name(plugin):
    source = GOOD + "    register('arc', Gauss)\n    register('mlp', 'gone:Gone', kind='backbone')\n"
    registry = load_registry([plugin("many", source)])
    assert [(r.kind, r.name) for r in registry.components()] == [
        ("backbone", "mlp"),
        ("kernel", "arc"),
        ("kernel", "gauss"),
    ]
    assert registry.names("kernel") == ["arc", "gauss"]
    assert registry.names("nothing") == []


# ---- plugins that do not -----------------------------------------------------------------------------------------


def test_a_plugin_that_raises_is_reported_and_the_others_work(plugin, good):
    bad = plugin("bad", "import sys\n\nraise RuntimeError('no luck')  # here\n", distribution="bad-luck")
    registry = load_registry([bad, good])
    (broken,) = registry.broken()
    assert (broken.name, broken.distribution, broken.version) == ("bad", "bad-luck", "1.2")
    assert broken.error == f"RuntimeError: no luck ({line_of(bad, '# here')})"
    assert registry.names("kernel") == ["gauss"]
    assert [plugin.name for plugin in registry.plugins] == ["bad", "good"]


@pytest.mark.parametrize("kind", ["kernel", "nothing"])
def test_an_unknown_component_lists_the_broken_plugins(plugin, good, kind):
    bad = plugin("bad", "raise RuntimeError('no luck')  # here\n", distribution="bad-luck")
    registry = load_registry([bad, good])
    bad_file = line_of(bad, "# here").rpartition(":")[0]
    with pytest.raises(UsageError) as caught:
        registry.get(kind, "guass")
    first = {
        "kernel": "no kernel is called 'guass'; did you mean 'gauss'? (allowed: gauss)",
        "nothing": "no kind 'nothing' (allowed: kernel)",
    }[kind]
    assert str(caught.value).splitlines() == [
        first,
        f"  plugin 'bad' of bad-luck 1.2 ({bad_file}) does not work: RuntimeError: no luck ({bad_file}:1); "
        "mend, update or uninstall bad-luck, or leave it out with --no-plugin bad",
    ]


def test_a_plugin_that_breaks_while_it_registers_leaves_nothing(plugin, good):
    half = plugin("half", GOOD.replace("'gauss'", "'half'") + "    raise KeyError('later')  # here\n")
    registry = load_registry([half, good])
    assert registry.broken()[0].error == f"KeyError: 'later' ({line_of(half, '# here')})"
    assert registry.names("kernel") == ["gauss"]
    assert [name for name, _ in registry.manager.list_name_plugin()] == ["good-dist:good"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:nothing", "AttributeError: module 'json' has no attribute 'nothing'"),
    ],
)
def test_an_entry_point_that_leads_nowhere(plugin, module, reason):
    assert error_of(plugin("lost", "", module=module)).startswith(reason)


def test_a_name_of_two_distributions_is_refused_with_both_unless_one_is_named(plugin):
    registry = load_registry([plugin(name, GOOD, distribution=f"{name}-dist") for name in ("second", "first")])
    assert registry.broken() == []
    assert registry.complaints() == []  # sharing a name is no fault of anybody's
    assert list(registry.shared()) == [
        "kernel 'gauss' is of plugin 'first' of first-dist 1.2 and plugin 'second' of second-dist 1.2; recipes write "
        "first-dist/gauss or second-dist/gauss"
    ]
    with pytest.raises(PluginError) as caught:
        registry.get("kernel", "gauss")
    assert str(caught.value) == (
        "kernel 'gauss' is registered by plugin 'first' of first-dist 1.2 and plugin 'second' of second-dist 1.2; "
        "write first-dist/gauss or second-dist/gauss"
    )
    assert registry.names("kernel") == ["first-dist/gauss", "second-dist/gauss"]
    for name in ("first", "second"):
        assert registry.get("kernel", f"{name}-dist/gauss").target == f"probe_{name}:Gauss"
        assert registry.get("kernel", "gauss", beside=f"{name}_dist").target == f"probe_{name}:Gauss"
    with pytest.raises(UsageError, match="no kernel is called 'third-dist/gauss'; did you mean 'first-dist/gauss'"):
        registry.get("kernel", "third-dist/gauss")
    with pytest.raises(UsageError, match="no kernel is called '/gauss'"):
        registry.get("kernel", "/gauss")


def test_genkits_own_component_keeps_its_name_beside_anothers(plugin):
    entries = [plugin("aaa", GOOD), plugin("zzz", GOOD, distribution=OWN_DISTRIBUTION)]
    registry = load_registry(entries)
    assert [p.name for p in registry.plugins] == ["zzz", "aaa"]
    assert [note.partition("; ")[2] for note in registry.shared()] == ["recipes write gauss or aaa-dist/gauss"]
    assert registry.get("kernel", "gauss").target == "probe_zzz:Gauss"
    assert registry.get("kernel", "aaa-dist/gauss").target == "probe_aaa:Gauss"
    assert sorted(registry.names("kernel")) == ["aaa-dist/gauss", "gauss"]


def test_a_name_that_a_plugin_registers_twice_breaks_it(plugin, good):
    twice = plugin("twice", GOOD.replace("'gauss'", "'arc'") + "    register('arc', Gauss)\n")
    registry = load_registry([twice, good])
    (broken,) = registry.broken()
    assert broken.error == "kernel 'arc' is registered twice"
    assert registry.names("kernel") == ["gauss"]


@pytest.mark.parametrize("hook", ["register_componets", "on_epoch_ends"])
def test_a_misspelt_hook_is_an_error(plugin, good, hook):
    bad = plugin("bad", f"from genkit import hookimpl\n\n@hookimpl\ndef {hook}(report): ...\n")
    registry = load_registry([bad, good])
    (broken,) = registry.broken()
    meant = {"register_componets": "register_components", "on_epoch_ends": "on_epoch_end"}[hook]
    assert broken.error.startswith(f"there is no hook {hook!r}; did you mean {meant!r}?")
    assert registry.names("kernel") == ["gauss"]


def test_a_hook_with_an_argument_that_is_not_there_is_an_error(plugin):
    error = error_of(plugin("bad", "from genkit import hookimpl\n\n@hookimpl\ndef on_step(reprot): ...\n"))
    assert error.startswith("PluginValidationError: ")
    assert "reprot" in error


def test_a_hook_that_is_not_marked_is_an_error(plugin, good):
    registry = load_registry([plugin("bad", "def register_components(register): ...\n"), good])
    (broken,) = registry.broken()
    assert (
        broken.error
        == "its function register_components is not marked, so it is never called; write @hookimpl above it"
    )
    assert registry.names("kernel") == ["gauss"]


def test_two_plugins_of_one_module_are_told_apart(plugin, good):
    registry = load_registry([good, plugin("again", GOOD, module=good.module)])
    (broken,) = registry.broken()
    assert (broken.name, broken.error) == ("good", "its module is plugin 'again' of again-dist already")
    assert len(registry.components()) == 1


@pytest.mark.parametrize("value", ["not a module!", "", ":x"])
def test_an_entry_point_that_names_no_module_is_reported(good, value):
    odd = EntryPoint("odd", value, GROUP)._for(Package("odd-dist"))
    registry = load_registry([odd, good])
    (broken,) = registry.broken()
    assert broken.error == f"its entry point says {value!r}, which is no module's name"
    assert registry.names("kernel") == ["gauss"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("class P(BaseException): ...\nraise P('x')", "P: x ("),
        (
            "class P(Exception):\n    def __str__(self):\n        raise OSError\nraise P",
            "P: its message cannot be told",
        ),
    ],
)
def test_whatever_a_plugin_raises_harms_nobody(plugin, good, source, reason):
    registry = load_registry([plugin("bad", source), good])
    (broken,) = registry.broken()
    assert broken.error.startswith(reason)
    assert registry.names("kernel") == ["gauss"]


def test_an_interrupt_is_not_the_plugins_affair(plugin):
    with pytest.raises(KeyboardInterrupt):
        load_registry([plugin("bad", "raise KeyboardInterrupt")])


def test_a_plugin_without_hooks_is_no_error(plugin):
    registry = load_registry([plugin("quiet", "x = 1\n")])
    assert (registry.broken(), registry.components()) == ([], [])


HIDDEN = "*args and **kwargs hide what a recipe may say; name each option, keyword-only"

# ---- what may be registered --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            "class Odd:\n    pass",
            "component 'odd': <class 'probe_bad.Odd'> is of no kind: inherit GenerativeModel, Objective, Backbone, ...",
            id="no component",
        ),
        pytest.param(
            "class Odd(Component):\n    pass",
            "component 'odd': Odd is of no kind: inherit GenerativeModel, Objective, Backbone, ...",
            id="no kind",
        ),
        pytest.param(
            "Odd = 7",
            "component 'odd': 7 is of no kind: inherit GenerativeModel, Objective, Backbone, ... from genkit",
            id="no class",
        ),
        pytest.param(
            "from abc import abstractmethod\nclass Odd(Kernel):\n"
            "    @abstractmethod\n    def b(self): ...\n    @abstractmethod\n    def a(self): ...",
            "component 'odd': Odd is abstract: implement a, b",
            id="abstract",
        ),
        pytest.param(
            "from torch import nn\nclass Odd(nn.Module, Kernel):\n    pass",
            "component 'odd': Odd has no constructor: write __init__, even if it only calls super().__init__()",
            id="constructor of a library",
        ),
        *(
            pytest.param(f"class Odd(Kernel):\n    {attribute}", f"component 'odd': Odd.{problem}", id=attribute)
            for attribute, problem in [
                ("requires = (Kernel)", "requires is a class: write a tuple, (Kernel,) with its comma"),
                ("requires = [Kernel]", "requires is [<class 'probe_bad.Kernel'>]: write a tuple of classes"),
                ("requires = ('Kernel',)", "requires is ('Kernel',): write a tuple of classes, (HasLogProb,)"),
                ("examples = {'a': 1}", "examples is {'a': 1}: write a tuple of mappings of options, ({'width': 1},)"),
                ("examples = ()", "examples is (): write a tuple of mappings of options"),
                ("examples = (1,)", "examples is (1,): write a tuple of mappings of options"),
                ("examples = 'a'", "examples is 'a': write a tuple of mappings of options"),
            ]
        ),
        *(
            pytest.param(
                f"class Odd(Kernel):\n    def __init__(self, {parameters}): ...",
                f"component 'odd': Odd.__init__ parameter {name!r}: {problem}",
                id=parameters,
            )
            for parameters, name, problem in [
                ("**options", "options", HIDDEN),
                ("*options", "options", HIDDEN),
                ("spec", "spec", "put it before '/' if the framework supplies it, after '*' if a recipe does"),
                ("spec, /, size: int = 1", "size", "put it before '/' if the framework supplies it, after '*' if"),
                ("*, size=1", "size", "annotate it, so that recipes can be checked"),
                *(
                    (f"*, {key}: int = 1", key, "recipes use this key themselves; choose another name")
                    for key in sorted(RESERVED_OPTIONS)
                ),
            ]
        ),
    ],
)
def test_a_class_that_cannot_be_a_component_is_refused(plugin, body, message):
    bad = plugin("bad", f"{HEAD}\n{body}\n{REGISTER}    register('odd', Odd)\n")
    assert error_of(bad).startswith(message)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("'Gauss', Gauss", "component name 'Gauss': a snake_case identifier is wanted"),
        ("'my-gauss', Gauss", "component name 'my-gauss': a snake_case identifier is wanted"),
        ("'', Gauss", "component name '': a snake_case identifier is wanted"),
        ("Gauss, 'gauss'", "component name <class 'probe_bad.Gauss'>: a snake_case identifier is wanted"),
        ("'gauss', 'probe_bad:Gauss'", "component 'gauss': give register a class, or 'module:Class' with its kind=..."),
        ("'gauss', 'Gauss', kind='kernel'", "component 'gauss': give register a class, or 'module:Class' with"),
        ("'gauss', Gauss, kind='model'", "component 'gauss': Gauss is a kernel (Kernel), but was registered as"),
    ],
)
def test_a_wrong_call_of_register_is_refused(plugin, call, message):
    source = GOOD.replace("register('gauss', Gauss)", f"register({call})")
    assert error_of(plugin("bad", source)).startswith(message)


@pytest.mark.parametrize(
    ("target", "kind", "problem"),
    [
        ("probe_good:Gauss", "model", "cannot be used: Gauss is a kernel (Kernel), but was registered as 'model'"),
        ("probe_good:Kernel", "kernel", "cannot be used: Kernel is the kind itself"),
        ("probe_good:Guass", "kernel", "cannot be imported: AttributeError: module 'probe_good' has no"),
        ("probe_gone:Gauss", "kernel", "cannot be imported: ModuleNotFoundError: No module named 'probe_gone'"),
        ("json:dumps", "kernel", "cannot be used: <function dumps at"),
        ("probe_exits:Gauss", "kernel", "cannot be imported: SystemExit: 3"),
    ],
)
def test_a_wrong_string_shows_when_it_is_loaded(plugin, good, tmp_path, target, kind, problem):
    plugin("exits", "import sys\nsys.exit(3)\n")
    lazy = plugin("lazy", f"from genkit import hookimpl\n{REGISTER}    register('lazy', {target!r}, kind={kind!r})\n")
    registry = load_registry([lazy])
    assert registry.broken() == []
    with pytest.raises(PluginError) as caught:
        registry.get(kind, "lazy").load()
    file = tmp_path / "probe_lazy.py"
    start = f"plugin 'lazy' of lazy-dist 1.2 ({file}) has a {kind} 'lazy' ({target}) that {problem}"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("; mend, update or uninstall lazy-dist, or leave it out with --no-plugin lazy")
    error = caught.value
    whose = (error.plugin, error.distribution, error.version, error.file)
    assert whose == ("lazy", "lazy-dist", "1.2", str(file))


def test_conformance_without_a_kind_takes_any(good):
    load_registry([good])
    gauss = sys.modules["probe_good"].Gauss
    assert (conformance(gauss), conformance(gauss, "kernel")) == ("", "")
    assert conformance(gauss, "model") == "Gauss is a kernel (Kernel), but was registered as 'model'"


# ---- the unusual -------------------------------------------------------------------------------------------------


def test_a_component_without_options_needs_no_constructor(plugin):
    source = f"{HEAD}\nclass Bare(Kernel):\n    '''Nothing to say.'''\n{REGISTER}    register('bare', Bare)\n"
    assert load_registry([plugin("bare", source)]).names("kernel") == ["bare"]


def test_a_nested_class_that_is_registered_can_be_loaded(plugin):
    source = GOOD.replace("register('gauss', Gauss)", "register('inner', Outer.Inner)").replace(
        REGISTER, f"\nclass Outer:\n    class Inner(Gauss):\n        '''Inside.'''\n{REGISTER}"
    )
    registration = load_registry([plugin("nested", source)]).get("kernel", "inner")
    assert registration.load().__name__ == "Inner"


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError('no luck')",
        "def f(:",
        "import sys\nsys.exit(3)",
    ],
    ids=["raises", "syntax", "exits"],
)
def test_a_summary_that_cannot_be_read_is_empty(plugin, tmp_path, source):
    (tmp_path / "probe_package").mkdir()
    (tmp_path / "probe_package" / "__init__.py").write_text(source)
    (tmp_path / "probe_package" / "part.py").write_text("class Gauss: ...\n")
    call = "register('lazy', 'probe_package.part:Gauss', kind='kernel')"
    registry = load_registry([plugin("lazy", f"from genkit import hookimpl\n{REGISTER}    {call}\n")])
    assert registry.get("kernel", "lazy").summary == ""


@pytest.mark.parametrize(
    "head",
    [
        "class Gauss(Kernel):\n    '''A bell.\n    '''",
        'class Gauss(Kernel):\n    """\n    A bell.\n    """',
        'class Gauss(Kernel):  # as in the paper\n    """A bell."""',
        "class Gauss(Kernel):\n    'A bell.'",
        'class Gauss(Kernel):\n    R"""A bell."""',
    ],
)
def test_a_summary_is_found_however_the_docstring_is_written(plugin, head):
    source = f"{HEAD}\n{head}\n    def __init__(self): ...\n{REGISTER}    register('gauss', Gauss)\n"
    registration = load_registry([plugin("good", source)]).get("kernel", "gauss")
    assert inspect.getdoc(registration.load()).strip() == "A bell."
    assert registration.summary == "A bell."


@pytest.mark.parametrize("imported", [True, False], ids=["imported", "not imported"])
@pytest.mark.parametrize("file", ["part.py", "part/__init__.py", "inner/part.py"])
def test_a_summary_is_found_in_any_part_of_a_package(plugin, tmp_path, file, imported):
    """Also where a package has no ``__init__.py``."""
    path = tmp_path / "probe_package" / file
    path.parent.mkdir(parents=True)
    path.write_text("class Gauss:\n    'A bell.'\n")
    module = "probe_package." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    head = f"from genkit import hookimpl\n{'import probe_package' if imported else ''}\n"
    call = f"    register('lazy', '{module}:Gauss', kind='kernel')\n"
    registry = load_registry([plugin("lazy", head + REGISTER + call)])
    assert registry.broken() == []
    assert registry.get("kernel", "lazy").summary == "A bell."
    assert module not in sys.modules


def test_a_summary_comes_from_the_file_that_python_imports(plugin, tmp_path):
    package = tmp_path / "probe_package"
    (package / "part").mkdir(parents=True)
    (package / "part" / "__init__.py").write_text("class Gauss:\n    'A package.'\n")
    (package / "part.py").write_text("class Gauss:\n    'A module.'\n")
    call = "    register('lazy', 'probe_package.part:Gauss', kind='kernel')\n"
    registry = load_registry([plugin("lazy", f"from genkit import hookimpl\nimport probe_package\n{REGISTER}{call}")])
    assert registry.get("kernel", "lazy").summary == "A package."
    assert inspect.getdoc(importlib.import_module("probe_package.part").Gauss) == "A package."


def test_a_summary_of_a_module_without_spec_is_empty(plugin, good):
    registry = load_registry([good])
    sys.modules["probe_good"].__spec__ = None
    assert registry.get("kernel", "gauss").summary == ""


def test_a_syntax_error_names_file_and_line(plugin, tmp_path):
    assert f"{tmp_path / 'probe_bad.py'}:2" in error_of(plugin("bad", "x = 1\ndef f(:\n"))


def test_an_error_is_one_line(plugin):
    assert "\n" not in error_of(plugin("bad", "raise RuntimeError('one\\ntwo')\n"))


def test_a_plugin_that_exits_is_reported(plugin, good):
    registry = load_registry([plugin("bad", "import sys\nsys.exit(3)\n"), good])
    assert [broken.name for broken in registry.broken()] == ["bad"]
    assert registry.names("kernel") == ["gauss"]


def test_an_entry_point_found_twice_works(good):
    registry = load_registry([good, good])
    assert registry.names("kernel") == ["gauss"]


# ---- what is installed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("registration", installed().components(), ids=lambda r: f"{r.kind}-{r.name}")
def test_a_summary_read_from_source_is_the_docstrings(registration):
    docstring = inspect.getdoc(registration.load())
    assert docstring
    assert registration.summary == docstring.partition("\n")[0]
