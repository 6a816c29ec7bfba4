"""Checks of the contracts: what every component of a kind must do, whoever wrote it.

A plugin's author runs them in a test of their own; genkit runs them on every component that is registered.

Example:
    .. code-block:: python

        from genkit.testing import check_backbone, factory

        def test_my_backbone_keeps_the_contract():
            check_backbone(factory("backbone", {"use": "my_backbone", "width": 8}))

Each check raises :class:`AssertionError` with what is wrong and what the contract asks for.
"""

from genkit.testing.backbone import check_backbone
from genkit.testing.common import factory
from genkit.testing.dataset import check_dataset
from genkit.testing.evaluator import check_evaluator
from genkit.testing.model import check_model
from genkit.testing.objective import check_objective
from genkit.testing.sampler import check_sampler

__all__ = [
    "check_backbone",
    "check_dataset",
    "check_evaluator",
    "check_model",
    "check_objective",
    "check_sampler",
    "factory",
]
