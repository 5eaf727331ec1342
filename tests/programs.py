"""How the tests run Python in processes of their own: a clean environment, an end to hanging, nothing left over."""

import os
import subprocess
import sys
from pathlib import Path

import minicnn

TESTS = Path(__file__).parent
FOREIGN = ("MINICNN_NUM", "OMP_", "GOMP_", "KMP_")  # variables that say how many threads there are


def environment(**more):
    """This process's, but for what says how many threads there are; minicnn and the tests can be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = [str(Path(minicnn.__file__).parent.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path)} | more


def run(*arguments, timeout=120, **more):
    """(return code, stdout, stderr) of ``python arguments...``; kills it and all its children after ``timeout``."""
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**more),
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9) if hasattr(os, "killpg") else process.kill()
    return process.returncode, out, err


def output_of(*arguments, **more):
    """What it prints; fails unless it ends well."""
    code, out, err = run(*arguments, **more)
    assert code == 0, f"exit status {code}\n{out}\n{err}"
    return out


def alive(session):
    """The processes of a session that have not ended."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                state, _, _, of = file.read().rpartition(")")[2].split()[:4]
        except OSError:  # ended meanwhile
            continue
        if int(of) == session and state != "Z":
            found.append(name)
    return found
