"""Real processes that run ``genkit``, forked from one that has imported torch, so that each starts in a moment.

Run as a program it is that parent: it reads a JSON list of words a line, and answers with the child's number at once
and with its exit status when it has died. It computes nothing itself, since torch's threads do not survive a fork.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path


class Nursery:
    """Starts children one after another, with their output in a file."""

    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.parent = subprocess.Popen(
            [sys.executable, __file__, str(self.log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error):
        self.parent.stdin.close()
        self.parent.wait(timeout=60)
        self.parent.stdout.close()

    def start(self, *words):
        """Starts a command; returns its process number."""
        self.parent.stdin.write(json.dumps(words) + "\n")
        self.parent.stdin.flush()
        self.child = int(self.parent.stdout.readline())
        return self.child

    def kill(self, number=signal.SIGKILL):
        """Sends the child a signal, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, number)

    def wait(self):
        """The child's exit code; below 0 it is the signal that it died of."""
        return int(self.parent.stdout.readline())


def leave(main):
    """Runs a command and ends without the interpreter's own clean-up, which is the parent's affair."""
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)


def serve(log):
    import genkit.engine  # noqa: F401
    from genkit.cli import main
    from genkit.registry import installed

    for kind in ("dataset", "model", "evaluator"):
        for name in installed().names(kind):
            installed().get(kind, name).load()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            sys.argv = ["genkit", *json.loads(line)]
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            leave(main)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
