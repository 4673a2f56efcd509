"""The results of one suite, each held against the list of what does not pass; and the table of all."""

from expected import Expected

MISSING = "is listed and did not run: strike it from the list, or find out why it is gone"


class Results:
    """Takes a suite's results as they come and prints a line each.

    `unexpected` are the failures of the run: what fails without being listed, passes though it is
    listed, comes twice, or is left out for no listed reason where `must_list` holds.
    """

    def __init__(self, suite_name, expected=None, must_list=False):
        self.suite_name, self.must_list = suite_name, must_list
        self.listed = expected or Expected()
        self.passed, self.failed_as_listed, self.left_out, self.unexpected = [], [], [], []
        self.seconds = 0.0
        self._seen = set()

    @property
    def not_run(self):
        """Name to reason: what the suite need not try."""
        return self.listed.not_run

    def passes(self, name, seconds=None):
        if reason := self.listed.failing.get(name) or self.not_run.get(name):
            self._unexpected(name, f"it passes, but is listed: {reason}")
        elif self._is_new(name):
            self.passed.append(name)
            took = "" if seconds is None else f" ({seconds:.1f} s)"
            self._print("ok       ", f"{name}{took}")

    def fails(self, name, reason):
        if name not in self.listed.failing:
            self._unexpected(name, reason)
        elif self._is_new(name):
            self.failed_as_listed.append(name)
            self._print("expected ", f"{name}: {self.listed.failing[name]}")

    def leaves_out(self, name, reason):
        if self.must_list and name not in self.not_run:
            self._unexpected(name, f"left out, but not listed as not run: {reason}")
        elif self._is_new(name):
            self.left_out.append(name)
            self._print("left out ", f"{name}: {self.not_run.get(name, reason)}")

    def finish(self, is_whole, seconds):
        """Once the suite is through: where all of it ran, all that is listed must have come."""
        self.seconds = seconds
        if is_whole:
            listed = [*self.listed.failing, *self.not_run]
            for name in [name for name in listed if name not in self._seen]:
                self._unexpected(name, MISSING)

    def _is_new(self, name):
        if name in self._seen:
            self.unexpected.append(name)
            self._print("FAILED   ", f"{name}: a second result of this name")
            return False
        self._seen.add(name)
        return True

    def _unexpected(self, name, reason):
        self._seen.add(name)
        self.unexpected.append(name)
        self._print("FAILED   ", f"{name}: {reason}")

    def _print(self, verdict, rest):
        print(f"{verdict} {self.suite_name}: {rest}", flush=True)


def print_table(columns):
    """A row a suite; `columns` is the broker's name to its list of Results, suites in one order."""
    names = list(columns)
    heads = [f"{name}: passed, listed, not run, FAILED, s" for name in names]
    print(f"\n{'suite':<20}" + "".join(f"  {head:>46}" for head in heads))
    for row in zip(*columns.values()):
        cells = [
            f"{len(one.passed):>6} {len(one.failed_as_listed):>6} {len(one.left_out):>6} "
            f"{len(one.unexpected):>6} {one.seconds:>6.0f}" for one in row
        ]
        print(f"{row[0].suite_name:<20}" + "".join(f"  {cell:>46}" for cell in cells))
    everything = [one for column in columns.values() for one in column]
    for one in everything:
        for name in one.unexpected:
            print(f"failed: {one.suite_name}: {name}")
    passed_count = sum(len(one.passed) + len(one.failed_as_listed) for one in everything)
    failed_count = sum(len(one.unexpected) for one in everything)
    print(f"{passed_count} passed, {failed_count} failed", flush=True)
    return failed_count
