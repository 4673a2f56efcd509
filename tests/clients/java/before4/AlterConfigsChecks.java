import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;

/** The older way to alter settings: all of a resource at once. Clients 4 no longer have it. */
final class AlterConfigsChecks extends Check {
    AlterConfigsChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix);
    }

    void runAll() {
        run("admin, alter configs replaces all that was set", this::replaces);
        admin.close();
    }

    @SuppressWarnings("deprecation") // it is what is checked
    private void replaces() throws Exception {
        var set = Map.of("retention.ms", "3600000", "segment.ms", "60000");
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, newTopic("old", 1, set));
        alter(resource, "retention.ms", "7200000");
        var after = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        equal(after.get("retention.ms").value(), "7200000", "what was named");
        equal(after.get("segment.ms").value(), "604800000", "what was not is the default again");
        refused(InvalidConfigurationException.class, () -> alter(resource, "segment.ms", "x"));
        after = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        equal(after.get("retention.ms").value(), "7200000", "after a refusal");
    }

    @SuppressWarnings("deprecation")
    private void alter(ConfigResource resource, String name, String value) throws Exception {
        var config = new Config(List.of(new ConfigEntry(name, value)));
        admin.alterConfigs(Map.of(resource, config)).all().get();
    }
}
