"""What code does to others while it is imported is held back, put back and told."""

import logging
import os
import random
import subprocess
import sys

import numpy
import pytest
import torch

from genkit.engine.device import matmul_precision
from genkit.isolation import Conduct, watched


def test_what_is_printed_is_kept_from_the_terminal(capsys):
    with watched() as conduct:
        print("hello")
        print("there", file=sys.stderr)
    assert capsys.readouterr() == ("", "")
    assert conduct.printed == "hello\nthere\n"
    assert conduct.complaints() == ["printed 'hello there'"]


def test_good_conduct_is_not_complained_of():
    with watched() as conduct:
        torch.zeros(3)
    assert conduct.complaints() == []


@pytest.mark.parametrize(("seconds", "slow"), [(1.9, False), (2.0, True)])
def test_slowness_has_a_limit(seconds, slow):
    assert bool(Conduct(seconds=seconds).complaints()) is slow
    assert Conduct(seconds=seconds).complaints(slow=None) == []


def test_a_long_text_is_cut():
    (complaint,) = Conduct(printed="x" * 500).complaints()
    assert complaint == f"printed '{'x' * 100}...'"


def seed_with_torch():
    torch.manual_seed(1234)


CHANGES = {
    "Python's random numbers": (lambda: random.seed(1), random.getstate),
    "the working directory": (lambda: os.chdir("/"), os.getcwd),
    "numpy's random numbers": (lambda: numpy.random.seed(1), lambda: numpy.random.get_state()[1].tolist()),
    "torch's random numbers": (seed_with_torch, lambda: torch.get_rng_state().tolist()),
    "torch's default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "torch's default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "torch's grad mode": (lambda: torch._C._set_grad_enabled(False), torch.is_grad_enabled),
    "torch's precision of float32 products": (
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.backends.cuda.matmul.fp32_precision,
    ),
    "torch's anomaly detection": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "torch's cudnn benchmark": (
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: torch.backends.cudnn.benchmark,
    ),
    "torch's deterministic algorithms": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "torch's number of threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_for_everybody_is_put_back_and_named(name):
    change, read = CHANGES[name]
    before = read()
    with watched() as conduct:
        change()
        assert read() != before
    assert conduct.changed == [name]
    assert read() == before
    assert conduct.complaints() == [f"changed {name}; that was put back"]


def test_precision_that_is_set_the_newer_way_is_no_stumbling_block():
    """Torch refuses to read the older name of a setting that was written under the newer one."""
    with watched() as conduct:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert conduct.changed == ["torch's precision of float32 products"]
    with matmul_precision("tf32"), watched() as conduct:
        pass
    assert conduct.complaints() == []
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_folder_that_is_gone_is_no_stumbling_block(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with watched() as conduct:
        pass
    assert conduct.complaints() == []


def test_a_stream_is_itself_while_its_text_is_kept(capfd):
    """As plugins use it: a log handler that is made meanwhile writes for ever."""
    before = sys.stdout
    with watched() as conduct:
        handler = logging.StreamHandler()
        assert sys.stdout.fileno() == before.fileno()
        sys.stdout.writelines(["a\n", "b\n"])
        handler.emit(logging.makeLogRecord({"msg": "early"}))
    assert conduct.printed == "a\nb\nearly\n"
    handler.emit(logging.makeLogRecord({"msg": "late"}))
    assert capfd.readouterr() == ("", "late\n")


def test_without_any_stream_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with watched() as conduct:
        print("nobody hears this")
    assert conduct.complaints() == []
    assert sys.stdout is None


def test_a_draw_is_a_change():
    before = torch.get_rng_state()
    with watched() as conduct:
        torch.rand(3)
    assert conduct.changed == ["torch's random numbers"]
    assert torch.equal(torch.get_rng_state(), before)


def test_what_breaks_is_put_right_all_the_same(capsys):
    def break_down():
        print("on the way down")
        torch.set_default_dtype(torch.float64)
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"), watched() as conduct:
        break_down()
    assert torch.get_default_dtype() == torch.float32
    assert conduct.changed == ["torch's default dtype"]
    assert capsys.readouterr().out == ""


FIRST_IMPORT = """
import sys
from genkit.isolation import watched
assert "torch" not in sys.modules
with watched() as conduct:
    import torch
    {}
print(conduct.changed, torch.get_default_dtype(), torch.initial_seed() >= 2**32)
"""


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("pass", "[] torch.float32 True"),
        (
            "torch.manual_seed(0); torch.set_default_dtype(torch.float64)",
            """["torch's random numbers", "torch's default dtype"] torch.float32 True""",
        ),
    ],
)
def test_who_imports_torch_first_is_held_to_how_torch_begins(code, answer):
    done = subprocess.run([sys.executable, "-c", FIRST_IMPORT.format(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == answer
