"""`genkit check-plugin`: a row for each component and example, the reason of what failed, and nothing left changed."""

import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest
import torch
from typer.testing import CliRunner

from genkit.cli import app
from genkit.errors import UsageError
from genkit.isolation import TORCH
from genkit.registry import load_registry
from genkit.testing import inspect_plugin

SOURCE = '''
import torch
from torch import nn

from genkit import Backbone, Component, Dataset, DataError, DataSpec, hookimpl


class Line(Backbone):
    """A linear map of vectors.

    Args:
        bias: Whether there is one.
        shift: What is added.
    """

    examples = ({}, {"bias": False, "shift": 2.0})

    def __init__(self, in_shape, out_shape, /, *, bias: bool = True, shift: float = 0.0) -> None:
        super().__init__()
        if len(in_shape) != 1 or len(out_shape) != 1:
            raise ValueError("vectors only")
        self.linear = nn.Linear(in_shape[0], out_shape[0], bias=bias)
        self.shift = shift

    def forward(self, x, context=None):
        if context is not None:
            raise ValueError("no context")
        return self.linear(x) + self.shift


class Crooked(Line):
    """Mixes the examples of a batch.

    Args:
        bias: Whether there is one.
    """

    examples = ({},)

    def __init__(self, in_shape, out_shape, /, *, bias: bool = True) -> None:
        super().__init__(in_shape, out_shape, bias=bias)

    def forward(self, x, context=None):
        torch.set_default_dtype(torch.float64)
        return super().forward(x - x.mean(0), context)


class Explodes(Line):
    """Raises when it is used."""

    examples = ({},)

    def __init__(self, in_shape, out_shape, /) -> None:
        super().__init__(in_shape, out_shape)

    def forward(self, x, context=None):
        raise KeyError("a key of its own")


class Forgets(Backbone):
    """Calls nothing first."""

    def __init__(self, in_shape, out_shape, /) -> None:
        self.linear = nn.Linear(3, 3)

    def forward(self, x, context=None):
        return x


class Kernel(Component, kind="kernel"):
    """A kind without a check."""


class Laplace(Kernel):
    """A component of it."""

    def __init__(self) -> None:
        pass


class Away(Dataset):
    """Files that are elsewhere."""

    def __init__(self) -> None:
        pass

    @property
    def spec(self):
        return DataSpec((2,))

    def split(self, name):
        raise DataError("put the files into /data")


@hookimpl
def register_components(register):
    register("line", Line)
    register("laplace", Laplace)
    register("away", Away)
'''
BROKEN = """
    register("crooked", Crooked)
    register("explodes", Explodes)
    register("forgets", Forgets)
    register("gone", "kit_probe_broken:Gone", kind="backbone")
    register("rude", "kit_probe_rude:Line", kind="backbone")
"""

#: The check of the first component imports the second one's module, as one does that tries all that is installed.
HIDES = '''
from genkit import hookimpl
from kit_probe_sound import Line


class Early(Line):
    """Imports another component's module when it is built."""

    examples = ({},)

    def __init__(self, in_shape, out_shape, /) -> None:
        import kit_probe_rude

        super().__init__(in_shape, out_shape)


@hookimpl
def register_components(register):
    register("early", Early)
    register("late", "kit_probe_rude:Line", kind="backbone")
'''


class Distribution:
    def __init__(self, name):
        self.name, self.version = name, "1"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """One that is sound, one with broken components, one that does not load, one that prints, one with nothing."""
    monkeypatch.syspath_prepend(str(tmp_path))
    rude = "import torch\ntorch.set_default_dtype(torch.float64)\nfrom kit_probe_sound import Line\n"
    (tmp_path / "kit_probe_rude.py").write_text(rude)
    sources = {
        "sound": SOURCE,
        "broken": SOURCE.replace('register("line", Line)', "pass").split("    register(")[0]
        + "\n@hookimpl\ndef register_components(register):"
        + BROKEN,
        "raises": "raise OSError('no such disk')",
        "noisy": "print('hello')",
        "empty": '"""Nothing."""',
        "hides": HIDES,
    }
    entries = []
    for name, source in sources.items():
        (tmp_path / f"kit_probe_{name}.py").write_text(textwrap.dedent(source))
        entry = EntryPoint(name, f"kit_probe_{name}", "genkit.plugins")
        vars(entry)["dist"] = Distribution(f"{name}-dist")
        entries.append(entry)
    registry = load_registry(entries)
    monkeypatch.setattr("genkit.testing.inspection.installed", lambda: registry)
    yield registry
    for name in [name for name in sys.modules if name.startswith("kit_probe_")]:
        del sys.modules[name]


def invoke(*words):
    return CliRunner().invoke(app, ["check-plugin", *words])


def outcomes(findings):
    return [(f.kind, f.component, dict(f.options), f.outcome) for f in findings]


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("name", ["sound", "sound-dist"])
def test_every_component_and_example_has_a_finding(name):
    findings = inspect_plugin(name)
    assert outcomes(findings) == [
        ("plugin", "sound", {}, "passed"),
        ("backbone", "line", {}, "passed"),
        ("backbone", "line", {"bias": False, "shift": 2.0}, "passed"),
        ("dataset", "away", {}, "not checked"),
        ("kernel", "laplace", {}, "not checked"),
    ]
    _, line, _, away, laplace = findings
    assert line.check == "genkit.testing:check_backbone"
    assert away.message == "put the files into /data"
    assert laplace.message == "kind 'kernel' names no check"
    assert laplace.check == ""


@pytest.mark.usefixtures("registry")
def test_what_fails_says_why_and_harms_nobody_else():
    before = {setting.name: repr(setting.read()) for setting in TORCH}
    state = torch.get_rng_state()
    findings = inspect_plugin("broken")
    broken = ("crooked", "explodes", "forgets", "gone", "rude")
    assert {f.component: f.outcome for f in findings} == {"broken": "passed", **dict.fromkeys(broken, "failed")}
    messages = {f.component: f.message for f in findings}
    assert "changes torch's default dtype from torch.float32 to torch.float64" in messages["crooked"]
    assert messages["explodes"].startswith("KeyError: 'a key of its own' (")
    assert "kit_probe_broken.py:" in messages["explodes"]
    assert messages["forgets"].startswith("AttributeError: cannot assign module before Module.__init__() call (")
    assert "kit_probe_broken.py:" in messages["forgets"]  # its own last line, not torch's
    assert "has a backbone 'gone' (kit_probe_broken:Gone) that cannot be imported" in messages["gone"]
    assert "that changed torch's default dtype; that was put back when it was imported" in messages["rude"]
    assert {setting.name: repr(setting.read()) for setting in TORCH} == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("registry")
def test_what_an_import_does_to_others_is_seen_before_any_check_can_import_it():
    assert outcomes(inspect_plugin("hides"))[-1] == ("backbone", "late", {}, "failed")


@pytest.mark.usefixtures("registry")
def test_a_plugin_that_does_not_load_is_a_failure_with_its_reason():
    (finding,) = inspect_plugin("raises")
    assert (finding.kind, finding.component, finding.outcome) == ("plugin", "raises", "failed")
    assert "OSError: no such disk" in finding.message


@pytest.mark.usefixtures("registry")
def test_a_plugin_that_misbehaves_when_it_is_loaded_fails():
    (finding,) = inspect_plugin("noisy")
    assert (finding.kind, finding.check, finding.outcome) == ("plugin", "loading", "failed")
    assert "printed 'hello'" in finding.message


@pytest.mark.usefixtures("registry")
def test_one_component_can_be_chosen():
    assert [f.component for f in inspect_plugin("broken", "backbone/gone")] == ["gone"]
    with pytest.raises(
        UsageError, match="plugin 'sound' has no component 'backbone/lime'; did you mean 'backbone/line'"
    ):
        inspect_plugin("sound", "backbone/lime")


def test_the_command_prints_a_table_and_ends_with_1_if_something_failed(registry, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = invoke("sound")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert ["kind", "name", "options", "check", "outcome"] in rows
    assert ["backbone", "line", "check_backbone", "passed"] in rows
    assert ["backbone", "line", "{bias:", "false,", "shift:", "2.0}", "check_backbone", "passed"] in rows
    assert "not checked: dataset away\n  put the files into /data" in result.output
    assert "3 passed, 0 failed, 2 not checked" in result.output
    result = invoke("broken", "--component", "backbone/explodes")
    assert result.exit_code == 1
    assert "failed: backbone explodes\n  KeyError" in result.output
    assert "0 passed, 1 failed, 0 not checked" in result.output
    assert invoke("raises").exit_code == 1


@pytest.mark.usefixtures("registry")
def test_an_unknown_plugin_is_refused_with_the_closest_match():
    result = invoke("soundd")
    assert result.exit_code == 2
    assert "no plugin or distribution is called 'soundd'; did you mean 'sound'?" in result.output


@pytest.mark.usefixtures("registry")
def test_a_plugin_without_components_has_nothing_to_check():
    result = invoke("empty")
    assert result.exit_code == 0
    assert "registers no component" in result.output
