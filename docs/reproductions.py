"""Writes the first table of reproductions.md from the runs that are recorded: ``python docs/reproductions.py``.

A record is a folder of ``docs/reproductions/`` with a run's own ``recipe.yaml``, ``environment.json`` and
``result.json``. ``--add RUN...`` makes records of finished runs first, without what names the machine that they ran on.
With ``--check`` nothing is written; it ends with 1 if the page is not what would be written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote

from genkit.engine.folder import RunFolder, read_json, replace_text
from genkit.errors import GenkitError, UsageError
from genkit.recipe.source import read, write
from genkit.report import find_runs, grouped, markdown, read_account

PAGE = Path(__file__).with_suffix(".md")
RECORDS = Path(__file__).with_suffix("")
COMMAND = "python docs/reproductions.py"
BEGIN = f"<!-- Written by {COMMAND} from the records beside this page, down to the next such line. -->\n"
END = "<!-- What follows is written by hand. -->\n"
EMPTY = "No run has been recorded yet.\n"
OF_THE_MACHINE = ("platform", "launch")  # keys of environment.json that say nothing of a figure


def add(path: Path) -> Path:
    """Makes a record of a run; an older one of the same recipe is replaced.

    Raises:
        UsageError: It is no run, not finished, or has no figure to compare; or another run's record has its name.
    """
    run = read_account(path)
    if run.published is None:
        raise UsageError(f"{path} is compared with nothing: its recipe names no published figure")
    if not run.finished:
        raise UsageError(f"{path} is not finished: {run.epochs} of its {run.total_epochs} epochs are over")
    if run.record is None:
        raise UsageError(f"{path} has no figure {run.figure!r} on the test data")
    own, record = RunFolder(run.path), RunFolder(RECORDS / run.name)
    recipe = without_places(run.recipe)
    if record.recipe.is_file() and read(record.recipe).values != recipe:
        raise UsageError(f"{record.path} is the record of another recipe: give the run's folder another name")
    environment = {key: value for key, value in read_json(own.environment).items() if key not in OF_THE_MACHINE}
    record.path.mkdir(parents=True, exist_ok=True)
    replace_text(record.recipe, write(recipe))
    for file, values in ((record.environment, environment), (record.result, read_json(own.result))):
        replace_text(file, json.dumps(without_places(values), indent=2) + "\n")
    return record.path


def without_places(value: Any) -> Any:
    """Plain values with the names of files and folders in the place of their absolute paths."""
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute() or value.startswith("~"):
                return kind(value).name
    return value


def table() -> str:
    """The records as Markdown."""
    records = sorted(path.parent for path in RECORDS.glob("*/recipe.yaml"))
    return markdown(grouped([read_account(path) for path in records]), _linked) or EMPTY


def _linked(name: str) -> str:
    return f"[`{name}`]({RECORDS.name}/{quote(name)}/recipe.yaml)"


def page() -> str:
    """The page as it should be."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UsageError(f"{PAGE.name} has lost the lines that the table stands between:\n{BEGIN}{END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Makes records, then writes the page or compares it."""
    try:
        if arguments[:1] == ["--add"] and arguments[1:]:
            for path in find_runs([Path(argument) for argument in arguments[1:]])[0]:
                print(add(path))
        elif list(arguments) not in ([], ["--check"]):
            raise UsageError(f"{' '.join(arguments)}: --add RUN..., --check or nothing is wanted")
        text = page()
        if list(arguments) != ["--check"]:
            replace_text(PAGE, text)
        elif PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE.name} is not what the records say: run {COMMAND}", file=sys.stderr)
            return 1
    except GenkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
