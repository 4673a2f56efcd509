"""The lists of what does not pass, and why: expected/SUITE.txt for ringmain, expected/kafka/ for Kafka.

A line is `NAME # reason`: the test runs, and fails; or `not run: NAME # reason`: it cannot be run
here. Empty lines and lines that begin with `#` are for people.
"""

from harness import CLIENTS

NOT_RUN = "not run: "


class Expected:
    """What a list says: `failing` and `not_run`, both name to reason."""

    def __init__(self, failing=None, not_run=None):
        self.failing, self.not_run = failing or {}, not_run or {}


def read(suite_name, folder):
    path = CLIENTS / "expected" / folder / f"{suite_name}.txt"
    if not path.exists():
        return Expected()
    expected = Expected()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, reason = line.partition(" # ")
        listed = expected.not_run if name.startswith(NOT_RUN) else expected.failing
        name = name.removeprefix(NOT_RUN).strip()
        if not separator or not reason.strip():
            raise SystemExit(f"{path}:{number}: a test without a reason")
        if name in expected.failing or name in expected.not_run:
            raise SystemExit(f"{path}:{number}: {name} is listed twice")
        listed[name] = reason.strip()
    return expected
