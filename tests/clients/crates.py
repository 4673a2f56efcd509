"""Sources of crates, for those whose own tests are run, and the suite that these tests are.

A source is brought by cargo, copied, and kept between runs.
"""

import json
import re
import shutil
from pathlib import Path

from harness import BUILD, BUILD_SECONDS_MAX, PROGRAM_SECONDS_MAX, Suite, expect, run

LISTED = re.compile(r"^([\w:]+): test$", re.MULTILINE)
RESULT = re.compile(r"^test ([\w:]+) \.\.\. (ok|FAILED|ignored)", re.MULTILINE)


class CrateTests(Suite):
    """The integration tests of `crate`: those of the files `tests`, by cargo, in its own threads.

    `version` is the crate's; `features` are those that its default lacks; `updates` and `patches`
    are for `source`. `tests_count_min` guards against a list of the others that grew too long.
    """

    needs = ("cargo", "cc", "c++", "make")
    crate, version = "", ""
    features, tests = (), ()
    updates, patches = (), ()
    tests_count_min = 1

    @classmethod
    def prepare(cls):
        cls.source = source(cls.crate, cls.version, cls.updates, cls.patches)
        cls.cargo("--no-run", *[flag for test in cls.tests for flag in ("--test", test)],
                  seconds_max=BUILD_SECONDS_MAX)

    @classmethod
    def cargo(cls, *arguments, env=None, seconds_max=PROGRAM_SECONDS_MAX, may_fail=False):
        environment = {
            "CARGO_TARGET_DIR": str(BUILD / cls.crate / "target"), "CARGO_PROFILE_DEV_DEBUG": "0",
            "CARGO_TERM_COLOR": "never", **(env or {}),
        }
        features = ["--features", ",".join(cls.features)] if cls.features else []
        return run(["cargo", "test", "--locked", *features, *arguments], cwd=cls.source,
                   env=environment, seconds_max=seconds_max, may_fail=may_fail).decode()

    def environment(self):
        """How the crate's tests are told where the broker is."""
        raise NotImplementedError

    def check_its_integration_tests(self):
        ran_count = 0
        for test in self.tests:
            listed = LISTED.findall(self.cargo("--test", test, "--", "--list"))
            expect(listed, f"{test} has no tests")
            names = {name: f"{test} {name}" for name in listed}
            skips = [flag for name in listed if names[name] in self.results.not_run
                     for flag in ("--skip", name)]
            said = self.cargo("--no-fail-fast", "--test", test, "--", "--exact", *skips,
                              env=self.environment(), may_fail=True)
            results = dict(RESULT.findall(said))
            for name in listed:
                ran_count += results.get(name) in ("ok", "FAILED")
                self.tell(name, names[name], results.get(name), said)
        expect(ran_count >= self.tests_count_min, f"only {ran_count} tests ran")

    def tell(self, test, name, result, said):
        if reason := self.results.not_run.get(name):
            self.results.leaves_out(name, reason)
        elif result == "ignored":
            self.results.leaves_out(name, "the crate itself ignores it")
        elif result == "ok":
            self.results.passes(name)
        else:
            panic = re.search(rf"thread '{test}'.* panicked at .*(\n.+){{0,4}}", said)
            self.results.fails(name, panic.group() if panic else f"{result}\n{said[-1000:]}")


def source(name, version, updates=(), patches=()):
    """The folder of a copy of the crate, a workspace of its own, with a lock file.

    `updates` are `(crate, version)` for what no longer compiles as the crate locked it, `patches`
    `(file, old, new)` for what a test has written into it that only its author's machine has.
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
    for file, old, new in patches:
        written = (copy / file).read_text(encoding="utf-8")
        expect(written.count(old) == 1, f"{name} {version}: {file} has not one {old!r}")
        (copy / file).write_text(written.replace(old, new), encoding="utf-8")
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
