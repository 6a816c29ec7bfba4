"""Every launcher carries out commands where it is told to, tells their exit codes, and ends what it is asked to end."""

import pickle
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

import genkit
from genkit import Job

LAUNCHERS = [
    pytest.param({"use": "local"}, id="local"),
    pytest.param({"use": "local", "jobs": 3}, id="three at a time"),
    pytest.param({"use": "slurm", "cluster": "local", "gpus": 0}, id="submitit"),
    pytest.param({"use": "ray"}, id="ray"),
]


def launcher(node):
    if node["use"] == "ray":
        pytest.importorskip("ray")
    return genkit.build("launcher", node)


def job(place, name, program):
    return Job(name, (sys.executable, "-c", program), place, place / "logs" / f"{name}.txt")


@pytest.mark.filterwarnings("ignore")  # what submitit and Ray announce is theirs
@pytest.mark.parametrize("node", LAUNCHERS)
def test_commands_run_where_they_should_and_exit_codes_come_back(node, tmp_path):
    programs = [f"import os; print('in', os.getcwd()); raise SystemExit({code})" for code in (0, 3, 1)]
    jobs = [job(tmp_path, f"j{i}", program) for i, program in enumerate(programs)]
    assert sorted((one.name, code) for one, code in launcher(node).run(jobs)) == [("j0", 0), ("j1", 3), ("j2", 1)]
    assert [one.log.read_text() for one in jobs] == [f"in {tmp_path}\n"] * 3


PATIENT = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("asked").touch(), sys.exit(143)))
pathlib.Path("started").touch()
time.sleep(60)
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("node", [LAUNCHERS[1], LAUNCHERS[3]])
def test_jobs_under_way_are_asked_to_end_and_waited_for(node, tmp_path):
    jobs = [
        job(tmp_path, "short", "import pathlib, time\nwhile not pathlib.Path('started').exists(): time.sleep(0.01)"),
        job(tmp_path, "long", PATIENT),
    ]
    if node["use"] == "ray":
        node = {**node, "cpus": 0.5}
    with closing(launcher(node).run(jobs)) as ended:
        assert next(ended)[0].name == "short"
    assert (tmp_path / "asked").exists()


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (2, 2)])
def test_no_more_jobs_at_a_time_than_asked_for(at_once, most, tmp_path):
    program = "import time; print(time.time()); time.sleep(0.3); print(time.time())"
    jobs = [job(tmp_path, f"j{i}", program) for i in range(3)]
    list(launcher({"use": "local", "jobs": at_once}).run(jobs))
    spans = [tuple(map(float, one.log.read_text().split())) for one in jobs]
    assert max(sum(a <= begin < b for a, b in spans) for begin, _ in spans) == most


def test_cores_are_shared_among_jobs(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    shares = [launcher({"use": "local", "jobs": 3}).environment(place) for place in range(3)]
    assert [share["OMP_NUM_THREADS"] for share in shares] == ["2"] * 3
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4", "5", "6"]
    assert "OMP_NUM_THREADS" not in launcher({"use": "local"}).environment(0)


def test_a_missing_scheduler_is_told(tmp_path, monkeypatch):
    with pytest.raises(genkit.UsageError, match="launcher slurm: Could not detect"):
        list(launcher({"use": "slurm"}).run([job(tmp_path, "j", "")]))
    for name, extra in (("slurm", "submitit"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, extra, None)
        with pytest.raises(genkit.UsageError, match=rf"pip install 'genkit-torch\[{name}\]'"):
            list(genkit.build("launcher", name).run([job(tmp_path, "j", "")]))


def test_a_job_whose_time_is_up_is_put_in_the_queue_again(tmp_path):
    from genkit_launchers.slurm import Command

    command = Command(job(tmp_path, "j", PATIENT))
    with ThreadPoolExecutor() as pool:
        code = pool.submit(command)
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        command.process.send_signal(signal.SIGUSR2)  # SLURM's warning goes to every process
        time.sleep(0.3)
        assert not code.done()
        again = command.checkpoint()
        assert code.result() == 143
    assert (tmp_path / "asked").exists()
    assert again.function.job == command.job
    assert pickle.dumps(again.function), "it is sent to another machine"
