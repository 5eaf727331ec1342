"""The runtime: how many threads, which instruction set, what import leaves alone, fork, scratch memory."""

import os
import subprocess
import sys

import numpy as np
import pytest

import minicnn as mc
from minicnn._ext.machinery import runtime

linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")


def python(code, check=True, timeout=120, **environment):
    """What a fresh interpreter prints, with only these MINICNN_ and OMP_ variables; or its stderr if it must fail."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MINICNN_", "OMP_"))} | environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode == 0) is check, done.stderr
    return done.stdout.strip() if check else done.stderr


# ---- threads ----

DEFAULT = "from minicnn._ext.machinery import runtime; print(runtime.default_num_threads())"


@pytest.mark.parametrize(("environment", "threads"), [
    ({"MINICNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
    ({"OMP_NUM_THREADS": "5"}, 5),
    ({"OMP_NUM_THREADS": "4,2"}, 4),
    ({"OMP_NUM_THREADS": " 7 "}, 7),
    ({"MINICNN_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
    ({"MINICNN_NUM_THREADS": "0", "OMP_NUM_THREADS": "5"}, 5),
    ({"MINICNN_NUM_THREADS": "-1", "OMP_NUM_THREADS": "5"}, 5),
    ({"MINICNN_NUM_THREADS": "two", "OMP_NUM_THREADS": "5"}, 5),
    ({"MINICNN_NUM_THREADS": "2.5", "OMP_NUM_THREADS": "5"}, 5),
    ({"MINICNN_NUM_THREADS": "100000000000", "OMP_NUM_THREADS": "5"}, 5),
    ({"MINICNN_NUM_THREADS": "1000"}, runtime.MAX_THREADS),
])  # fmt: skip
def test_the_environment_chooses_the_number_of_threads(environment, threads):
    assert int(python(DEFAULT, **environment)) == threads


def test_set_num_threads_wins():
    code = "import minicnn as mc; print(mc.get_num_threads()); mc.set_num_threads(2); print(mc.get_num_threads())"
    assert python(code, MINICNN_NUM_THREADS="3").split() == (["3", "2"] if runtime.openmp() else ["1", "1"])


CPUS = "import os; os.sched_setaffinity(0, {cpus}); " + DEFAULT
# What the files of the control group say, put in the place of the real ones before minicnn reads them.
QUOTA = """
import builtins, io
real = builtins.open
def fake(path, *arguments, **more):
    if str(path).startswith(("/sys/fs/cgroup/", "/proc/self/cgroup")):
        if path not in {files}:
            raise FileNotFoundError(path)
        return io.StringIO({files}[path])
    return real(path, *arguments, **more)
builtins.open = fake
import os
os.sched_getaffinity = lambda pid: set(range(8))
"""
NEW, OLD = "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_{}_us"


@linux
def test_affinity_chooses_where_the_environment_does_not():
    cpus = sorted(os.sched_getaffinity(0))
    without_quota = QUOTA.format(files={}).replace("os.sched_getaffinity =", "ignored =")
    assert int(python(without_quota + CPUS.format(cpus=cpus[:1]))) == 1
    assert int(python(without_quota + CPUS.format(cpus=cpus))) == len(cpus)
    for odd in ("0", "many"):
        assert int(python(without_quota + CPUS.format(cpus=cpus[:1]), OMP_NUM_THREADS=odd)) == 1


@linux
@pytest.mark.parametrize(("files", "threads"), [
    ({}, 8),
    ({NEW: "max 100000\n"}, 8),
    ({NEW: "200000 100000\n"}, 2),
    ({NEW: "150000 100000\n"}, 2),
    ({NEW: "10000 100000\n"}, 1),
    ({NEW: "9900000 100000\n"}, 8),
    ({NEW: "garbage"}, 8),
    ({NEW: "100000 0"}, 8),
    ({OLD.format("quota"): "300000\n", OLD.format("period"): "100000\n"}, 3),
    ({OLD.format("quota"): "-1\n", OLD.format("period"): "100000\n"}, 8),
    ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "300000 100000\n"}, 3),
    ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "200000 100000\n",
      "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 2),
    ({"/proc/self/cgroup": "0::/elsewhere\n", NEW: "400000 100000\n"}, 4),
    ({"/proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/a\n", "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "250000\n",
      "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"}, 3),
    ({"/proc/self/cgroup": "garbage\n::\n"}, 8),
])  # fmt: skip
def test_a_quota_of_the_control_group_is_kept(files, threads):
    assert int(python(QUOTA.format(files=files) + DEFAULT)) == threads


@pytest.mark.parametrize(("n", "error"), [
    (0, ValueError), (-1, ValueError), (257, ValueError), (10**6, ValueError), (2**70, ValueError), (2.0, TypeError),
    ("2", TypeError), (None, TypeError), (True, TypeError),
])  # fmt: skip
def test_numbers_of_threads_that_are_refused(n, error):
    before = mc.get_num_threads()
    with pytest.raises(error, match=r"^set_num_threads: n must be .*from 1 to 256; got "):
        mc.set_num_threads(n)
    assert mc.get_num_threads() == before


def test_numbers_of_threads_that_are_taken():
    for n in (1, 2, np.int64(3), 256):
        mc.set_num_threads(n)
        assert mc.get_num_threads() == (n if runtime.openmp() else 1)


# ---- instruction sets ----

SET = "from minicnn._ext.machinery import runtime; print(runtime.instruction_set())"


def test_minicnn_simd_is_an_upper_limit():
    names = list(runtime.INSTRUCTION_SETS)
    best = names.index(python(SET))
    assert python(SET, MINICNN_SIMD="") == names[best]
    for limit, name in enumerate(names):
        assert python(SET, MINICNN_SIMD=name) == names[min(limit, best)]


@pytest.mark.parametrize("name", ["sse2", "AVX2", "avx-512", "1"])
def test_instruction_sets_that_do_not_exist(name):
    error = python("import minicnn", check=False, MINICNN_SIMD=name)
    assert error.endswith(f"ImportError: MINICNN_SIMD must be one of base, avx2, avx512; got {name!r}\n")


# ---- what is left alone ----

TRAIN = """
import minicnn as mc
from minicnn import layers
import numpy as np
from minicnn._ext.machinery import runtime

def train(epochs=1):
    rng = np.random.default_rng(0)
    model = mc.Sequential([
        layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(2), layers.Dropout(0.5), layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(rng.random((32, 10, 10, 3)), np.arange(32) % 4, batch_size=16, epochs=epochs, verbose=0)
    return model.fingerprint()

runtime.set_grain(1)
runtime.set_yielding(False)
mc.set_num_threads(2)
"""


def test_subnormal_numbers_survive():
    """Code linked with -ffast-math would switch them off, in the whole process and in every thread to come."""
    code = """
import sys, threading
import numpy as np
def alive():
    small = np.float32(1e-40) * np.array([0.5, 0.25], np.float32)
    return sys.float_info.min / 2 > 0 and bool((small > 0).all()) and bool((np.full(99, 1e-310) * 0.5 > 0).all())
"""
    code += TRAIN + "train()\nprint(alive())\nthread = threading.Thread(target=lambda: print(alive()))\n"
    assert python(code + "thread.start(); thread.join()").split() == ["True", "True"]


def test_the_generators_of_numpy_and_python_are_not_touched():
    code = "import random, pickle\nimport numpy\nrandom.seed(1); numpy.random.seed(1)\n"
    code += "def state(): return pickle.dumps((random.getstate(), numpy.random.get_state()))\nbefore = state()\n"
    assert python(code + TRAIN + "train()\nprint(state() == before)") == "True"


def test_a_bar_is_imported_when_it_is_drawn():
    code = "import sys\n" + TRAIN + "train()\nmc.Sequential([layers.Dense(1)])\n"
    names = "('tqdm', 'PIL', 'matplotlib', 'argparse', 'hypothesis', 'pytest')"
    assert python(f"{code}print([name for name in {names} if name in sys.modules])") == "[]"


# ---- fork ----

FORK = (
    TRAIN
    + """
import ctypes, os, signal, sys, time
want = train()  # which leaves a pool of threads behind

def child(write):
    os.write(write, f"{mc.get_num_threads()} {train()}".encode())

def can_pause():  # libgomp before gcc 9 cannot give up its threads, so a child works with one
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "libgomp" in line}
    return all(hasattr(ctypes.CDLL(path), "omp_pause_resource_all") for path in paths)

threads = mc.get_num_threads() if not os.path.exists("/proc/self/maps") or can_pause() else 1

for generation in range(3):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(write)
        os._exit(0)
    os.close(write)
    end = time.monotonic() + 60
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            sys.exit("the child hangs")
        time.sleep(0.01)
    assert os.read(read, 1000).decode() == f"{threads} {want}", "other bits or threads in the child"
    assert train() == want, "other bits in the parent"
print("fine", mc.get_num_threads())
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_after_a_parallel_region_trains():
    assert python(FORK) == ("fine 2" if runtime.openmp() else "fine 1")


# ---- scratch memory, facts ----


def test_scratch_memory_is_aligned():
    for size in [*range(1, 200), 4095, 4096, 4097, 10**6]:
        assert runtime.scratch_is_aligned(size)
    for size in (sys.maxsize, sys.maxsize - 100, sys.maxsize // 2):
        with pytest.raises(MemoryError, match="no memory for"):
            runtime.scratch_is_aligned(size)


def test_multiply_adds_are_done_and_counted():
    lanes = {"base": (1, 2, 4), "avx2": (8,), "avx512": (16,)}[runtime.instruction_set()]  # 1 without vectors
    for n in (0, 1, 5):
        chains, total = runtime.multiply_adds(n, 0.5, 3.0)
        assert chains in [12 * width for width in lanes]
        values = np.arange(12.0)
        for _ in range(n):
            values = values * 0.5 + 3.0
        assert total == chains // 12 * values.sum()  # exact in binary


def test_show_versions(capsys):
    facts = mc.versions()
    assert facts["minicnn"] == mc.__version__
    assert facts["numpy"] == np.__version__
    assert facts["instruction set"] == runtime.instruction_set()
    assert facts["threads"] == mc.get_num_threads()
    assert facts["openmp"] is runtime.openmp()
    mc.show_versions()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(facts)
    assert all(str(value) in line for line, value in zip(lines, facts.values(), strict=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on memory is Linux's")
def test_threads_that_cannot_be_started_do_not_end_the_process():
    """libgomp would print a line and exit: the stacks of 64 threads do not fit into 60 MB."""
    code = """
import resource
import numpy as np
from minicnn import layers
from minicnn._ext.machinery import runtime
layer = layers.Conv2D(8, 3)
layer.build((16, 16, 3), np.random.default_rng(0))
x = np.random.default_rng(1).random((128, 16, 16, 3), dtype=np.float32)
want = layer.forward(x)
runtime.set_grain(1)
runtime.set_yielding(False)
runtime.set_num_threads(64)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), -1))
print((layer.forward(x) == want).all(), 1 <= runtime.threads_for(64, 1e9) < 64)
"""
    assert python(code) == "True True"


@pytest.mark.parametrize("value", ["abc", "0", "-1", "1e3", "2.5", "4,2", "100000000000", "٣"])
def test_a_number_of_threads_that_is_none_is_said_and_passed_over(value):
    code = "import warnings\nwith warnings.catch_warnings(record=True) as found:\n    warnings.simplefilter('always')\n"
    code += "    import minicnn\nprint(minicnn.get_num_threads(), *[ascii(str(one.message)) for one in found], sep='|')"
    threads, *said = python(code, MINICNN_NUM_THREADS=value, OMP_NUM_THREADS="3").split("|")
    assert threads == ("3" if runtime.openmp() else "1")
    assert len(said) == 1
    assert f"must be a whole number of threads, 1 or more; got {value!r}" in eval(said[0])


@pytest.mark.parametrize("value", ["", " ", "2", " 2 "])
def test_a_number_of_threads_that_is_one_is_not_talked_about(value):
    code = "import warnings; warnings.simplefilter('error'); import minicnn; print(minicnn.get_num_threads())"
    found = python(code, MINICNN_NUM_THREADS=value, OMP_NUM_THREADS="nonsense" if value.strip() else "3,x")
    assert found == (("2" if value.strip() else "3") if runtime.openmp() else "1")
