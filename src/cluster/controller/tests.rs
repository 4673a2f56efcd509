//! The controller on a simulated disk: what it agrees on stays, what it refuses leaves no trace.

use super::super::changes::{Assignment, SettingVerb};
use super::*;
use crate::io::sim::{self, Crash, SimDisk};

fn broker(id: i32) -> Broker {
    Broker { id: NodeId(id), host: "localhost".to_owned(), port: 9092, rack: None }
}

async fn open(io: &Io, seen: &Rc<RefCell<Vec<Arc<Image>>>>) -> Result<Controller, QuorumError> {
    let (data_dir, node_id) = (PathBuf::from("/data"), NodeId(1));
    let config = ControllerConfig { data_dir, node_id, fixed: Arc::default() };
    let seen = seen.clone();
    let controller =
        Controller::open(io, config, move |image| seen.borrow_mut().push(image)).await?;
    controller.register_broker("cluster", &broker(1)).await.expect("the disk is whole");
    Ok(controller)
}

fn run<F: Future<Output = ()>>(
    test: impl FnOnce(Io, SimDisk, Controller, Rc<RefCell<Vec<Arc<Image>>>>) -> F,
) {
    sim::run(1, |io, disk| async move {
        let seen = Rc::default();
        let controller = open(&io, &seen).await.unwrap();
        test(io, disk, controller, seen).await;
    });
}

fn topic(name: &str, partitions_count: i32) -> NewTopic {
    NewTopic { partitions_count, ..NewTopic::with_defaults(name) }
}

#[test]
fn a_created_topic_is_published_and_survives_a_power_failure() {
    run(|io, disk, controller, seen| async move {
        let created = controller.create_topics(&[topic("words", 3)], false).await;
        let created = created[0].clone().unwrap();
        assert_eq!(seen.borrow().last().unwrap().topic("words"), Some(&created));
        assert!(created.partitions.iter().all(|partition| partition.leader == NodeId(1)));
        disk.crash(Crash::LoseUnsynced);
        let again = open(&io, &Rc::default()).await.unwrap();
        assert_eq!(again.image().topic("words"), Some(&created));
        assert_eq!(again.image().cluster_id(), "cluster");
        let refused = again.create_topics(&[topic("words", 1)], false).await;
        assert_eq!(refused[0].clone().unwrap_err().to_string(), "Topic 'words' already exists.");
    });
}

/// Goal: calls at the same time see each other. Method: start many before any is durable.
#[test]
fn creations_at_the_same_time_agree_on_one_winner() {
    run(|io, disk, controller, _| async move {
        let outcomes = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..10 {
            let (controller, outcomes) = (controller.clone(), outcomes.clone());
            io.spawn(async move {
                let created = controller.create_topics(&[topic("words", 1)], false).await;
                outcomes.borrow_mut().push(created[0].clone());
            });
        }
        while outcomes.borrow().len() < 10 {
            io.sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(outcomes.borrow().iter().filter(|outcome| outcome.is_ok()).count(), 1);
        disk.crash(Crash::LoseUnsynced);
        let again = open(&io, &Rc::default()).await.unwrap();
        assert_eq!(again.image().topics_count(), 1);
    });
}

#[test]
fn a_caller_that_gives_up_does_not_undo_its_change() {
    run(|io, _, controller, _| async move {
        for round in 0..20 {
            let (one, name) = (controller.clone(), format!("topic-{round}"));
            let asked = [topic(&name, 1)];
            let given_up = io.timeout(std::time::Duration::ZERO, one.create_topics(&asked, false));
            let _ = given_up.await;
            let again = controller.create_topics(&[topic(&name, 1)], false).await;
            assert!(matches!(again[0], Ok(_) | Err(ChangeError::TopicExists { .. })));
            assert!(controller.image().topic(&name).is_some());
        }
    });
}

#[test]
fn validate_only_says_what_would_be_and_changes_nothing() {
    run(|_, _, controller, seen| async move {
        let images_count = seen.borrow().len();
        let checked = controller.create_topics(&[topic("words", 4)], true).await;
        assert_eq!(checked[0].as_ref().unwrap().partitions.len(), 4);
        assert_eq!(seen.borrow().len(), images_count);
        assert!(controller.image().topic("words").is_none());
    });
}

#[test]
fn a_name_that_comes_twice_is_refused_both_times() {
    run(|_, _, controller, _| async move {
        let asked = [topic("a", 1), topic("b", 1), topic("a", 2)];
        let outcomes = controller.create_topics(&asked, false).await;
        let text = |outcome: &Result<Arc<Topic>, ChangeError>| outcome.clone().unwrap_err();
        assert_eq!(text(&outcomes[0]).to_string(), "Duplicate topic name.");
        assert_eq!(text(&outcomes[2]).to_string(), "Duplicate topic name.");
        assert!(outcomes[1].is_ok());
    });
}

#[test]
fn topics_are_deleted_grown_and_configured() {
    run(|io, disk, controller, _| async move {
        let created = controller.create_topics(&[topic("a", 1), topic("b", 1)], false).await;
        let id = created[0].as_ref().unwrap().id;
        let deleted =
            controller.delete_topics(&[TopicRef::Id(id), TopicRef::Name("nope".to_owned())]).await;
        assert_eq!(&*deleted[0].as_ref().unwrap().name, "a");
        assert!(matches!(deleted[1], Err(ChangeError::UnknownTopic(_))));
        let more = MorePartitions { topic: "b".to_owned(), partitions_count: 5, assignments: None };
        assert_eq!(controller.create_partitions(&[more], false).await, [Ok(())]);
        let set = |name: &str, value: &str| SettingChange {
            name: name.to_owned(),
            verb: SettingVerb::Set,
            value: Some(value.to_owned()),
        };
        let topic_b = Resource::Topic("b".to_owned());
        let alterations = [
            (topic_b.clone(), vec![set("retention.ms", "1000")]),
            (topic_b, vec![set("retention.ms", "-2")]),
            (Resource::AllBrokers, vec![set("log.retention.bytes", "5")]),
        ];
        let outcomes = controller.alter_configs(&alterations, false).await;
        assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(()), &Ok(())));
        assert!(matches!(outcomes[1], Err(ChangeError::InvalidConfig(_))));
        disk.crash(Crash::LoseUnsynced);
        let image = open(&io, &Rc::default()).await.unwrap().image();
        assert!(image.topic("a").is_none());
        assert_eq!(image.topic("b").unwrap().partitions.len(), 5);
        assert_eq!(image.topic("b").unwrap().overrides["retention.ms"], "1000");
        assert_eq!(image.default_broker_overrides()["log.retention.bytes"], "5");
    });
}

/// Goal: a long history is replaced by a snapshot and opens as the same image. Method: create and
/// delete until the log has been compacted several times, compare before and after a crash.
#[test]
fn a_long_history_is_compacted_and_opens_as_the_same_image() {
    run(|io, disk, controller, _| async move {
        for round in 0..60 {
            let asked = [topic(&format!("topic-{round}"), 3_000)];
            assert!(controller.create_topics(&asked, false).await[0].is_ok());
            if round >= 5 {
                let oldest = TopicRef::Name(format!("topic-{}", round - 5));
                assert!(controller.delete_topics(&[oldest]).await[0].is_ok());
            }
        }
        let before = controller.image();
        let files = io.list_dir(std::path::Path::new("/data/metadata")).await.unwrap();
        assert!(files.iter().all(|file| file.name != format!("log-{:020}", 1)), "{files:?}");
        disk.crash(Crash::LoseUnsynced);
        let after = open(&io, &Rc::default()).await.unwrap().image();
        assert_eq!(after.to_records(), before.to_records());
        assert!(after.version() >= before.version());
    });
}

/// Goal: a full disk refuses changes at once, and what was on its way is there once there is room.
/// Method: a change larger than the log's file has room for, one behind it; make room.
#[test]
fn a_full_disk_refuses_changes_until_there_is_room() {
    run(|io, disk, controller, seen| async move {
        disk.out_of_space(true);
        for name in ["a", "b"] {
            let outcome = controller.create_topics(&[topic(name, 2_000)], false).await;
            assert!(matches!(outcome[0], Err(ChangeError::NoSpace)), "{outcome:?}");
            assert!(controller.has_proposals());
        }
        disk.out_of_space(false);
        controller.quiet().await;
        assert_eq!(controller.image().topics_count(), 1);
        assert!(seen.borrow().last().unwrap().topic("a").is_some());
        controller.create_topics(&[topic("b", 1)], false).await[0].as_ref().unwrap();
        disk.crash(Crash::LoseUnsynced);
        let again = open(&io, &Rc::default()).await.unwrap();
        assert_eq!(again.image().topics_count(), 2);
    });
}

/// Goal: neither a start nor a stop waits for room. Method: fill the disk before each.
#[test]
fn a_full_disk_ends_a_start_and_a_stop() {
    run(|io, disk, controller, _| async move {
        disk.out_of_space(true);
        let outcome = controller.create_topics(&[topic("a", 2_000)], false).await;
        assert!(matches!(outcome[0], Err(ChangeError::NoSpace)), "{outcome:?}");
        controller.close().await;
        assert_eq!(controller.image().topics_count(), 0);
        disk.crash(Crash::LoseUnsynced);
        let dir = PathBuf::from("/other");
        let config = ControllerConfig { data_dir: dir, node_id: NodeId(1), fixed: Arc::default() };
        let refused = Controller::open(&io, config, |_| ()).await.err();
        assert!(refused.is_some_and(|error| error.is_full()));
    });
}

#[test]
fn after_a_disk_error_every_change_is_refused_and_the_old_image_stays() {
    run(|_, disk, controller, _| async move {
        controller.create_topics(&[topic("a", 1)], false).await[0].as_ref().unwrap();
        disk.fail_next_sync();
        for name in ["b", "c"] {
            let outcome = controller.create_topics(&[topic(name, 1)], false).await;
            assert!(matches!(outcome[0], Err(ChangeError::Unavailable(_))), "{outcome:?}");
        }
        assert_eq!(controller.image().topics_count(), 1);
        controller.close().await;
    });
}

#[test]
fn a_closed_controller_has_kept_what_it_took_and_takes_no_more() {
    run(|io, _, controller, _| async move {
        controller.create_topics(&[topic("a", 1)], false).await[0].as_ref().unwrap();
        controller.close().await;
        let outcome = controller.create_topics(&[topic("b", 1)], false).await;
        assert!(matches!(outcome[0], Err(ChangeError::Unavailable(_))));
        let again = open(&io, &Rc::default()).await.unwrap();
        assert_eq!(again.image().topics_count(), 1);
    });
}

#[test]
fn another_nodes_directory_is_refused() {
    run(|io, _, controller, _| async move {
        controller.close().await;
        let (data_dir, node_id) = (PathBuf::from("/data"), NodeId(7));
        let config = ControllerConfig { data_dir, node_id, fixed: Arc::default() };
        let error = Controller::open(&io, config, |_| {}).await.err().unwrap().to_string();
        assert_eq!(error, "the data directory belongs to node 1, this is node 7; check node.id");
    });
}

#[test]
fn manual_assignments_are_taken_as_they_are() {
    run(|_, _, controller, _| async move {
        controller.register_broker("cluster", &broker(2)).await.unwrap();
        let assignment =
            |partition, ids: [i32; 2]| Assignment { partition, replicas: ids.map(NodeId).to_vec() };
        let assignments = vec![assignment(1, [2, 1]), assignment(0, [1, 2])];
        let asked = NewTopic { assignments, ..NewTopic::with_defaults("a") };
        let created = controller.create_topics(&[asked], false).await[0].clone().unwrap();
        let leaders: Vec<i32> = created.partitions.iter().map(|p| p.leader.0).collect();
        assert_eq!(leaders, [1, 2]);
        assert_eq!(created.partitions[1].isr, [NodeId(2), NodeId(1)]);
    });
}

/// Goal: the same on a real disk with direct I/O. Method: a directory beside the build's, which is
/// on one; create, stop without closing, open again.
#[test]
fn a_topic_of_a_thousand_partitions_survives_on_a_real_disk() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&root).unwrap();
    let dir = tempfile::tempdir_in(root).unwrap();
    let config = || ControllerConfig {
        data_dir: dir.path().to_owned(),
        node_id: NodeId(1),
        fixed: Arc::default(),
    };
    let id = crate::io::run_one(|io| async move {
        let controller = Controller::open(&io, config(), |_| {}).await.unwrap();
        controller.register_broker("cluster", &broker(1)).await.unwrap();
        let created = controller.create_topics(&[topic("words", 1_000)], false).await;
        for round in 0..20 {
            let asked = [topic(&format!("t{round}"), 1)];
            assert!(controller.create_topics(&asked, false).await[0].is_ok());
        }
        created[0].as_ref().unwrap().id
    });
    let again = crate::io::run_one(|io| async move {
        Controller::open(&io, config(), |_| {}).await.unwrap().image()
    });
    let again = again.unwrap();
    let topic = again.topic("words").unwrap();
    assert_eq!((topic.id, topic.partitions.len()), (id.unwrap(), 1_000));
    assert_eq!(again.topics_count(), 21);
}
