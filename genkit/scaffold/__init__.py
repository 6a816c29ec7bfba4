"""Makes new plugins: from a name and some kinds to a small distribution that installs, trains and tests itself.

What a new component looks like comes from plugins, through the hook ``register_templates``: a recipe around it names
components, of which the core knows none.
"""

from genkit.scaffold.distribution import Distribution, plan

__all__ = ["Distribution", "plan"]
