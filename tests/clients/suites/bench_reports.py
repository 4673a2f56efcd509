"""What ringmain-bench writes: HdrHistogram's own library reads its logs and distributions, and a
browser shows its pages, wide and on a phone, light and dark, with nothing to complain of.
"""

import json

import maven
from browser import COMMAND as CHROMIUM
from browser import Browser
from harness import (BUILD_SECONDS_MAX, RELEASE, REPOSITORY, Suite, expect, expect_equal, run)

BENCH = RELEASE.with_name("ringmain-bench")

RUN_SECONDS = 2
RATE = "2MB"
LABELS = ["first <script>fail()</script> & co", "second"]
RUNS_EACH = 2

WINDOWS = [(1280, 900), (375, 812)]  # a screen, a phone
CONTRAST_TEXT_MIN = 4.5  # WCAG AA
CONTRAST_LINE_MIN = 3.0

# Ratio of two colours' luminances as WCAG defines it; of texts with what is behind them.
CONTRASTS = """(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => parts(color).slice(0, 3).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }).reduce((sum, share, index) => sum + share * [0.2126, 0.7152, 0.0722][index], 0);
  const ratio = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((one, other) => other - one);
    return (light + 0.05) / (dark + 0.05);
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (parts(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const visible = (selector) => [...document.querySelectorAll(selector)]
    .filter((one) => one.checkVisibility());
  const texts = visible("body *").filter((one) => !one.closest("svg") && [...one.childNodes]
    .some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
  const worst = (elements, of) => elements.map((one) => [ratio(of(one), behind(one)),
    `${one.tagName}.${one.getAttribute("class")}: ${one.textContent.slice(0, 40)}`])
    .sort((one, other) => one[0] - other[0])[0];
  return {
    text: worst(texts, (one) => getComputedStyle(one).color),
    line: worst(visible(".line:not(.faint)"), (one) => getComputedStyle(one).stroke),
    ground: getComputedStyle(document.body).backgroundColor,
  };
})()"""

# Names around the plots that touch each other or lie beyond the window.
COLLISIONS = """(() => {
  const found = [];
  for (const axis of document.querySelectorAll(".x, .y")) {
    const boxes = [...axis.querySelectorAll("span")].filter((one) => one.checkVisibility())
      .map((one) => [one.textContent, one.getBoundingClientRect()]);
    boxes.forEach(([name, box], index) => {
      if (box.left < 0 || box.right > innerWidth) found.push(`${name} is cut off`);
      for (const [other, its] of boxes.slice(index + 1)) {
        if (box.left < its.right && its.left < box.right && box.top < its.bottom
            && its.top < box.bottom) found.push(`${name} lies on ${other}`);
      }
    });
  }
  return found;
})()"""


class BenchReports(Suite):
    name = "bench-reports"
    needs = ("cargo", "java", "javac", "mvn", CHROMIUM)

    @classmethod
    def prepare(cls):
        run(["cargo", "build", "--release", "--locked", "--bin", "ringmain-bench"], cwd=REPOSITORY,
            seconds_max=BUILD_SECONDS_MAX)
        cls.program = maven.program("histograms", ["histograms"])

    def bench(self, *arguments):
        return run([BENCH, *arguments], cwd=self.folder)

    def load(self, name, kind, *arguments):
        """One short run that writes every kind of file."""
        files = [part for kind_of_file in ("json", "hgrm", "hlog", "html")
                 for part in (f"--{kind_of_file}", f"{name}.{kind_of_file}")]
        self.bench(kind, "--brokers", self.broker.address, "--topic", self.topic(name),
                   "--warmup", "200ms", "--duration", f"{RUN_SECONDS}s", *files, *arguments)
        return json.loads((self.folder / f"{name}.json").read_text())

    def check_runs_write_all_their_files(self):
        fixed = ["--rate", RATE, "--allow-missed-rate", "--batch-bytes", "4K", "--request-bytes", "4K"]
        end_to_end = self.load("single", "end-to-end", *fixed, "--label", LABELS[0])
        expect_equal(end_to_end["label"], LABELS[0], "the label")
        expect(end_to_end["requests"] > 0, f"nothing was sent: {end_to_end}")
        for run_number in range(RUNS_EACH):
            for number, label in enumerate(LABELS):
                name = f"rival-{number}-{run_number}"
                result = self.load(name, "produce", *fixed, "--label", label)
                expect(result["requests"] > 0, f"nothing was sent: {result}")

    def check_hdrhistogram_reads_the_log_and_prints_the_same_distribution(self):
        result = json.loads((self.folder / "single.json").read_text())
        lines = []
        for part in result["parts"]:
            for series in part["series"]:
                tag = f"{part['name']}.{series['name']}"
                name = f"single.{tag}.hgrm" if lines else "single.hgrm"
                latency = series["latency_us"]
                figures = [latency[key] for key in ("p50", "p99", "p99_9", "max")]
                count = self.count_of(name)
                fields = [tag, count, *figures, len(series["intervals"]), self.folder / name,
                          series["histogram"]]
                lines.append(" ".join(map(str, fields)))
        expect(len(lines) >= 3, f"only the series {lines}")
        series_file = self.folder / "series.txt"
        series_file.write_text("".join(f"{line}\n" for line in lines))
        self.run_program([*self.program, self.folder / "single.hlog", result["started_at_ms"],
                          series_file])

    def count_of(self, hgrm):
        foot = (self.folder / hgrm).read_text().splitlines()[-3]
        return foot.rsplit("=", 1)[1].strip(" ]")

    def check_its_log_processor_makes_a_distribution_of_the_log(self):
        processor = [*self.program[:-1], "org.HdrHistogram.HistogramLogProcessor"]
        run([*processor, "-i", "single.hlog", "-o", "processed", "-tag", "produce.publish",
             "-outputValueUnitRatio", "1000"], cwd=self.folder)
        expected = (self.folder / "single.produce.publish.hgrm").read_text().splitlines()[:-1]
        processed = (self.folder / "processed.hgrm").read_text().splitlines()
        # The same values and counts; a percentile's last digit is each library's own.
        rows = [[line.split()[place] for line in lines if line[:1] not in ("#", "")
                 for place in (0, 2)] for lines in (processed, expected)]
        expect_equal(rows[0], rows[1], "values and counts")
        expect_equal(processed[-3:-1], expected[-3:-1], "mean, maximum and total")

    def check_report_compares_results_in_a_table_and_a_page(self):
        (self.folder / "notes.txt").write_text("Two runs each.\n\nOn <this> machine.\n")
        table = {"columns": ["row", "goal"], "rows": [["a & b", "1.5x"], ["c", None]]}
        (self.folder / "table.json").write_text(json.dumps(table))
        results = [f"rival-{number}-{run_number}.json"
                   for number in range(len(LABELS)) for run_number in range(RUNS_EACH)]
        said = self.bench("report", *results, "--html", "rivals.html", "--title", "A <race>",
                          "--notes", "notes.txt", "--table", "table.json").decode()
        for expected in [*LABELS, "p99.9", f"{RUNS_EACH} runs", "to the first"]:
            expect(expected in said, f"no {expected!r} in\n{said}")
        page = (self.folder / "rivals.html").read_text()
        for expected in ["<h1>A &lt;race&gt;</h1>", "On &lt;this&gt; machine.", "a &amp; b"]:
            expect(expected in page, f"no {expected!r} on the page")

    def check_pages_show_without_complaints_in_every_window_and_colours(self):
        with Browser() as browser:
            for page in ["single.html", "rivals.html", "rival-0-0.html"]:
                grounds = set()
                for width, height in WINDOWS:
                    for is_dark in (False, True):
                        browser.look(width, height, is_dark)
                        browser.open(self.folder / page)
                        where = f"{page}, {width} wide, {'dark' if is_dark else 'light'}"
                        grounds.add(self.expect_page(browser, where))
                expect_equal(len(grounds), 2, f"grounds of {page} in light and dark: {grounds}")

    def expect_page(self, browser, where):
        """What holds of every page; returns its ground's colour."""
        expect_equal(browser.complaints, [], f"{where}: complaints")
        expect_equal([url for url in browser.requests if not url.startswith("file:")], [],
                     f"{where}: requests")
        wide, room = browser.run("[document.documentElement.scrollWidth, innerWidth]")
        expect(wide <= room, f"{where}: {wide} px in a window of {room}")
        drawn = browser.run("""[...document.querySelectorAll('.frame:not([hidden]) .line')]
            .filter((one) => one.getBoundingClientRect().width > 20).length""")
        expect(drawn >= 3, f"{where}: {drawn} lines")
        expect_equal(browser.run(COLLISIONS), [], f"{where}: names around the plots")
        contrasts = browser.run(CONTRASTS)
        for kind, least in [("text", CONTRAST_TEXT_MIN), ("line", CONTRAST_LINE_MIN)]:
            ratio, what = contrasts[kind]
            expect(ratio >= least, f"{where}: contrast of {kind} {ratio:.2f} in {what}")
        return contrasts["ground"]

    def check_a_reader_can_point_choose_and_hide(self):
        with Browser() as browser:
            browser.look(*WINDOWS[0], is_dark=False)
            browser.open(self.folder / "rivals.html")
            canvas = ".plot .frame:not([hidden]) .canvas"
            browser.point_at(*self.middle_of(browser, canvas))
            told = browser.run("document.querySelector('.readout:not([hidden])')?.innerText")
            expect(told and "%" in told and (" µs" in told or " ms" in told), f"it tells {told!r}")
            expect(all(label in told for label in LABELS), f"it tells {told!r}")
            browser.point_at(*self.middle_of(browser, ".plot .key"), is_click=True)
            hidden = "document.querySelectorAll('.plot:first-child path[style*=none]').length"
            # Each run of the label and their sum, in both views.
            expect_equal(browser.run(hidden), 2 * (RUNS_EACH + 1), "hidden lines")
            browser.point_at(*self.middle_of(browser, canvas))
            told = browser.run("document.querySelector('.readout:not([hidden])')?.innerText")
            expect(told and LABELS[0] not in told and LABELS[1] in told, f"after hiding it tells {told!r}")
            linear = ".plot .views button[data-view='1']"
            browser.point_at(*self.middle_of(browser, linear), is_click=True)
            shown = """[...document.querySelector('.plot').querySelectorAll('.frame')]
                .map((one) => one.checkVisibility())"""
            expect_equal(browser.run(shown), [False, True], "views after choosing the second")
            browser.run(f"document.querySelector('{canvas}').focus()")
            browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight")
            told = browser.run("document.querySelector('.readout:not([hidden])')?.innerText")
            expect(told and LABELS[1] in told, f"with the keyboard it tells {told!r}")
            expect_equal(browser.complaints, [], "complaints")

    def middle_of(self, browser, selector):
        return browser.run(f"""(() => {{
            const element = document.querySelector("{selector}");
            element.scrollIntoView({{block: "center"}});
            const box = element.getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2];
        }})()""")


SUITES = [BenchReports]
