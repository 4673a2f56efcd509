//! Each refusal in Kafka's words, and that it leaves no trace.

use super::*;
use crate::base::limits::{BROKER_FOREIGN_SETTINGS_COUNT_MAX, SETTING_NAME_BYTES_MAX};

static NO_LAYER: Overrides = Overrides::new();

/// An image with these brokers.
fn image(brokers: &[i32]) -> Image {
    let mut image = Image::default();
    for id in brokers {
        let (host, port, rack) = ("h".to_owned(), 9092, None);
        let broker = BrokerRecord { id: *id, host, port, rack };
        image.apply(&MetadataRecord::BrokerRegistered(broker)).unwrap();
    }
    image
}

/// Runs `change` in a plan over `image` and takes over what it accepted; a refusal must leave
/// nothing.
fn changed<T>(
    image: &mut Image,
    fixed: &Overrides,
    change: impl FnOnce(&mut Plan) -> Result<T, ChangeError>,
) -> Result<T, ChangeError> {
    let mut plan = Plan::new(image.clone(), NodeId(1), fixed);
    let outcome = change(&mut plan);
    let (after, records) = plan.finish();
    assert!(outcome.is_ok() || records.is_empty(), "a refusal leaves no trace");
    *image = after;
    outcome
}

fn create(image: &mut Image, new: &NewTopic) -> Result<Arc<Topic>, ChangeError> {
    changed(image, &NO_LAYER, |plan| plan.create_topic(new, TopicId::random()))
}

fn named(name: &str) -> NewTopic {
    NewTopic::with_defaults(name)
}

fn fault<T: std::fmt::Debug>(outcome: Result<T, ChangeError>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn names_are_legal_as_kafka_has_it() {
    let long = "x".repeat(250);
    for (name, expected) in [
        ("", "Topic name is invalid: the empty string is not allowed".to_owned()),
        (".", "Topic name is invalid: '.' is not allowed".to_owned()),
        ("..", "Topic name is invalid: '..' is not allowed".to_owned()),
        (
            "a/b",
            "Topic name is invalid: 'a/b' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'"
                .to_owned(),
        ),
        (
            long.as_str(),
            format!(
                "Topic name is invalid: the length of '{long}' is longer than the max allowed \
                 length 249"
            ),
        ),
    ] {
        assert_eq!(fault(create(&mut image(&[1]), &named(name))), expected);
    }
    assert!(create(&mut image(&[1]), &named(&"x".repeat(249))).is_ok());
    assert!(create(&mut image(&[1]), &named("...")).is_ok());
    assert!(create(&mut image(&[1]), &named("ü")).is_err());
}

#[test]
fn names_that_differ_in_dots_and_underscores_collide() {
    let mut image = image(&[1]);
    create(&mut image, &named("a.b_c")).unwrap();
    assert_eq!(
        fault(create(&mut image, &named("a_b.c"))),
        "Topic 'a_b.c' collides with existing topic: a.b_c"
    );
    assert_eq!(fault(create(&mut image, &named("a.b_c"))), "Topic 'a.b_c' already exists.");
    create(&mut image, &named("a-b-c")).unwrap();
}

#[test]
fn counts_are_checked_and_minus_one_is_the_default() {
    let mut image = image(&[1, 2, 3]);
    let fixed: Overrides = [
        ("num.partitions", "4"),
        ("default.replication.factor", "2"),
        ("min.insync.replicas", "2"),
    ]
    .iter()
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect();
    let topic = changed(&mut image, &fixed, |plan| plan.create_topic(&named("a"), TopicId(5)));
    let topic = topic.unwrap();
    assert_eq!((topic.partitions.len(), topic.replication_factor()), (4, 2));
    let with = |partitions_count, replication_factor| NewTopic {
        partitions_count,
        replication_factor,
        ..named("b")
    };
    assert_eq!(
        fault(create(&mut image, &with(0, 1))),
        "Number of partitions was set to an invalid non-positive value."
    );
    assert_eq!(
        fault(create(&mut image, &with(1, 0))),
        "Replication factor must be larger than 0, or -1 to use the default value."
    );
    assert_eq!(
        fault(create(&mut image, &with(1, 4))),
        "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be \
         reached because only 3 broker(s) are registered."
    );
    let excessive = create(&mut image, &with(i32::MAX, 1));
    assert!(matches!(excessive, Err(ChangeError::PolicyViolation(_))));
    assert_eq!(fault(excessive), "Excessively large number of partitions per request.");
}

#[test]
fn partitions_are_spread_over_the_brokers() {
    let mut image = image(&[1, 2, 3]);
    let new = NewTopic { partitions_count: 9, replication_factor: 2, ..named("a") };
    let topic = create(&mut image, &new).unwrap();
    for id in [1, 2, 3].map(NodeId) {
        let led = topic.partitions.iter().filter(|partition| partition.leader == id);
        assert_eq!(led.count(), 3);
        let held = topic.partitions.iter().filter(|partition| partition.replicas.contains(&id));
        assert_eq!(held.count(), 6);
    }
}

#[test]
fn manual_assignments_are_checked_in_kafkas_words() {
    let assigned = |parts: &[(i32, &[i32])]| NewTopic {
        assignments: parts
            .iter()
            .map(|(partition, ids)| Assignment {
                partition: *partition,
                replicas: ids.iter().copied().map(NodeId).collect(),
            })
            .collect(),
        ..named("a")
    };
    let mut image = image(&[1, 2]);
    let manual = "The manual partition assignment includes";
    for (new, expected) in [
        (assigned(&[(0, &[])]), format!("{manual} an empty replica list.")),
        (assigned(&[(0, &[9])]), format!("{manual} broker 9, but no such broker is registered.")),
        (assigned(&[(0, &[1, 1])]), format!("{manual} the broker 1 more than once.")),
        (
            assigned(&[(0, &[1, 2]), (1, &[1])]),
            format!(
                "{manual} a partition with 1 replica(s), but this is not consistent with previous \
                 partitions, which have 2 replica(s)."
            ),
        ),
        (
            assigned(&[(0, &[1]), (0, &[2])]),
            "Found multiple manual partition assignments for partition 0".to_owned(),
        ),
        (
            assigned(&[(0, &[1]), (2, &[2])]),
            "partitions should be a consecutive 0-based integer sequence".to_owned(),
        ),
        (
            NewTopic { partitions_count: 1, ..assigned(&[(0, &[1])]) },
            "A manual partition assignment was specified, but numPartitions was not set to -1."
                .to_owned(),
        ),
    ] {
        assert_eq!(fault(create(&mut image, &new)), expected);
    }
}

#[test]
fn settings_of_a_new_topic_are_checked() {
    let with = |name: &str, value: Option<&str>| NewTopic {
        overrides: vec![(name.to_owned(), value.map(str::to_owned))],
        ..named("a")
    };
    let mut image = image(&[1]);
    assert_eq!(
        fault(create(&mut image, &with("retention.ms", Some("-2")))),
        "Invalid value -2 for configuration retention.ms: Value must be at least -1"
    );
    assert_eq!(
        fault(create(&mut image, &with("retention", Some("1")))),
        "Unknown topic config name: retention"
    );
    assert_eq!(
        fault(create(&mut image, &with("retention.ms", None))),
        "Null value not supported for topic configs: retention.ms"
    );
    let long = create(&mut image, &with("message.format.version", Some(&"x".repeat(40_000))));
    assert!(matches!(long, Err(ChangeError::InvalidConfig(_))));
}

#[test]
fn partitions_only_ever_grow() {
    let mut image = image(&[1]);
    create(&mut image, &NewTopic { partitions_count: 2, ..named("a") }).unwrap();
    let mut grow = |topic: &str, partitions_count, assignments| {
        let more = MorePartitions { topic: topic.to_owned(), partitions_count, assignments };
        changed(&mut image, &NO_LAYER, |plan| plan.create_partitions(&more))
    };
    assert_eq!(fault(grow("a", 2, None)), "Topic already has 2 partition(s).");
    assert_eq!(
        fault(grow("a", 1, None)),
        "The topic a currently has 2 partition(s); 1 would not be an increase."
    );
    assert_eq!(
        fault(grow("a", 5, Some(vec![vec![NodeId(1)]]))),
        "Attempted to add 3 additional partition(s), but only 1 assignment(s) were specified."
    );
    assert!(matches!(grow("b", 5, None), Err(ChangeError::UnknownTopic(_))));
    assert_eq!(grow("a", 3, Some(vec![vec![NodeId(1)]])), Ok(()));
    assert_eq!(image.topic("a").unwrap().partitions.len(), 3);
}

#[test]
fn deletion_can_be_switched_off() {
    let mut image = image(&[1]);
    create(&mut image, &named("a")).unwrap();
    let fixed: Overrides =
        [("delete.topic.enable".to_owned(), "false".to_owned())].into_iter().collect();
    let by_name = TopicRef::Name("a".to_owned());
    let refused = changed(&mut image, &fixed, |plan| plan.delete_topic(&by_name));
    assert_eq!(refused.unwrap_err(), ChangeError::TopicDeletionDisabled);
    let unknown = TopicRef::Id(TopicId(3));
    let refused = changed(&mut image, &NO_LAYER, |plan| plan.delete_topic(&unknown));
    assert_eq!(refused.unwrap_err(), ChangeError::UnknownTopicId { id: TopicId(3) });
    assert!(changed(&mut image, &NO_LAYER, |plan| plan.delete_topic(&by_name)).is_ok());
}

fn change(name: &str, verb: SettingVerb, value: Option<&str>) -> SettingChange {
    SettingChange { name: name.to_owned(), verb, value: value.map(str::to_owned) }
}

#[test]
fn lists_are_appended_to_and_subtracted_from() {
    let mut image = image(&[1]);
    create(&mut image, &named("a")).unwrap();
    let topic = Resource::Topic("a".to_owned());
    let mut alter = |verb, value: &str| {
        let changes = [change("cleanup.policy", verb, Some(value))];
        changed(&mut image, &NO_LAYER, |plan| plan.alter_settings(&topic, &changes)).unwrap();
        image.topic("a").unwrap().overrides["cleanup.policy"].clone()
    };
    assert_eq!(alter(SettingVerb::Append, "compact"), "delete,compact");
    assert_eq!(alter(SettingVerb::Append, "compact"), "delete,compact");
    assert_eq!(alter(SettingVerb::Subtract, "delete"), "compact");
    assert_eq!(alter(SettingVerb::Set, "delete"), "delete");
}

/// Goal: one wrong setting refuses the resource whole. Method: a right one before and after it.
#[test]
fn settings_of_a_resource_change_together_or_not_at_all() {
    let mut image = image(&[1]);
    create(&mut image, &named("a")).unwrap();
    let topic = Resource::Topic("a".to_owned());
    let right = || change("retention.ms", SettingVerb::Set, Some("5"));
    for (changes, expected) in [
        (
            vec![right(), change("retention.bytes", SettingVerb::Set, Some("x"))],
            "Invalid value x for configuration retention.bytes: Not a number of type LONG",
        ),
        (
            vec![change("retention.bytes", SettingVerb::Append, Some("1")), right()],
            "Can't APPEND to key retention.bytes because its type is not LIST.",
        ),
        (vec![right(), right()], "Error due to duplicate config keys"),
        (
            vec![right(), change("segment.ms", SettingVerb::Set, None)],
            "Null value not supported for : segment.ms",
        ),
    ] {
        let outcome = changed(&mut image, &NO_LAYER, |p| p.alter_settings(&topic, &changes));
        assert_eq!(fault(outcome), expected);
    }
    let nowhere = Resource::Topic("b".to_owned());
    let outcome = changed(&mut image, &NO_LAYER, |p| p.alter_settings(&nowhere, &[right()]));
    assert_eq!(fault(outcome), "The topic 'b' does not exist.");
    let delete = [change("never.set", SettingVerb::Delete, None)];
    let outcome = changed(&mut image, &NO_LAYER, |p| p.alter_settings(&topic, &delete));
    assert_eq!(outcome, Ok(()), "deleting what is not set changes nothing");
}

#[test]
fn replaced_settings_drop_those_that_are_not_named() {
    let mut image = image(&[1]);
    let overrides = vec![("retention.ms".to_owned(), Some("5".to_owned()))];
    create(&mut image, &NewTopic { overrides, ..named("a") }).unwrap();
    let topic = Resource::Topic("a".to_owned());
    let wanted = [("segment.ms".to_owned(), Some("7".to_owned()))];
    changed(&mut image, &NO_LAYER, |plan| plan.replace_settings(&topic, &wanted)).unwrap();
    let overrides = &image.topic("a").unwrap().overrides;
    assert_eq!(overrides.len(), 1);
    assert_eq!(overrides["segment.ms"], "7");
}

#[test]
fn a_brokers_settings_change_only_where_they_may_at_run_time() {
    let mut image = image(&[1]);
    let node = Resource::Broker(NodeId(1));
    let mut alter = |name: &str, value: &str| {
        let changes = [change(name, SettingVerb::Set, Some(value))];
        changed(&mut image, &NO_LAYER, |plan| plan.alter_settings(&node, &changes))
    };
    assert_eq!(
        fault(alter("num.partitions", "3")),
        "Cannot update these configs dynamically: [num.partitions]"
    );
    assert_eq!(
        fault(alter("max.connections", "-1")),
        "Invalid value -1 for configuration max.connections: Value must be at least 0"
    );
    assert_eq!(alter("max.connections", "10"), Ok(()));
    assert_eq!(image.broker_overrides(NodeId(1)).unwrap()["max.connections"], "10");
}

/// The words, and what is kept, are those of Kafka 4.4 to the same changes.
#[test]
fn a_brokers_settings_without_a_row_are_kept_as_kafka_keeps_them() {
    let mut image = image(&[1]);
    let mut alter = |node: bool, name: &str, value: &str, verb| {
        let resource = if node { Resource::Broker(NodeId(1)) } else { Resource::AllBrokers };
        let changes = [change(name, verb, Some(value))];
        let outcome =
            changed(&mut image, &NO_LAYER, |plan| plan.alter_settings(&resource, &changes));
        outcome.map_err(|error| error.to_string()).err().unwrap_or_default()
    };
    let one_broker = "Cannot update these configs at default cluster level, broker id must be \
                      specified: ";
    for (name, value, on_node, on_all) in [
        ("no.such.name", "x", String::new(), String::new()),
        ("log.cleaner.threads", "2", String::new(), String::new()),
        (
            "sasl.kerberos.min.time.before.relogin",
            "58000",
            String::new(),
            format!("{one_broker}[sasl.kerberos.min.time.before.relogin]"),
        ),
        (
            "listener.name.plaintext.no.such",
            "1",
            String::new(),
            format!("{one_broker}[listener.name.plaintext.no.such]"),
        ),
    ] {
        assert_eq!(alter(true, name, value, SettingVerb::Set), on_node);
        assert_eq!(alter(false, name, value, SettingVerb::Set), on_all);
    }
    for node in [true, false] {
        for (name, value, expected) in [
            (
                "log.cleaner.threads",
                "x",
                "Invalid value x for configuration log.cleaner.threads: Not a number of type INT",
            ),
            (
                "ssl.keystore.location",
                "/x",
                "These security configs can be dynamically updated only per-listener using the \
                 listener prefix: [ssl.keystore.location]",
            ),
            (
                "early.start.listeners",
                "x",
                "Cannot update these configs dynamically: [early.start.listeners]",
            ),
            (
                "principal.builder.class",
                "x",
                "Invalid value x for configuration principal.builder.class: Class x could not be \
                 found.",
            ),
        ] {
            assert_eq!(alter(node, name, value, SettingVerb::Set), expected);
        }
    }
    let append = SettingVerb::Append;
    assert_eq!(alter(true, "no.such.name", "y", append), "Unknown config name: no.such.name");
    assert_eq!(alter(true, "sasl.enabled.mechanisms", "PLAIN", append), "");
    let kept = image.broker_overrides(NodeId(1)).unwrap();
    assert_eq!(kept["sasl.enabled.mechanisms"], "GSSAPI,PLAIN");
    assert_eq!((kept["no.such.name"].as_str(), kept.len()), ("x", 5));
    assert_eq!(image.default_broker_overrides().len(), 2);
}

/// Goal: names that no table bounds cannot fill the image. Method: long ones; one too many.
#[test]
fn settings_without_a_row_are_bounded() {
    let mut image = image(&[1]);
    let mut set = |name: &str| {
        let changes = [change(name, SettingVerb::Set, Some("x"))];
        let all = Resource::AllBrokers;
        changed(&mut image, &NO_LAYER, |plan| plan.alter_settings(&all, &changes))
    };
    let long = "n".repeat(SETTING_NAME_BYTES_MAX + 1);
    assert!(matches!(set(&long), Err(ChangeError::PolicyViolation(_))));
    assert_eq!(set(&long[1..]), Ok(()));
    for number in 1..BROKER_FOREIGN_SETTINGS_COUNT_MAX {
        assert_eq!(set(&format!("name.{number}")), Ok(()));
    }
    assert!(matches!(set("name.0"), Err(ChangeError::PolicyViolation(_))));
    assert_eq!(
        set("max.connections"),
        Err(ChangeError::InvalidRequest(
            "Invalid value x for configuration max.connections: Not a number of type INT"
                .to_owned()
        ))
    );
    assert_eq!(image.default_broker_overrides().len(), BROKER_FOREIGN_SETTINGS_COUNT_MAX);
}

/// Goal: a group stays where its offsets are. Method: more partitions for the topic of groups, and
/// for one that is only called alike.
#[test]
fn the_topic_of_groups_keeps_its_number_of_partitions() {
    let mut image = image(&[1]);
    create(&mut image, &NewTopic { internal: true, ..named(OFFSETS_TOPIC) }).unwrap();
    create(&mut image, &named("offsets")).unwrap();
    let mut grow = |topic: &str| {
        let more =
            MorePartitions { topic: topic.to_owned(), partitions_count: 60, assignments: None };
        changed(&mut image, &NO_LAYER, |plan| plan.create_partitions(&more))
    };
    assert!(matches!(grow(OFFSETS_TOPIC), Err(ChangeError::InvalidPartitions(_))));
    assert_eq!(grow("offsets"), Ok(()));
    assert_eq!(image.topic(OFFSETS_TOPIC).unwrap().partitions.len(), 1);
}

/// Goal: groups and client metrics are known by their settings. Method: set, refuse, delete the
/// last.
#[test]
fn a_group_is_known_as_long_as_it_has_settings() {
    let mut image = image(&[1]);
    let group = |name: &str| Resource::Named(NamedResource::Group, name.to_owned());
    let set = |value| [change("consumer.session.timeout.ms", SettingVerb::Set, Some(value))];
    let mut alter = |resource: &Resource, changes: &[SettingChange]| {
        changed(&mut image, &NO_LAYER, |plan| plan.alter_settings(resource, changes))
    };
    assert_eq!(alter(&group("readers"), &set("50000")), Ok(()));
    assert!(matches!(alter(&group("readers"), &set("1")), Err(ChangeError::InvalidConfig(_))));
    assert_eq!(
        alter(&group(""), &set("50000")),
        Err(ChangeError::InvalidRequest("Default group resources are not allowed.".to_owned()))
    );
    let metrics = Resource::Named(NamedResource::ClientMetrics, "m".to_owned());
    let append = [change("metrics", SettingVerb::Append, Some("a"))];
    assert_eq!(
        fault(alter(&metrics, &append)),
        "Can't APPEND to key metrics because its type is not LIST."
    );
    let wrong = [change("interval.ms", SettingVerb::Set, Some("5"))];
    assert!(matches!(alter(&metrics, &wrong), Err(ChangeError::InvalidRequest(_))));
    assert_eq!(image.configured(NamedResource::Group).collect::<Vec<_>>(), ["readers"]);
    let delete = [change("consumer.session.timeout.ms", SettingVerb::Delete, None)];
    changed(&mut image, &NO_LAYER, |plan| plan.alter_settings(&group("readers"), &delete)).unwrap();
    assert_eq!(image.configured_count(), 0);
}

/// Goal: what a plan accepts, a committed log can apply. Method: seeded random changes, all records
/// applied to a second image, both compared.
#[test]
fn records_of_random_changes_apply_to_the_image_they_were_planned_on() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut committed = image(&[1, 2, 3]);
    for _ in 0..500 {
        let mut plan = Plan::new(committed.clone(), NodeId(1), &NO_LAYER);
        for _ in 0..random.usize(1..5) {
            let name = format!("t{}{}", random.u8(0..9), if random.bool() { "." } else { "_" });
            let count = random.i32(-1..5);
            let _ = match random.u8(0..4) {
                0 => {
                    let new = NewTopic { partitions_count: count, ..named(&name) };
                    plan.create_topic(&new, TopicId::random()).map(drop)
                }
                1 => plan.delete_topic(&TopicRef::Name(name)).map(drop),
                2 => {
                    let (partitions_count, assignments) = (count, None);
                    let more = MorePartitions { topic: name, partitions_count, assignments };
                    plan.create_partitions(&more)
                }
                _ => {
                    let value = count.to_string();
                    let set = change("retention.ms", SettingVerb::Set, Some(&value));
                    plan.alter_settings(&Resource::Topic(name), &[set])
                }
            };
        }
        let (planned, records) = plan.finish();
        for record in &records {
            committed.apply(record).unwrap();
        }
        assert_eq!(committed.to_records(), planned.to_records());
    }
}
