"""Residual networks for genkit."""

from typing import Any

from genkit import hookimpl

GENKIT_API = ">=1.0,<2"


@hookimpl
def register_components(register: Any) -> None:
    """Registers the backbone; torch is imported when it is first used."""
    register("residual", "residual_net.residual:Residual", kind="backbone")
