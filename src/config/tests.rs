//! Settings as people give them: right, wrong, and in what order they win.

use super::*;

fn machine() -> Machine {
    let hostname = "box".to_owned();
    Machine { cpus: vec![0, 1, 2, 3], memory_bytes: 8 * 1024 * MIB, hostname }
}

fn settings(args: ServeArgs, file: Option<&str>) -> Result<Settings, ConfigError> {
    Settings::from_parts(&args, file, &machine())
}

fn with_set(pairs: &[&str]) -> Result<Settings, ConfigError> {
    let set = pairs.iter().map(|pair| (*pair).to_owned()).collect();
    settings(ServeArgs { set, ..ServeArgs::default() }, None)
}

fn fault(result: Result<Settings, ConfigError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn without_flags_a_node_serves_this_machine_only() {
    let settings = settings(ServeArgs::default(), None).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:9092");
    assert_eq!(settings.advertise.to_string(), "127.0.0.1:9092");
    assert_eq!(settings.data_dir, PathBuf::from("./ringmain-data"));
    assert_eq!(settings.node_id, NodeId(1));
    assert_eq!(settings.cpus, [0, 1, 2, 3]);
    assert_eq!(settings.memory_bytes, 1024 * MIB);
    assert!(settings.fixed.is_empty());
}

#[test]
fn flags_beat_set_and_set_beats_the_file() {
    let file = "num.partitions=3\nlisteners=PLAINTEXT://:1\nlog.dirs=/file\nnode.id=7\n";
    let args = ServeArgs {
        data_dir: Some(PathBuf::from("/flag")),
        listen: Some("localhost:3".to_owned()),
        set: vec!["listeners=PLAINTEXT://h:2".to_owned(), "num.partitions=4".to_owned()],
        ..ServeArgs::default()
    };
    let of_file = settings(ServeArgs::default(), Some(file)).unwrap();
    assert_eq!(of_file.listen.to_string(), "0.0.0.0:1");
    assert_eq!(of_file.advertise.to_string(), "box:1");
    assert_eq!(of_file.data_dir, PathBuf::from("/file"));
    assert_eq!(of_file.node_id, NodeId(7));
    let all = settings(args.clone(), Some(file)).unwrap();
    assert_eq!(all.listen.to_string(), "localhost:3");
    assert_eq!(all.data_dir, PathBuf::from("/flag"));
    assert_eq!(all.fixed["num.partitions"], "4");
    let without_flag = settings(ServeArgs { listen: None, ..args }, Some(file)).unwrap();
    assert_eq!(without_flag.listen.to_string(), "h:2");
}

#[test]
fn kafkas_own_file_for_one_node_loads() {
    let file = "process.roles=broker,controller\nnode.id=1\n\
        controller.quorum.bootstrap.servers=localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
        num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
        socket.request.max.bytes=104857600\nlog.dirs=/tmp/logs\nnum.partitions=1\n\
        num.recovery.threads.per.data.dir=1\noffsets.topic.replication.factor=1\n\
        transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
        log.retention.hours=168\nlog.segment.bytes=1073741824\n\
        log.retention.check.interval.ms=300000\n";
    let settings = settings(ServeArgs::default(), Some(file)).unwrap();
    assert_eq!(settings.advertise.to_string(), "localhost:9092");
    assert!(settings.without_effect.contains(&"num.io.threads".to_owned()));
    assert!(!settings.without_effect.contains(&"num.partitions".to_owned()));
}

#[test]
fn a_wrong_name_is_refused_with_the_nearest_right_one() {
    assert_eq!(
        fault(with_set(&["num.partition=3"])),
        "--set: there is no setting \"num.partition\"; did you mean \"num.partitions\"?"
    );
    assert_eq!(
        fault(settings(ServeArgs::default(), Some("\nretention.ms=5"))),
        "settings, line 2: there is no setting \"retention.ms\"; that is a topic's, the node's is \
         \"log.retention.ms\""
    );
    assert_eq!(fault(with_set(&["zzzz=3"])), "--set: there is no setting \"zzzz\"");
    assert_eq!(
        fault(with_set(&["num.partitions"])),
        "--set \"num.partitions\" is not of the form name=value"
    );
}

#[test]
fn a_wrong_value_is_refused_in_kafkas_words() {
    assert_eq!(
        fault(with_set(&["num.partitions=0"])),
        "--set: Invalid value 0 for configuration num.partitions: Value must be at least 1"
    );
    assert_eq!(
        fault(with_set(&["auto.create.topics.enable=yes"])),
        "--set: Invalid value yes for configuration auto.create.topics.enable: Expected value to \
         be either true or false"
    );
    assert!(fault(with_set(&["log.dirs=/a,/b"])).contains("exactly one data directory"));
    assert!(fault(with_set(&["listeners=SSL://:9093"])).contains("SSL is not served"));
    assert!(fault(with_set(&["listeners=PLAINTEXT://:1,PLAINTEXT://:2"])).contains("there are 2"));
    assert!(fault(with_set(&["listeners=localhost:9092"])).contains("NAME://host:port"));
    let everywhere = with_set(&["advertised.listeners=PLAINTEXT://0.0.0.0:9092"]);
    assert!(fault(everywhere).contains("clients cannot connect"));
}

#[test]
fn addresses_are_names_numbers_and_bracketed_v6() {
    let listen = |text: &str| {
        settings(ServeArgs { listen: Some(text.to_owned()), ..ServeArgs::default() }, None)
    };
    assert_eq!(listen("[::1]:9092").unwrap().listen.host, "::1");
    assert_eq!(listen("[::1]:9092").unwrap().listen.to_string(), "[::1]:9092");
    assert_eq!(listen("node-1.example:0").unwrap().advertised(5).to_string(), "node-1.example:5");
    for wrong in ["localhost", "localhost:", "localhost:70000", "::1:9092", "[::1:9", "a b:1"] {
        assert!(listen(wrong).is_err(), "{wrong}");
    }
    let advertise = Some("public.example".to_owned());
    let settings = settings(ServeArgs { advertise, ..ServeArgs::default() }, None).unwrap();
    assert_eq!(settings.advertise.to_string(), "public.example:9092");
    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 1 };
    assert_eq!(endpoint.resolve().unwrap(), [SocketAddr::from(([127, 0, 0, 1], 1))]);
}

#[test]
fn cpus_are_a_count_or_a_list_of_those_allowed() {
    let cpus = |text: &str| {
        settings(ServeArgs { cpus: Some(text.to_owned()), ..ServeArgs::default() }, None)
    };
    assert_eq!(cpus("2").unwrap().cpus, [0, 1]);
    assert_eq!(cpus("1-2").unwrap().cpus, [1, 2]);
    assert_eq!(cpus("0,3").unwrap().cpus, [0, 3]);
    assert_eq!(fault(cpus("5")), "--cpus \"5\": this process may run on 4 cpus only");
    assert_eq!(fault(cpus("3-4")), "--cpus \"3-4\": this process may not run on cpu 4");
    assert!(cpus("0").is_err() && cpus("x").is_err());
}

#[test]
fn all_cpus_are_used_but_one_of_two() {
    let machine = |cpus: &[usize]| Machine { cpus: cpus.to_vec(), ..machine() };
    assert_eq!(default_cpus(&machine(&[3])), [3]);
    assert_eq!(default_cpus(&machine(&[0, 1])), [1]);
    assert_eq!(default_cpus(&machine(&[0, 1, 2])), [0, 1, 2]);
}

#[test]
fn memory_has_suffixes_a_floor_and_a_ceiling() {
    let memory = |text: &str| {
        settings(ServeArgs { memory: Some(text.to_owned()), ..ServeArgs::default() }, None)
    };
    assert_eq!(memory("512M").unwrap().memory_bytes, 512 * MIB);
    assert_eq!(memory("1 GiB").unwrap().memory_bytes, 1024 * MIB);
    assert_eq!(memory("1gb").unwrap().memory_bytes, 1024 * MIB);
    assert_eq!(memory("268435456").unwrap().memory_bytes, 256 * MIB);
    assert!(fault(memory("1M")).contains("each of the 4 cpus needs at least 64M"));
    assert!(fault(memory("100G")).contains("there are 8192M only"));
    assert!(memory("lots").is_err() && memory("99999999999999999999").is_err());
}
