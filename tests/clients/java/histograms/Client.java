import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

import org.HdrHistogram.EncodableHistogram;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramLogReader;

/**
 * Reads what the load generator wrote with HdrHistogram's own library. Arguments: a log, its start
 * in ms, and a file with a line for each series:
 * TAG COUNT P50 P99 P99.9 MAX INTERVALS HGRM-FILE HISTOGRAM, values in µs.
 */
public final class Client {
    /** What a percentile may differ by once it is printed: its last digit. */
    private static final double PRINTED = 1e-11;

    private static final double US_PER_MS = 1000.0;

    public static void main(String[] arguments) throws Exception {
        Map<String, List<Histogram>> logged = new TreeMap<>();
        double startSeconds;
        try (HistogramLogReader reader = new HistogramLogReader(arguments[0])) {
            while (reader.hasNext()) {
                EncodableHistogram interval = reader.nextIntervalHistogram();
                logged.computeIfAbsent(interval.getTag(), tag -> new ArrayList<>())
                        .add((Histogram) interval);
            }
            startSeconds = reader.getStartTimeSec();
        }
        double startMs = Double.parseDouble(arguments[1]);
        equal("the log's start", startSeconds * 1000.0, startMs, 1.0);
        List<String> lines = Files.readAllLines(Path.of(arguments[2]));
        equal("the log's series", logged.size(), lines.size(), 0);
        for (String line : lines) {
            String[] fields = line.split(" ");
            check(fields, logged.getOrDefault(fields[0], List.of()), (long) startMs);
        }
    }

    private static void check(String[] fields, List<Histogram> intervals, long startMs)
            throws Exception {
        String tag = fields[0];
        Histogram sum = new Histogram(3);
        long endMs = startMs;
        for (Histogram interval : intervals) {
            sum.add(interval);
            equal(tag + ": an interval begins where the last one ended",
                    interval.getStartTimeStamp(), endMs, 1500.0);
            endMs = interval.getEndTimeStamp();
        }
        double[] found = {
            sum.getTotalCount(), sum.getValueAtPercentile(50.0), sum.getValueAtPercentile(99.0),
            sum.getValueAtPercentile(99.9), sum.getMaxValue(), intervals.size(),
        };
        String[] names = {"count", "p50", "p99", "p99.9", "max", "intervals"};
        for (int index = 0; index < names.length; index++) {
            double expected = Double.parseDouble(fields[index + 1]);
            equal(tag + ": " + names[index] + " of the log", found[index], expected, 0);
        }
        System.out.println("ok the log of " + tag + " has the run's values");
        Histogram whole = Histogram.decodeFromCompressedByteBuffer(
                ByteBuffer.wrap(Base64.getDecoder().decode(fields[8])), 0);
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        whole.outputPercentileDistribution(
                new PrintStream(printed, true, StandardCharsets.UTF_8), US_PER_MS);
        List<String> expected = printed.toString(StandardCharsets.UTF_8).lines().toList();
        List<String> written = Files.readAllLines(Path.of(fields[7]));
        // Ours ends with a line more, which tells the unit.
        equal(tag + ": lines of the distribution", written.size(), expected.size() + 1, 0);
        for (int index = 0; index < expected.size(); index++) {
            sameLine(tag, written.get(index), expected.get(index));
        }
        System.out.println("ok the distribution of " + tag + " is as the library prints it");
    }

    /** The same text, but for the last digit of a percentile, which Java rounds in its own way. */
    private static void sameLine(String tag, String written, String expected) {
        if (written.equals(expected)) {
            return;
        }
        String[] ours = written.trim().split(" +");
        String[] theirs = expected.trim().split(" +");
        boolean isSame = ours.length == theirs.length && written.length() == expected.length()
                && !expected.startsWith("#");
        for (int index = 0; isSame && index < ours.length; index++) {
            double difference =
                    Double.parseDouble(ours[index]) - Double.parseDouble(theirs[index]);
            double allowed = index == 1 ? PRINTED : index == 3 ? 0.011 : 0;
            isSame = Math.abs(difference) <= allowed;
        }
        if (!isSame) {
            fail(tag + ": distribution", "wrote " + written + " for " + expected);
        }
    }

    private static void equal(String name, double found, double expected, double allowed) {
        if (!(Math.abs(found - expected) <= allowed)) {
            fail(name, found + " instead of " + expected);
        }
    }

    private static void fail(String name, String reason) {
        System.out.println("FAILED " + name + ": " + reason);
        System.exit(1);
    }
}
