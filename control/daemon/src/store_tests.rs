//! Definitions, marks and locks on a real disk, and on one that fails.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::disk_fake::{FakeDisk, Fault};

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("pontoon-store-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}

fn network(name: &str) -> Network {
    let text = format!(
        "<network><name>{name}</name><uuid>{}</uuid><bridge name='virbr7'/></network>",
        uuid::Uuid::new_v4()
    );
    pontoon_netxml::parse(&text).expect("network")
}

#[test]
fn a_definition_comes_back_as_it_was_saved() {
    let root = scratch("roundtrip");
    let store = Store::open(&root).expect("open");
    let one = network("one");
    store.save(&one).expect("save");
    store.set_autostart("one", true).expect("mark");
    let again = Store::open(&root).expect("open again");
    let loaded = again.load().expect("load");
    assert_eq!(loaded.len(), 1);
    assert_eq!((&loaded[0].name, loaded[0].uuid), (&one.name, one.uuid));
    assert!(again.autostart("one"));
    again.remove("one").expect("remove");
    assert!(!again.autostart("one") && again.load().expect("load").is_empty());
    assert_eq!(fs::metadata(&root).expect("dir").permissions().mode() & 0o777, 0o700);
    fs::remove_dir_all(&root).expect("clean");
}

#[test]
fn a_damaged_definition_without_a_copy_is_set_aside_and_said() {
    let root = scratch("damaged");
    let store = Store::open(&root).expect("open");
    store.save(&network("good")).expect("save");
    for (name, bytes) in [("cut", &b"<network><name>cu"[..]), ("binary", &[0xff, 0, 1]), ("empty", b"")] {
        fs::write(root.join(format!("networks/{name}.xml")), bytes).expect("write");
    }
    std::os::unix::fs::symlink("nowhere", root.join("networks/dangling.xml")).expect("link");
    fs::create_dir(root.join("networks/dir.xml")).expect("directory");
    for mark in ["cut.xml", "gone.xml", "good.xml"] {
        std::os::unix::fs::symlink(format!("../networks/{mark}"), root.join("autostart").join(mark))
            .expect("link");
    }
    let names = |store: &Store| -> Vec<String> {
        store.load().expect("load").into_iter().map(|network| network.name).collect()
    };
    assert_eq!(names(&store), ["good"]);
    assert_eq!(fs::read(root.join("networks/cut.xml.bad-1")).expect("kept"), b"<network><name>cu");
    assert!(!root.join("networks/cut.xml").exists(), "and complained about once");
    assert!(store.autostart("good") && store.autostart("cut"), "it may come back");
    assert!(!store.autostart("gone"));
    assert_eq!(names(&store), ["good"]);
    fs::remove_dir_all(&root).expect("clean");
}

#[test]
fn no_more_than_nine_files_are_set_aside() {
    let disk = FakeDisk::default();
    let disk: &dyn Disk = &disk;
    for number in 0..20u8 {
        disk.set_aside(Path::new("/d/x"), &[number]).expect("aside");
    }
    let names = disk.list(Path::new("/d")).expect("list");
    assert_eq!(names.len(), 9);
    assert_eq!(disk.read(Path::new("/d/x.bad-9")).expect("the last"), [19]);
    assert_eq!(disk.read(Path::new("/d/x.bad-1")).expect("the first"), [0]);
}

#[test]
fn a_full_disk_is_said() {
    let failure = cannot_write(Path::new("/x"), &io::Error::from_raw_os_error(libc::ENOSPC));
    assert!(failure.detail.is_some_and(|detail| detail.contains("disk is full")));
}

#[test]
fn a_second_lock_names_the_first_process() {
    let root = scratch("lock");
    make_dir(&root, 0o700).expect("dir");
    let first = lock(&root).expect("first");
    let error = lock(&root).expect_err("second").to_string();
    assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    drop(first);
    lock(&root).expect("third");
    fs::remove_dir_all(&root).expect("clean");
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in ["", "..", ".x", "a/b", "/etc"] {
        assert!(!usable_name(name), "{name}");
    }
    assert!(usable_name("default") && usable_name("my net-1"));
}

fn titled(name: &str, title: &str) -> Network {
    let uuid = uuid::Uuid::from_u128(name.bytes().fold(1, |sum, byte| sum * 256 + u128::from(byte)));
    let text = format!("<network><name>{name}</name><uuid>{uuid}</uuid><title>{title}</title></network>");
    pontoon_netxml::parse(&text).expect("network")
}

/// What a start would find: titles by name, and the marks.
type Found = (BTreeMap<String, String>, BTreeSet<String>);

fn found(disk: &Arc<FakeDisk>) -> Found {
    let store = Store::on(Arc::<FakeDisk>::clone(disk), Path::new("/s"));
    let networks = store.load().expect("a start is never prevented");
    let titles: BTreeMap<_, _> =
        networks.into_iter().map(|network| (network.name, network.title.unwrap_or_default())).collect();
    let marks = titles.keys().filter(|name| store.autostart(name)).cloned().collect();
    (titles, marks)
}

/// `a` is marked, `b` is not, both are old.
fn prepared() -> (Arc<FakeDisk>, Store) {
    let disk = Arc::new(FakeDisk::default());
    let store = Store::on(Arc::<FakeDisk>::clone(&disk), Path::new("/s"));
    for name in ["a", "b"] {
        store.save(&titled(name, "old")).expect("save");
    }
    store.set_autostart("a", true).expect("mark");
    disk.settle();
    (disk, store)
}

fn expected(titles: &[(&str, &str)], marks: &[&str]) -> Found {
    let titles = titles.iter().map(|(name, title)| ((*name).to_owned(), (*title).to_owned())).collect();
    (titles, marks.iter().map(|name| (*name).to_owned()).collect())
}

/// Tries an operation with a fault at each of its steps: it happens whole or not at all, and if it said that it
/// happened, it did.
fn whole_or_not_at_all(what: &str, operation: impl Fn(&Store) -> Answer<()>, after: &Found) {
    let before = expected(&[("a", "old"), ("b", "old")], &["a"]);
    for fault in [Fault::Crash, Fault::Full, Fault::Broken] {
        for at in 1.. {
            let (disk, store) = prepared();
            disk.fail(Some((at, fault)));
            let result = operation(&store);
            let steps = disk.steps();
            disk.fail(None);
            let place = format!("{what}: {fault:?} at step {at}: {result:?}");
            let mut disks: Vec<_> = disk.after_crash().into_iter().map(Arc::new).collect();
            if fault != Fault::Crash {
                disks.push(disk);
            }
            for disk in disks {
                let now = found(&disk);
                assert_eq!(found(&disk), now, "{place}: the second start finds the same");
                match (&result, fault) {
                    (Ok(()), _) => assert_eq!(&now, after, "{place}"),
                    _ => assert!(now == before || now == *after, "{place}: {now:?}"),
                }
            }
            if let (Err(_), Fault::Full) = (&result, fault) {
                let (disk, store) = prepared();
                disk.fail(Some((at, fault)));
                let _ = operation(&store);
                disk.fail(None);
                assert_eq!(found(&disk), before, "{place}: what failed has changed nothing");
            }
            if steps < at {
                assert!(result.is_ok() && at > 2, "{place}");
                break;
            }
        }
    }
}

#[test]
fn definitions_and_marks_change_whole_or_not_at_all() {
    let new = expected(&[("a", "new"), ("b", "old")], &["a"]);
    whole_or_not_at_all("redefine", |store| store.save(&titled("a", "new")), &new);
    let three = expected(&[("a", "old"), ("b", "old"), ("c", "new")], &["a"]);
    whole_or_not_at_all("define", |store| store.save(&titled("c", "new")), &three);
    whole_or_not_at_all("undefine", |store| store.remove("a"), &expected(&[("b", "old")], &[]));
    let both = expected(&[("a", "old"), ("b", "old")], &["a", "b"]);
    whole_or_not_at_all("mark", |store| store.set_autostart("b", true), &both);
    let none = expected(&[("a", "old"), ("b", "old")], &[]);
    whole_or_not_at_all("unmark", |store| store.set_autostart("a", false), &none);
}

#[test]
fn a_definition_waits_for_the_disk_twice() {
    let disk = Arc::new(FakeDisk::default());
    Store::on(Arc::<FakeDisk>::clone(&disk), Path::new("/s")).save(&titled("a", "new")).expect("save");
    assert_eq!(disk.syncs(), 2, "for its content and for its name");
}

#[test]
fn a_definition_that_was_removed_does_not_come_back_with_its_mark() {
    let (disk, store) = prepared();
    // The machine stops between the definition and the rest of it.
    disk.fail(Some((3, Fault::Broken)));
    store.remove("a").expect("removed");
    disk.fail(None);
    assert_eq!(found(&disk), expected(&[("b", "old")], &[]));
    store.save(&titled("a", "again")).expect("save");
    assert_eq!(found(&disk), expected(&[("a", "again"), ("b", "old")], &[]));
}

#[test]
fn mending_may_be_cut_short_too() {
    let path = Path::new("/s/networks/a.xml");
    let old = expected(&[("a", "old"), ("b", "old")], &["a"]);
    for spoilt in [path.to_owned(), with_suffix(path, COPY)] {
        for hurt in [&b""[..], b"<network>", &[0xff; 100]] {
            for at in 1..20 {
                let (disk, store) = prepared();
                disk.spoil(&spoilt, hurt.to_vec());
                disk.fail(Some((at, Fault::Crash)));
                let _ = store.load();
                disk.fail(None);
                for disk in disk.after_crash().into_iter().map(Arc::new) {
                    assert_eq!(found(&disk), old, "{} at step {at}", spoilt.display());
                }
            }
        }
    }
}
