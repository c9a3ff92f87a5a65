"""What workers share by fork: the loaded model, or, where that cannot be forked, the framework's import."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from slipway_host import threads

from .running import Host, alive, children_of, eventually

POOLS = """
import json, os
import numpy, sklearn.linear_model, threadpoolctl

def model_fn(model_dir):
    weights = numpy.random.RandomState(0).rand(2500, 2500)  # 48 MiB
    rows = numpy.arange(40).reshape(20, 2)
    fitted = sklearn.linear_model.LogisticRegression().fit(rows, rows[:, 0] > 9)
    return os.getpid(), weights, fitted

def transform_fn(model, data, content_type, accept):
    loader, weights, fitted = model
    pools = {pool["user_api"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    total = float((weights[:200] @ weights[:, :200]).sum())
    fitted.predict([[1, 2]])
    return json.dumps([loader, os.getppid(), pools, os.environ["OMP_NUM_THREADS"], round(total, 3)])
"""
TENSORFLOW = """
import os, sys, threading, time
print("imported by", os.getpid(), flush=True)

class saved_model:
    @staticmethod
    def load(folder):
        if os.path.exists(os.path.join(folder, "raise")):
            raise ValueError("no such op: Blur")
        if os.path.exists(os.path.join(folder, "crash")):
            os.kill(os.getpid(), 11)
        threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
        print("loaded by", os.getpid(), "child of", os.getppid(), flush=True)
"""


def pss(pid: int) -> int:
    """Of a process and all below it, in KiB."""
    own = Path(f"/proc/{pid}/smaps_rollup").read_text().split("Pss:")[1].split()[0]
    return int(own) + sum(pss(child) for child in children_of(pid))


def test_four_workers_share_a_model_and_have_the_threads_that_were_meant(host: Host, sklearn_env: str) -> None:
    host.python = sklearn_env
    host.script(POOLS)
    host.start({"OPENBLAS_NUM_THREADS": "3"}, workers=4, cpus=8)
    answers = [json.loads(host.invoke(index=index).text) for index in range(4)]
    for loader, parent, pools, variable, _ in answers:
        assert loader == parent == answers[0][0]
        assert pools == {"openmp": 2, "blas": 3}
        assert variable == "2"
    assert len({answer[4] for answer in answers}) == 1
    assert host.process
    used = pss(host.process.pid)
    assert used < 300 * 1024, "of 48 MiB of weights and some 100 of libraries there is one copy"


def fake_tensorflow(host: Host, *marks: str) -> dict[str, str]:
    """A `tensorflow` whose models leave a thread behind, and a SavedModel for it; variables of the host."""
    (host.model / "code").rmdir()
    (host.model / "1").mkdir()
    for name in ("saved_model.pb", *marks):
        (host.model / "1" / name).touch()
    (host.folder / "tensorflow.py").write_text(TENSORFLOW)
    return {"PYTHONPATH": str(host.folder)}


def test_a_model_that_cannot_be_forked_is_loaded_by_each_worker_after_one_import(host: Host) -> None:
    host.start(fake_tensorflow(host), flavour="tensorflow", workers=3, cpus=2)
    assert host.output().count("imported by") == 1
    loads = [line.split() for line in host.output().splitlines() if line.startswith("loaded by")]
    imported = host.output().partition("imported by ")[2].split()[0]
    assert [line[-1] for line in loads] == [imported] * 3
    assert len({line[2] for line in loads}) == 3
    victim = int(loads[0][2])
    os.kill(victim, signal.SIGSEGV)
    eventually(lambda: host.output().count("loaded by") == 4)
    assert not alive(victim)
    assert host.output().count("imported by") == 1
    assert "ended (SIGSEGV); a new one takes its place" in host.output()
    assert host.ping(20).status == 200
    assert host.stop() == 0


@pytest.mark.parametrize(("mark", "words"), [("raise", "no such op: Blur"), ("crash", "SIGSEGV")])
def test_a_model_that_no_worker_can_load_is_explained(host: Host, mark: str, words: str) -> None:
    report = host.fails(fake_tensorflow(host, mark), flavour="tensorflow", workers=3, cpus=2)
    assert words in report["message"] + " ".join(report["traceback"]), report


def test_a_framework_that_cannot_be_imported_is_explained(host: Host) -> None:
    variables = fake_tensorflow(host)
    (host.folder / "tensorflow.py").write_text("import nothing_such\n")
    report = host.fails(variables, flavour="tensorflow", workers=2, cpus=2)
    assert "nothing_such" in report["message"]
    assert "the workers share nothing" in host.output()


def test_what_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, str] = {}
    monkeypatch.setattr(os, "putenv", told.__setitem__)
    environment = {"OMP_NUM_THREADS": "4,2", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "many"}
    assert threads.hold_back(environment) == {"OMP_NUM_THREADS": 4}
    assert told == dict.fromkeys(threads.LIMITS, "1")
    threads.allow({}, environment)
    assert told == environment
