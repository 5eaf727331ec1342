"""A wheel for everybody from the one that pip built for this machine (Linux): repaired, packed tightly, looked through.

    python tools/wheel.py repair RAW.whl dist    the OpenMP runtime put in, the oldest manylinux tag that can be proved
    python tools/wheel.py audit dist/*.whl       says what is wrong with it, if anything

LIBGOMP names the folder of the libgomp.so.1 to put in; without it the linker's own is taken.
"""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MOST_BYTES = 1_500_000
TAG = re.compile(r"minicnn-[\w.]+-cp311-abi3-manylinux\w+(\.manylinux\w+)*\.whl")


def repair(raw, folder):
    """Writes the repaired wheel into ``folder`` and returns its path."""
    environment = dict(os.environ)
    if os.environ.get("LIBGOMP"):
        environment["AUDITWHEEL_LD_LIBRARY_PATH"] = os.environ["LIBGOMP"]
    with tempfile.TemporaryDirectory() as loose:
        command = [sys.executable, "-m", "auditwheel", "repair", "--strip", "-w", loose, str(raw)]
        subprocess.run(command, env=environment, check=True)
        (repaired,) = Path(loose).glob("*.whl")
        Path(folder).mkdir(parents=True, exist_ok=True)
        return pack(repaired, Path(folder) / repaired.name)


def pack(wheel, to):
    """The same files in the same order, compressed as tightly as zip allows; its times are those of no machine."""
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(to, "w") as new:
        for entry in (entry for entry in old.infolist() if not entry.is_dir()):
            copy = zipfile.ZipInfo(entry.filename)  # the beginning of 1980
            copy.external_attr, copy.compress_type = entry.external_attr, zipfile.ZIP_DEFLATED
            with new.open(copy, "w") as file:
                file._compressor = Zopfli()
                file.write(old.read(entry))
    return to


class Zopfli:
    """Finds a shorter deflate stream than zlib does at its best, 4 % here; readers see no difference."""

    def __init__(self):
        self.data = b""

    def compress(self, data):
        self.data += data
        return b""

    def flush(self):
        import zopfli.zlib

        return zopfli.zlib.compress(self.data, numiterations=30, blocksplittingmax=0)[
            2:-4
        ]  # without zlib's header and checksum


def faults(wheel):
    """What is wrong with a wheel, a sentence each."""
    wheel = Path(wheel)
    if not TAG.fullmatch(wheel.name):
        yield f"the name {wheel.name} is not that of a cp311-abi3 manylinux wheel"
    if wheel.stat().st_size > MOST_BYTES:
        yield f"{wheel.stat().st_size} bytes are more than {MOST_BYTES}"
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
        for name in archive.namelist():
            if name.endswith((".c", ".h", ".pyx", ".pxd", ".o", ".pyc")) or name.startswith(("tests", "benchmarks")):
                yield f"{name} is of no use to users"
            if ".so" in name and name.startswith("minicnn/"):
                yield from faults_of_module(Path(folder, name), "../" * name.count("/") + "minicnn.libs")


def faults_of_module(file, libraries):
    """What is wrong with a compiled module; ``libraries``: where from its folder those of the wheel are."""
    module = file.name.split(".")[0]
    if file.name != f"{module}.abi3.so":
        yield f"{file.name} is not for the stable ABI"
    exported = {line.split()[-1] for line in output("nm", "-D", "--defined-only", file).splitlines()}
    if exported != {f"PyInit_{module}"}:
        yield f"{file.name} exports {sorted(exported)}"
    sections = output("readelf", "-S", "--wide", file)
    if ".symtab" in sections or ".debug" in sections:
        yield f"{file.name} is not stripped"
    dynamic = output("readelf", "-d", "--wide", file)
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
    for path in re.findall(r"(?:RPATH|RUNPATH).*\[(.*)\]", dynamic):
        if path != f"$ORIGIN/{libraries}":
            yield f"{file.name} looks for libraries in {path}"
    undefined = output("nm", "-D", "--undefined-only", file)
    if re.search(r"\b(exp|log|pow|tanh|erfc|expm1|log1p|cos)(f?)\b", undefined) and "libm.so.6" not in needed:
        yield f"{file.name} uses the mathematics library without saying so"
    if re.search(r" (GOMP|omp)_\w+$", undefined, re.M):
        yield f"{file.name} uses OpenMP symbols without a version"


def output(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


def audit(wheel):
    """Ends the process with the list of faults, if there are any."""
    found = [f"  {fault}" for fault in faults(wheel)]
    if found:
        raise SystemExit("\n".join([f"{wheel}:", *found]))
    subprocess.run([sys.executable, "-m", "abi3audit", "--strict", "--report", str(wheel)], check=True)
    subprocess.run([sys.executable, "-m", "auditwheel", "show", str(wheel)], check=True)
    print(f"{wheel}: {Path(wheel).stat().st_size} bytes, no fault")


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    {"repair": repair, "audit": audit}[verb](*arguments)
