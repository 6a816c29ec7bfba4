"""What the tests share: a small recipe and a quiet torch."""

import copy
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests share the cores; threads that wait for each other cost minutes

import torch

collect_ignore = ["third_party"]  # distributions of their own, tested where test_third_party.py installs them

SMALL = {
    "seed": 3,
    "data": {"use": "mnist", "binarize": "threshold", "train": 96, "validation": 32, "test": 32},
    "model": {
        "use": "vae",
        "latent_dim": 2,
        "encoder": {"use": "mlp", "hidden_dims": [16]},
        "decoder": {"use": "mlp", "hidden_dims": [16]},
    },
    "objective": {"use": "elbo"},
    "train": {"epochs": 2, "batch_size": 32, "log_every": 2},
    "evaluate": {"bpd": {"use": "bits_per_dim", "every": 1}},
}


@pytest.fixture
def small_recipe():
    """A recipe that trains in a moment."""
    return copy.deepcopy(SMALL)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """Nothing that tests make goes into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def seeded():
    """Each test starts from the same random numbers."""
    torch.manual_seed(0)
