"""Children of every kind (forking.py) train and predict, give the parent's bits, and none hangs."""

import importlib.util
import os

import pytest
from forking import SCENARIOS
from programs import TESTS, output_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

INTERPRETERS = ("multiprocessing, spawn", "multiprocessing, forkserver", "joblib")  # started for each child
POOLS = ("multiprocessing pool", "executor of processes", "executor of threads")
FORKS = [name for name in SCENARIOS if name not in (*INTERPRETERS, *POOLS)]


def available(names):
    return [name for name in names if name != "joblib" or importlib.util.find_spec("joblib")]


def run(rounds, **more):
    """{scenario: rounds}, one after the other in one process."""
    arguments = [f"{name}={count}" for name, count in rounds.items()]
    assert output_of(TESTS / "forking.py", *arguments, **more).count("all the same") == len(rounds)


@pytest.mark.parametrize(("names", "rounds"), [(FORKS, 10), (POOLS, 3), (available(INTERPRETERS), 1)])
def test_children_work_and_none_hangs(names, rounds):
    run(dict.fromkeys(names, rounds), timeout=300, OMP_WAIT_POLICY="passive")  # a quarter of the time, no spinning


@pytest.mark.long
@pytest.mark.parametrize("name", available(SCENARIOS))
def test_children_work_and_none_hangs_200_times(name):
    run({name: 50 if name == "joblib" else 200}, timeout=3600)  # joblib: four children a round, which start slowly
