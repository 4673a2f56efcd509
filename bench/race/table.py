"""What was measured, as kept in `results.json`, and the table that is made of it."""

import json
import statistics
from dataclasses import dataclass

from rows import BASE_LINES, ROWS

FILE = "results.json"
COLUMNS = ("k0", "k1", "ringmain")


class Results:
    """Figures by measurement, broker and run; written anew after each, so that nothing is lost."""

    def __init__(self, folder, about):
        self.folder = folder
        self.about = about  # machine, brokers, settings of the run
        self.records = []  # {"measurement", "broker", "run", "figures"} or with "failure"

    @classmethod
    def read(cls, folder):
        kept = json.loads((folder / FILE).read_text())
        results = cls(folder, kept["about"])
        results.records = kept["records"]
        return results

    def add(self, measurement, broker, run, figures, stolen_share):
        self.records.append({"measurement": measurement, "broker": broker, "run": run,
                             "figures": figures, "stolen_share": stolen_share})
        self.write()

    def add_failure(self, measurement, broker, run, reason):
        self.records.append({"measurement": measurement, "broker": broker, "run": run,
                             "figures": {}, "failure": reason})
        self.write()

    def write(self):
        text = json.dumps({"about": self.about, "records": self.records}, indent=1)
        (self.folder / FILE).write_text(text + "\n")

    def values(self, measurement, figure, broker):
        return [record["figures"][figure] for record in self.records
                if record["measurement"] == measurement and record["broker"] == broker
                and figure in record["figures"]]

    def most_stolen_share(self):
        return max((record.get("stolen_share", 0) for record in self.records), default=0)

    def failures(self):
        return [record for record in self.records if "failure" in record]


@dataclass
class Line:
    """A row with its figures."""

    row: object
    cells: dict  # broker -> Cell
    ratios: dict  # what ringmain is held against -> its median / that one's
    verdict: str  # holds, short, no goal, or not measured

    def goal(self):
        return ", ".join(goal.text(self.row) for goal in self.row.goals)


@dataclass
class Cell:
    """Several runs of one figure."""

    median: float
    least: float
    most: float
    runs_count: int


def cell(values):
    if not values:
        return None
    return Cell(statistics.median(values), min(values), max(values), len(values))


def lines(results):
    """The table: a line for each row that any broker has figures of."""
    found = [line(results, row) for row in (*BASE_LINES, *ROWS)]
    return [one for one in found if any(one.cells.values())]


def line(results, row):
    cells = {name: cell(results.values(row.measurement, row.figure, name)) for name in COLUMNS}
    ours = cells["ringmain"]
    ratios, verdicts = {}, []
    for name in ("k0", "k1"):
        if ours and cells[name] and cells[name].median > 0:
            ratios[name] = ours.median / cells[name].median
    for goal in row.goals:
        bound = bound_of(results, row, goal)
        verdicts.append(None if bound is None or not ours else goal.holds(ours.median, bound))
        if goal.against == "fio" and bound and ours:
            ratios["fio"] = ours.median / bound
    if not row.goals:
        verdict = "no goal"
    elif False in verdicts:
        verdict = "short"
    else:
        verdict = "not measured" if None in verdicts else "holds"
    return Line(row, cells, ratios, verdict)


def bound_of(results, row, goal):
    """The median that a goal's factor is multiplied with; None where it was not measured."""
    if goal.against is None:
        return 1
    measurement, figure, broker = row.measurement, row.figure, goal.against
    if goal.against == "fio":
        figure, broker = "fio_bytes_per_second", "ringmain"
    elif goal.against.startswith("own "):
        *other, figure = goal.against.removeprefix("own ").split(".")
        measurement, broker = (other or [row.measurement])[0], "ringmain"
    values = results.values(measurement, figure, broker)
    return statistics.median(values) if values else None


# ---- as text ----------------------------------------------------------------------------------

HEAD = ("", "K0", "K1", "ringmain", "ringmain / K0", "/ K1", "goal", "")


def texts_of(one):
    """The cells of a line as people read them: median (least to most)."""
    def figure(name):
        found = one.cells[name]
        if not found:
            return ""
        shown = one.row.shown
        spread = f" ({shown(found.least)} to {shown(found.most)})" if found.runs_count > 1 else ""
        return shown(found.median) + spread

    def ratio(name):
        return f"{one.ratios[name]:.2f}" if name in one.ratios else ""

    goal = one.goal()
    if "fio" in one.ratios:
        goal = goal.replace("x fio", f"x fio (is {one.ratios['fio']:.2f})")
    unit = f", {one.row.unit}" if one.row.unit else ""
    verdict = "" if one.verdict == "no goal" else one.verdict
    return (one.row.title + unit, figure("k0"), figure("k1"), figure("ringmain"), ratio("k0"),
            ratio("k1"), goal, verdict)


def text_table(results):
    rows = [HEAD, *map(texts_of, lines(results))]
    widths = [max(len(row[index]) for row in rows) for index in range(len(HEAD))]
    return "\n".join("  ".join(part.ljust(width) for part, width in zip(row, widths)).rstrip()
                     for row in rows)


def markdown_table(results):
    rows = [HEAD, ("---",) * len(HEAD), *map(texts_of, lines(results))]
    rows[0] = ("dimension", *HEAD[1:-1], "verdict")
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def page_table(results):
    """As `ringmain-bench report --table` takes it for the top of its page."""
    return {"columns": ["dimension", *HEAD[1:-1], "verdict"],
            "rows": [list(texts_of(one)) for one in lines(results)]}


def json_table(results):
    """For programs."""
    return [
        {
            "name": one.row.name, "title": one.row.title, "unit": one.row.unit,
            "cells": {name: found and {
                "median": found.median * one.row.scale, "min": found.least * one.row.scale,
                "max": found.most * one.row.scale, "runs": found.runs_count,
            } for name, found in one.cells.items()},
            "ratios": one.ratios, "goal": one.goal(), "verdict": one.verdict,
        }
        for one in lines(results)
    ]
