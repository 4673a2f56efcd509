"""scripts/start.sh: builds if need be, runs a node, passes its arguments on, and ends cleanly."""

from broker import Ringmain
from harness import REPOSITORY, LeftOut, Suite, expect

ANSWER_SECONDS_MAX = 1.0  # a clean start on little data


class Start(Suite):
    name = "start"

    def check_start_sh_runs_a_node_and_passes_arguments_on(self):
        if not self.broker.is_ringmain:
            raise LeftOut("it starts ringmain")
        node = Ringmain(self.folder / "script", [REPOSITORY / "scripts" / "start.sh"])
        node.data_dir.parent.mkdir()
        try:
            node.start(seconds_max=900)  # it may build
            node.stop()
            expect(node.data_dir.exists(), "--data-dir was not passed on")
        finally:
            node.end()

    def check_a_clean_start_answers_at_once(self):
        if not self.broker.is_ringmain:
            raise LeftOut("the time is ringmain's own")
        self.broker.stop()
        took = self.broker.start()
        expect(took < ANSWER_SECONDS_MAX, f"it took {took:.2f} s")


SUITES = [Start]
