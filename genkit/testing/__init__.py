"""Checks of the contracts: what every component of a kind must do, whoever wrote it.

A plugin's author runs them in a test of their own; genkit runs them on every component that is registered, and
``genkit check-plugin`` on those of one plugin.

Example:
    .. code-block:: python

        from genkit.testing import check_backbone, factory

        def test_my_backbone_keeps_the_contract():
            check_backbone(factory("backbone", {"use": "my_backbone", "width": 8}))

Each check raises :class:`AssertionError` with what is wrong and what the contract asks for. Afterwards the global
random states and torch's settings are as they were.

A kind of one's own names its check where it is made, ``class Kernel(Component, kind="kernel",
check="my_plugin.testing:check_kernel")``. Such a function is marked with :func:`contract`, which has what all kinds
have in common checked first, and made of the other functions here.
"""

from genkit.testing.backbone import check_backbone
from genkit.testing.common import NotChecked, data_like, factory, models_for, views_of
from genkit.testing.component import check_component, constructed, contract, refusal, refused
from genkit.testing.dataset import check_dataset
from genkit.testing.evaluator import check_evaluator
from genkit.testing.inspection import Finding, check_of, inspect_plugin
from genkit.testing.keeping import nothing_drawn, seed, unchanged, unseeded, untouched
from genkit.testing.launcher import check_launcher
from genkit.testing.mass import check_mass
from genkit.testing.model import check_model
from genkit.testing.module import check_device, check_gradients, check_module, check_state_round_trip
from genkit.testing.objective import check_objective
from genkit.testing.optimizer import check_optimizer, check_schedule
from genkit.testing.sampler import check_sampler

__all__ = [
    "Finding",
    "NotChecked",
    "check_backbone",
    "check_component",
    "check_dataset",
    "check_device",
    "check_evaluator",
    "check_gradients",
    "check_launcher",
    "check_mass",
    "check_model",
    "check_module",
    "check_objective",
    "check_of",
    "check_optimizer",
    "check_sampler",
    "check_schedule",
    "check_state_round_trip",
    "constructed",
    "contract",
    "data_like",
    "factory",
    "inspect_plugin",
    "models_for",
    "nothing_drawn",
    "refusal",
    "refused",
    "seed",
    "unchanged",
    "unseeded",
    "untouched",
    "views_of",
]
