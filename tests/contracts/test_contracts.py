"""Every registered component keeps the contract of its kind; a new one is tested by being registered."""

import pytest

from genkit import testing
from genkit.component import kind_class
from genkit.registry import installed
from genkit.testing.common import examples

#: Components that need files or a scheduler, and where those are made.
NEEDS_FILES = {
    ("dataset", "image_folder"): "tests/plugins/genkit_image_data/test_image_folder.py",
    ("dataset", "static_mnist"): "tests/plugins/genkit_mnist/test_static_mnist.py",
    ("dataset", "torchvision"): "tests/plugins/genkit_image_data/test_torchvision_images.py",
    ("feature_extractor", "inception"): "tests/plugins/genkit_features/test_inception.py",
    ("launcher", "ray"): "tests/plugins/genkit_launchers/test_launchers.py",
    ("launcher", "slurm"): "tests/plugins/genkit_launchers/test_launchers.py",
}
COMPONENTS = [(r.kind, r.name) for r in installed().components() if (r.kind, r.name) not in NEEDS_FILES]


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_component_keeps_its_contract(kind, name):
    check = testing.check_of(installed().get(kind, name).load())
    for build in examples(kind, name):
        check(build)


def test_no_plugin_is_broken():
    assert installed().broken() == []


@pytest.mark.parametrize("kind", installed().kinds())
def test_every_kind_names_its_check(kind):
    owner = kind_class(installed().components(kind)[0].load())
    assert owner.check.endswith(f".testing:check_{kind}")
    assert callable(testing.check_of(owner))


def test_what_needs_files_is_registered_and_tested_elsewhere(request):
    for (kind, name), path in NEEDS_FILES.items():
        assert name in installed().names(kind)
        assert (request.config.rootpath / path).is_file()
