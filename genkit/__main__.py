"""``python -m genkit`` is the command ``genkit``: what torch's launcher starts."""

from genkit.cli import main

main()
