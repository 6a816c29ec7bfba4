"""How long the commands that must be instant take, against importing typer and rich alone, and a run to its first step.

Run it with ``python tests/benchmarks/startup.py`` on a quiet machine. Each round starts every program once, in
turn; the figure is the ratio of medians, with the quartiles of the ratios of single rounds.

All programs find their bytecode in a folder of the benchmark's own. Where ``PYTHONDONTWRITEBYTECODE`` is set, genkit
would else be compiled at each start, and typer, which pip has compiled, would not; ``--as-it-is`` leaves that so.

A run's first step is measured from the start of Python, beside importing torch alone: the figure is the difference.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 30
RUNS = 10
GENKIT = str(Path(sys.executable).with_name("genkit"))
FLOOR = [sys.executable, "-c", "import typer, rich"]
PROGRAMS = {
    "genkit --help": [GENKIT, "--help"],
    "genkit list-plugins": [GENKIT, "list-plugins"],
    "genkit list-plugins --json": [GENKIT, "list-plugins", "--json"],
    "genkit --show-completion bash": [GENKIT, "--show-completion", "bash"],
}
TORCH = [sys.executable, "-c", "import torch"]
RECIPE = Path(__file__).parents[2] / "recipes" / "vae_mlp.yaml"
FIRST_STEP = f"""
import os, sys
import genkit
from genkit.registry import installed

class Leave:
    @genkit.hookimpl
    def on_step(self, report):
        os._exit(0)

installed().manager.register(Leave())
words = ["train.log_every=1", *sys.argv[2:]]
genkit.run({str(RECIPE)!r}, overrides=words, name=str(os.getpid()), runs=sys.argv[1], device="cpu")
"""
FIRST_STEPS = {"first step, judged before": (), "first step": ("evaluate={}",)}


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


def measure_first_steps(folder: str) -> None:
    programs = {"torch": TORCH}
    programs |= {name: [sys.executable, "-c", FIRST_STEP, folder, *words] for name, words in FIRST_STEPS.items()}
    for command in programs.values():
        seconds(command)
    times = {name: [] for name in programs}
    for _ in range(RUNS):
        for name, command in programs.items():
            times[name].append(seconds(command))
    print(f"importing torch alone: {statistics.median(times['torch']):.2f} s")
    for name in FIRST_STEPS:
        later = [own - base for own, base in zip(times[name], times["torch"], strict=True)]
        low, middle, high = statistics.quantiles(later, n=4)
        print(f"{name:32} {statistics.median(times[name]):.2f} s, {middle:.2f} s later  ({low:.2f} to {high:.2f})")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if "--as-it-is" not in sys.argv:
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder, "bytecode"))
        measure()
        measure_first_steps(str(Path(folder, "runs")))


if __name__ == "__main__":
    main()
