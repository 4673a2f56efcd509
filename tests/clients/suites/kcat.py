"""kcat: the same bytes in the same order for every codec, with keys and headers, also after kill -9."""

import random

from harness import Failed, Suite, expect, expect_equal, run

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
RECORDS_COUNT = 20_000  # about 4 MB a codec: several requests and batches
BINARY_BYTES = 700_000  # one record, below the 1 MiB that a batch may have


class Kcat(Suite):
    name = "kcat"
    needs = ("kcat",)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.lines = self.folder / "lines.txt"
        self.lines.write_bytes(self.keyed_lines())
        self.expected_lines = self.lines.read_bytes()

    def keyed_lines(self):
        """`key TAB value` a line: words that compress, of all lengths, unique by their number."""
        random_source = random.Random(20_260_101)
        words = [f"w{random_source.randrange(10**6):x}" for _ in range(300)]
        lines = []
        for number in range(RECORDS_COUNT):
            value = " ".join(random_source.choices(words, k=random_source.randrange(60)))
            lines.append(f"k{number % 977}\t{number} ß {value}\n")
        return "".join(lines).encode()

    def kcat(self, *arguments, stdin=b""):
        return run(["kcat", "-b", self.broker.address, *arguments], stdin=stdin)

    def consume(self, topic, form, *more):
        return self.kcat("-C", "-q", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-f", form,
                         *more)

    def compare(self, codec):
        """Keys, values, order, offsets from 0 without a gap, and the headers of each record."""
        topic = self.topic(codec)
        expect_equal(self.consume(topic, "%k\t%s\n"), self.expected_lines, f"{codec} records")
        head = self.consume(topic, "%o %h\n").decode().splitlines()
        headers = f"codec={codec},empty="
        expected = [f"{offset} {headers}" for offset in range(RECORDS_COUNT)]
        expect_equal(head, expected, f"{codec} offsets and headers")

    def check_topics_are_created_on_first_use(self):
        topic = self.topic("first-use")
        self.kcat("-P", "-t", topic, stdin=b"first\nsecond\n")
        expect_equal(self.consume(topic, "%s\n"), b"first\nsecond\n", "records")
        listing = self.kcat("-L").decode()
        expect(f'topic "{topic}" with 1 partitions' in listing, f"not listed in\n{listing}")

    def check_every_codec_gives_back_the_same_bytes(self):
        for codec in CODECS:
            self.kcat("-P", "-t", self.topic(codec), "-p", "0", "-z", codec, "-K", "\t", "-H",
                      f"codec={codec}", "-H", "empty=", "-l", self.lines)
            self.compare(codec)

    def check_a_big_binary_record_comes_back_whole(self):
        topic = self.topic("binary")
        blob = self.folder / "blob.bin"
        blob.write_bytes(random.Random(7).randbytes(BINARY_BYTES))
        self.kcat("-P", "-t", topic, "-p", "0", blob)
        expect_equal(self.consume(topic, "%s", "-c", "1"), blob.read_bytes(), "the record")

    def check_empty_values_and_keys_differ_from_none(self):
        topic = self.topic("nulls")
        self.kcat("-P", "-t", topic, "-p", "0", "-Z", "-K", ":", stdin=b"k:\n:v\n")
        told = self.consume(topic, "%K %S\n")
        expect_equal(told, b"1 -1\n-1 1\n", "lengths of keys and values")

    def check_offsets_are_found_by_time_and_from_the_end(self):
        topic = self.topic("none")
        asked = self.kcat("-Q", "-t", f"{topic}:0:-2").decode()
        expect(f"{topic} [0] offset 0" in asked, f"earliest offset is not 0 in {asked!r}")
        asked = self.kcat("-Q", "-t", f"{topic}:0:-1").decode()
        expect(f"{topic} [0] offset {RECORDS_COUNT}" in asked, f"end offset in {asked!r}")
        stamps = self.consume(topic, "%T\n").decode().split()
        middle = stamps[RECORDS_COUNT // 2]
        first = stamps.index(middle)
        asked = self.kcat("-Q", "-t", f"{topic}:0:{middle}").decode()
        expect(f"{topic} [0] offset {first}" in asked, f"offset of {middle} is {first}: {asked!r}")
        tail = self.kcat("-C", "-q", "-t", topic, "-p", "0", "-o", "-5", "-e", "-f", "%o\n")
        expected = "".join(f"{RECORDS_COUNT - 5 + step}\n" for step in range(5))
        expect_equal(tail.decode(), expected, "the last five")

    def check_after_kill_9_every_acknowledged_record_is_there(self):
        self.broker.kill()
        self.broker.start()
        for codec in CODECS:
            self.compare(codec)

    def check_after_a_clean_stop_too_and_writing_goes_on(self):
        self.broker.stop()
        self.broker.start()
        for codec in CODECS:
            self.compare(codec)
        topic = self.topic("first-use")
        self.kcat("-P", "-t", topic, "-p", "0", stdin=b"third\n")
        expect_equal(self.consume(topic, "%o %s\n"), b"0 first\n1 second\n2 third\n", "records")

    def check_an_offset_out_of_range_is_refused(self):
        topic = self.topic("first-use")
        try:
            self.kcat("-C", "-q", "-t", topic, "-p", "0", "-o", "1000", "-e", "-X",
                      "topic.auto.offset.reset=error")
        except Failed as refused:
            expect("out of range" in str(refused).lower(), f"refused otherwise: {refused}")
            return
        raise Failed("reading at offset 1000 of 3 succeeded")


SUITES = [Kcat]
