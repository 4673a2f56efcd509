"""Packages from PyPI, one folder for each set of them that python/ lists; kept between runs."""

import os
import shutil

from harness import BUILD, BUILD_SECONDS_MAX, CLIENTS, run

PYTHON = CLIENTS / "python"


def packages(name):
    """The environment in which `python3` finds the packages of python/NAME.requirements.txt."""
    wanted = PYTHON / f"{name}.requirements.txt"
    folder = BUILD / "python" / name
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_bytes() != wanted.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        # Into a folder of its own: the system's Python may take no packages by pip.
        run(["python3", "-m", "pip", "install", "--quiet", "--target", folder, "-r", wanted],
            seconds_max=BUILD_SECONDS_MAX)
        stamp.write_bytes(wanted.read_bytes())
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(PYTHON)]),
            "PYTHONDONTWRITEBYTECODE": "1"}


def source(name, version):
    """The folder of a package's source, as its author packed it: with its tests."""
    folder = BUILD / "python" / f"{name}-source"
    unpacked = folder / f"{name.replace('-', '_')}-{version}"
    if not unpacked.exists():
        shutil.rmtree(folder, ignore_errors=True)
        run(["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
             "--dest", folder, f"{name}=={version}"], seconds_max=BUILD_SECONDS_MAX)
        [archive] = folder.glob("*.tar.gz")
        shutil.unpack_archive(archive, folder, filter="data")
    return unpacked
