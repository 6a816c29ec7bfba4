"""The energy distance and its relatives as objectives for genkit, with a kernel of your choice."""

from typing import Any

from genkit import hookimpl

GENKIT_API = ">=1.0,<2"


@hookimpl
def register_components(register: Any) -> None:
    """Registers the objective and the kernels; torch is imported when one is first used."""
    register("energy_distance", "energy_distance.objective:EnergyDistance", kind="objective")
    register("euclidean", "energy_distance.kernels:Euclidean", kind="kernel")
    register("gaussian", "energy_distance.kernels:Gaussian", kind="kernel")
    register("laplacian", "energy_distance.kernels:Laplacian", kind="kernel")
