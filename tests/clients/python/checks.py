"""What the Python programs share: checks in the order they are written, a line printed for each.

`ok NAME` or `FAILED NAME: reason`, NAME being the function's with spaces; exit code 0 once all
ran, whatever they found. A check passes when it returns. Each has topics and groups of its own.
"""

import functools
import random
import time
import traceback

CHECKS = []


def check(function):
    """Decorator: the function is a check, run with what `run_all` is given."""
    CHECKS.append((function.__name__.strip("_").replace("_", " "), function))
    return function


def for_each(**parameter):
    """Decorator: a check for each value of the one keyword, the value at the end of its name."""
    [(keyword, values)] = parameter.items()

    def register(function):
        for value in values:
            name = f"{function.__name__.strip('_').replace('_', ' ')} {value}"
            CHECKS.append((name, functools.partial(function, **{keyword: value})))
        return function

    return register


def run_all(*arguments, call=lambda function, arguments: function(*arguments)):
    for name, function in CHECKS:
        try:
            call(function, arguments)
            print(f"ok {name}", flush=True)
        except Exception as error:  # noqa: BLE001: any end of a check is a result of it
            where = traceback.extract_tb(error.__traceback__)
            lines = [str(frame.lineno) for frame in where if frame.filename.endswith("_check.py")]
            reason = " ".join(f"{type(error).__name__} {error}".split())
            print(f"FAILED {name}: line {'>'.join(lines)}: {reason:.1500}", flush=True)


def expect(condition, message):
    if not condition:
        raise AssertionError(message)


def expect_equal(actual, expected, what):
    """Compares; of two lists it shows the first place where they differ."""
    if actual == expected:
        return
    if isinstance(actual, list) and isinstance(expected, list):
        pairs = enumerate(zip(actual, expected))
        at = next((index for index, (a, b) in pairs if a != b), min(len(actual), len(expected)))
        raise AssertionError(
            f"{what}: {len(actual)} instead of {len(expected)}, first difference at {at}: "
            f"{actual[at:at + 2]} instead of {expected[at:at + 2]}")
    raise AssertionError(f"{what}: {actual!r:.400} instead of {expected!r:.400}")


class Deadline:
    """`while deadline.is_ahead("what is waited for")`: raises once the seconds are over."""

    def __init__(self, seconds=30.0):
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def is_ahead(self, what):
        if time.monotonic() > self.end:
            raise AssertionError(
                f"not after {self.seconds} s: {what() if callable(what) else what}")
        return True


def records(count, seed):
    """`(key, value, headers, timestamp_ms)`, of all sizes, some without key, value or headers."""
    source = random.Random(seed)
    words = [f"w{source.randrange(10**6):x}" for _ in range(200)]
    made = []
    for number in range(count):
        key = None if number % 7 == 3 else f"k{number % 97}".encode()
        text = f"{number} " + " ".join(source.choices(words, k=source.randrange(40)))
        value = None if key and number % 11 == 5 else text.encode()
        headers = [("number", str(number).encode()), ("none", None)] if number % 3 else []
        made.append((key, value, headers, 1_700_000_000_000 + 7 * number))
    return made
