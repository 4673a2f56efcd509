import java.util.Map;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.TimeoutException;

/** Of a broker that serves no transactions: who wants one is told so and does not wait. */
final class NoTransactionsChecks extends Check {
    NoTransactionsChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix);
    }

    void runAll() {
        run("a producer with a transactional id is told that there are none", this::refusal);
        admin.close();
    }

    private void refusal() throws Exception {
        var settings = Map.of("transactional.id", prefix + "transactional",
                "enable.idempotence", "true", "acks", "all", "max.block.ms", "30000");
        try (var producer = producer(settings)) {
            producer.initTransactions();
        } catch (TimeoutException late) {
            throw new AssertionError("it was not told, and waited", late);
        } catch (KafkaException error) {
            require(String.valueOf(error.getMessage())
                    .contains("transactions are not served by this broker"), "told " + error);
            return;
        }
        throw new AssertionError("initTransactions was accepted");
    }
}
