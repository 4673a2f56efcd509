//! A setting that claims to act has a reader: walks the tables of settings and the program's text.
//!
//! A setting is read as a field of `TopicSettings` or `BrokerSettings`, which is called as the
//! setting is, or by its name. What only the tables and the typed structs themselves name is read
//! by nobody: a file that sets it would change nothing.

use ringmain::cluster::settings::{
    BROKER_SETTINGS, Effect, TOPIC_SETTINGS, Update, broker_setting, topic_setting,
};
use std::fs;
use std::path::Path;

/// Where settings are read that are not read as they are called: fields, or texts in quotes.
const RENAMED: &[(&str, &[&str])] = &[
    ("cleanup.policy", &["cleanup_compact", "cleanup_delete"]),
    ("compression.gzip.level", &["compression"]),
    ("compression.lz4.level", &["compression"]),
    ("compression.type", &["compression"]),
    ("compression.zstd.level", &["compression"]),
    ("group.consumer.max.heartbeat.interval.ms", &["\"group.consumer.max.{part}\""]),
    ("group.consumer.max.session.timeout.ms", &["\"group.consumer.max.{part}\""]),
    ("group.consumer.min.heartbeat.interval.ms", &["\"group.consumer.min.{part}\""]),
    ("group.consumer.min.session.timeout.ms", &["\"group.consumer.min.{part}\""]),
];

/// Files that name settings without reading them: the tables, and what makes typed structs of them.
const TABLES: [&str; 4] = ["broker.rs", "foreign.rs", "topic.rs", "values.rs"];

/// The text of the program without its tests and [`TABLES`].
fn program() -> String {
    fn gather(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).expect("folder is readable") {
            let path = entry.expect("entry is readable").path();
            let name = path.display().to_string();
            if path.is_dir() {
                gather(&path, text);
            } else if name.ends_with(".rs")
                && !name.ends_with("tests.rs")
                && !TABLES.iter().any(|table| name.ends_with(&format!("settings/{table}")))
            {
                let whole = fs::read_to_string(&path).expect("source is UTF-8");
                text.push_str(whole.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&whole));
            }
        }
    }
    let mut text = String::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    assert!(text.len() > 1_000_000, "the walk found the program");
    text
}

fn is_read(program: &str, name: &str) -> bool {
    let field = name.replace('.', "_");
    let renamed = RENAMED.iter().find(|(setting, _)| *setting == name);
    let fields: Vec<&str> = renamed.map_or(vec![&field], |(_, fields)| fields.to_vec());
    let by_name = program.contains(&format!("\"{name}\""));
    let is_there = |text: &&str| match text.starts_with('"') {
        true => program.contains(*text),
        false => is_field_read(program, text),
    };
    by_name || fields.iter().any(is_there)
}

/// Whether `.field` stands somewhere, as a whole word.
fn is_field_read(program: &str, field: &str) -> bool {
    let dotted = format!(".{field}");
    program.match_indices(&dotted).any(|(at, _)| {
        let next = program[at + dotted.len()..].chars().next().unwrap_or(' ');
        !(next.is_alphanumeric() || next == '_' || next == '(')
    })
}

/// Goal: the tables tell the truth. Method: as the module says.
#[test]
fn a_setting_that_acts_has_a_reader_and_one_that_does_not_says_so() {
    let program = program();
    let mut faults = Vec::new();
    for setting in TOPIC_SETTINGS {
        let name = setting.name;
        let read = is_read(&program, name);
        check(name, setting.effect, read, setting.doc, &mut faults);
        for synonym in setting.synonyms {
            let broker = broker_setting(synonym.name).expect("synonyms have rows");
            if broker.effect != setting.effect {
                faults.push(format!("{name} and its broker's {} differ", synonym.name));
            }
        }
    }
    let fills_in = |name: &str| {
        let mut synonyms = TOPIC_SETTINGS.iter().flat_map(|setting| setting.synonyms);
        synonyms.any(|synonym| synonym.name == name)
    };
    for setting in BROKER_SETTINGS {
        // What fills in for a topic's is read with that.
        let read = fills_in(setting.name) || is_read(&program, setting.name);
        check(setting.name, setting.effect, read, setting.doc, &mut faults);
        let idle = setting.effect == Effect::Without && setting.update == Update::Running;
        assert!(!(idle && setting.doc.is_empty()), "{}", setting.name);
    }
    assert!(faults.is_empty(), "{} faults\n{}\n", faults.len(), faults.join("\n"));
}

fn check(name: &str, effect: Effect, read: bool, doc: &str, faults: &mut Vec<String>) {
    let (acts, says) = match effect {
        Effect::Acts => (true, !doc.starts_with("No effect")),
        Effect::Later => (false, doc.starts_with("No effect yet: ")),
        Effect::Without => (false, doc.starts_with("No effect: ")),
    };
    if acts && !read {
        faults.push(format!("{name} is said to act, but nothing reads it"));
    }
    if !says {
        faults.push(format!("{name} is {effect:?}, and its text says otherwise: {doc}"));
    }
}

/// Goal: the walk can fail. Method: a setting that nothing reads, one that only a longer name
/// contains, one that a function is called like.
#[test]
fn a_setting_without_a_reader_is_seen() {
    let program = "let a = settings.retention_ms_more; let b = log.segment_bytes(); x.flush_ms;";
    assert!(!is_read(program, "retention.ms"));
    assert!(!is_read(program, "segment.bytes"));
    assert!(is_read(program, "flush.ms"));
    assert!(is_read("broker_text(layers, \"log.dirs\")", "log.dirs"));
    assert!(topic_setting("retention.ms").is_some());
}
