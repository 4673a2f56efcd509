"""Sources of crates, for those whose own tests are run: brought by cargo, copied, kept between runs."""

import json
import shutil
from pathlib import Path

from harness import BUILD, BUILD_SECONDS_MAX, run


def source(name, version, updates=()):
    """The folder of a copy of the crate, a workspace of its own, with a lock file.

    `updates` are `(crate, version)` for what no longer compiles as the crate locked it.
    """
    folder = BUILD / name / f"source-{version}"
    if (folder / "Cargo.lock").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    copy = folder.with_suffix(".copying")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(packed(name, version), copy)
    (copy / "rust-toolchain.toml").unlink(missing_ok=True)  # the machine's, whichever it is
    with open(copy / "Cargo.toml", "a", encoding="utf-8") as manifest:
        manifest.write("\n[workspace]\n")  # it lies below a package that it is no part of
    if not (copy / "Cargo.lock").exists():
        run(["cargo", "generate-lockfile"], cwd=copy, seconds_max=BUILD_SECONDS_MAX)
    for updated, precise in updates:
        run(["cargo", "update", updated, "--precise", precise], cwd=copy,
            seconds_max=BUILD_SECONDS_MAX)
    copy.rename(folder)
    return folder


def packed(name, version):
    """Where cargo unpacked the crate, brought as for a package that depends on it."""
    fetch = BUILD / name / "fetch"
    (fetch / "src").mkdir(parents=True, exist_ok=True)
    (fetch / "src" / "lib.rs").touch()
    (fetch / "Cargo.toml").write_text(
        '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2024"\n'
        f'[dependencies]\n{name} = "={version}"\n[workspace]\n'
    )
    told = run(["cargo", "metadata", "--format-version", "1"], cwd=fetch,
               seconds_max=BUILD_SECONDS_MAX)
    packages = {package["name"]: package for package in json.loads(told)["packages"]}
    return Path(packages[name]["manifest_path"]).parent
