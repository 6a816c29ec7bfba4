"""Batches on their way to the device; what a GPU would be asked for, and in which order."""

import contextlib

import pytest
import torch

from genkit.engine.transfer import Transfer


def test_on_the_cpu_a_tensor_stays_what_it_is():
    tensor = torch.rand(3)
    assert Transfer(torch.device("cpu"))(tensor) is tensor


class Asked:
    """A tensor, a stream and a device that note what they are asked."""

    def __init__(self, notes, name, is_cpu=True):
        self.notes, self.name, self.is_cpu = notes, name, is_cpu

    def to(self, device, non_blocking=False):
        self.notes.append(f"copy {self.name}, {'no wait' if non_blocking else 'wait'}")
        return Asked(self.notes, f"{self.name}'", is_cpu=False)

    def wait_stream(self, other):
        self.notes.append(f"{self.name} waits for {other.name}")

    def record_stream(self, stream):
        self.notes.append(f"{self.name} is used on {stream.name}")


@pytest.fixture
def gpu(monkeypatch):
    notes = []

    @contextlib.contextmanager
    def stream(which):
        notes.append(f"on {which.name}:")
        yield
        notes.append("back")

    monkeypatch.setattr("torch.cuda.Stream", lambda device: Asked(notes, "side"))
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: Asked(notes, "main"))
    monkeypatch.setattr("torch.cuda.stream", stream)
    return notes


def test_a_copy_runs_beside_and_its_user_waits_for_it(gpu):
    copied = Transfer(torch.device("cuda"))(Asked(gpu, "batch"))
    assert copied.name == "batch'"
    assert gpu == ["on side:", "copy batch, no wait", "back", "main waits for side", "batch' is used on main"]


def test_what_is_on_the_gpu_already_waits_for_nothing(gpu):
    Transfer(torch.device("cuda"))(Asked(gpu, "batch", is_cpu=False))
    assert gpu == ["copy batch, wait"]
