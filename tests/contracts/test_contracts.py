"""Every registered component keeps the contract of its kind; a new one is tested by being registered."""

import pytest

from genkit import testing
from genkit.registry import installed
from genkit.testing.common import examples

#: Kinds whose contract is checked through something else, and where.
CHECKED_ELSEWHERE = {
    "adversarial_loss": "tests/plugins/genkit_gan/test_losses.py",
    "bijection": "tests/plugins/genkit_flow/test_bijections.py",
    "dequantizer": "tests/plugins/genkit_flow/test_flow.py",
    "feature_extractor": "tests/plugins/genkit_features",
    "launcher": "tests/plugins/genkit_launchers",
    "likelihood": "tests/plugins/genkit_vae/test_likelihoods.py",
    "optimizer": "tests/plugins/genkit_optim",
    "posterior": "tests/plugins/genkit_vae/test_vae.py",
    "prior": "tests/plugins/genkit_vae/test_vae.py",
    "regularizer": "tests/plugins/genkit_gan/test_regularizers.py",
    "schedule": "tests/plugins/genkit_optim",
}
#: Components that need files, and where those are made.
NEEDS_FILES = {
    ("dataset", "image_folder"): "tests/plugins/genkit_image_data/test_image_folder.py",
    ("dataset", "torchvision"): "tests/plugins/genkit_image_data/test_torchvision_images.py",
}
CHECKS = {
    "backbone": testing.check_backbone,
    "dataset": testing.check_dataset,
    "evaluator": testing.check_evaluator,
    "model": testing.check_model,
    "objective": testing.check_objective,
    "sampler": testing.check_sampler,
}
COMPONENTS = [(r.kind, r.name) for r in installed().components() if r.kind in CHECKS]


@pytest.mark.parametrize(("kind", "name"), [key for key in COMPONENTS if key not in NEEDS_FILES])
def test_component_keeps_its_contract(kind, name):
    for build in examples(kind, name):
        CHECKS[kind](build)


def test_no_plugin_is_broken():
    assert installed().broken() == []


def test_every_kind_is_checked_somewhere():
    assert set(installed().kinds()) == {*CHECKS, *CHECKED_ELSEWHERE}
