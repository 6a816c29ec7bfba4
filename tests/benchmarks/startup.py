"""How long the commands that must be instant take, against importing typer and rich alone.

Run it with ``python tests/benchmarks/startup.py`` on a quiet machine. Each round starts every program once, in
turn; the figure is the ratio of medians, with the quartiles of the ratios of single rounds.

All programs find their bytecode in a folder of the benchmark's own. Where ``PYTHONDONTWRITEBYTECODE`` is set, genkit
would else be compiled at each start, and typer, which pip has compiled, would not; ``--as-it-is`` leaves that so.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 30
GENKIT = str(Path(sys.executable).with_name("genkit"))
FLOOR = [sys.executable, "-c", "import typer, rich"]
PROGRAMS = {
    "genkit --help": [GENKIT, "--help"],
    "genkit list-plugins": [GENKIT, "list-plugins"],
    "genkit list-plugins --json": [GENKIT, "list-plugins", "--json"],
    "genkit --show-completion bash": [GENKIT, "--show-completion", "bash"],
}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - began


def measure() -> None:
    for command in (FLOOR, *PROGRAMS.values()):
        seconds(command)  # fills the file cache and writes the bytecode
    times = {name: [] for name in ("floor", *PROGRAMS)}
    for _ in range(ROUNDS):
        times["floor"].append(seconds(FLOOR))
        for name, command in PROGRAMS.items():
            times[name].append(seconds(command))
    floor = statistics.median(times["floor"])
    print(f"importing typer and rich alone: {1000 * floor:.0f} ms")
    for name in PROGRAMS:
        ratios = [own / base for own, base in zip(times[name], times["floor"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        median = statistics.median(times[name])
        print(f"{name:32} {1000 * median:5.0f} ms  {median / floor:.2f} x  ({low:.2f} to {high:.2f})")


def main() -> None:
    if "--as-it-is" in sys.argv:
        measure()
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        measure()


if __name__ == "__main__":
    main()
