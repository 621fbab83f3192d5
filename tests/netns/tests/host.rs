//! A host that does not give what is needed: disk space, readable files, the tun device. Each is said, and how to
//! mend it, and what runs goes on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use pontoon_netns_tests::{Setup, World, bound_address, until, xml};
use rustix::process::Signal;

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";
const SMALL_DISK: &str = "mkdir -p \"$STATE\" && mount -t tmpfs -o size=128k tmpfs \"$STATE\"";

/// Writes until nothing fits any more.
fn fill(world: &World) {
    let mut file = File::create(world.seen_by_daemon("state/ballast")).expect("ballast");
    for size in [4096, 1] {
        write_until_full(&mut file, &vec![b'x'; size]);
    }
}

fn write_until_full(file: &mut File, block: &[u8]) {
    let full = std::iter::repeat_with(|| file.write_all(block)).find_map(Result::err).expect("an end");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}

fn make_room(world: &World) {
    fs::remove_file(world.seen_by_daemon("state/ballast")).expect("ballast");
}

/// A verb is refused with exactly these lines on standard error.
fn refused(world: &World, words: &[&str], expected: &str) {
    let output = world.pontoon(words);
    assert_eq!((output.code, output.err.as_str()), (Some(1), expected), "{words:?}");
}

#[test]
fn a_full_disk_is_said_and_loses_neither_definitions_nor_leases() {
    let setup = Setup { prepare: SMALL_DISK, tools: &["ping"], ..Setup::default() };
    let Some(mut world) = World::new(&setup) else { return };
    world.start_network("natntw", &xml::natntw());
    let one = world.guest("g1", "natntw", "eth0", MAC1);
    let before = world.works(&["net-dumpxml", "natntw", "--inactive"]);
    world.attach("g2", "natntw", "eth0", MAC2);
    fill(&world);

    let file = world.file("hostntw.xml", &xml::hostntw());
    let path = world.path("state/networks/hostntw.xml");
    let message = |path: &str| {
        format!(
            "cannot write '{path}': No space left on device (os error 28)\nthe disk is full; nothing was changed. \
             Make room and repeat the command.\n"
        )
    };
    let said = message(&path.to_string_lossy());
    refused(
        &world,
        &["net-define", &file],
        &format!("error: Failed to define network from {file}\nerror: {said}"),
    );
    let changed = world.file("changed.xml", &xml::natntw().replace("100.254", "100.200"));
    let path = world.path("state/networks/natntw.xml");
    let said = message(&path.to_string_lossy());
    refused(
        &world,
        &["net-define", &changed],
        &format!("error: Failed to define network from {changed}\nerror: {said}"),
    );
    assert_eq!(world.works(&["net-list", "--all", "--name"]), "natntw\n");
    assert_eq!(world.works(&["net-dumpxml", "natntw", "--inactive"]), before);

    // The log of leases has room in its last block; empty lines mean nothing.
    let log = world.seen_by_daemon("state/leases/natntw.leases");
    let mut end = OpenOptions::new().append(true).open(&log).expect("lease log");
    write_until_full(&mut end, b"\n");
    let mut client = world.udhcpc("g2", "eth0");
    let kept = fs::read(&log).expect("lease log");
    until("a lease that cannot be kept is not given", 10, || (world.drops("dhcp_disk") >= 2).then_some(()));
    assert!(!client.said().contains("event bound"), "{}", client.said());
    assert!(fs::read(&log).expect("lease log").starts_with(&kept), "nothing that was written is lost");
    let leases = world.works(&["net-dhcp-leases", "natntw"]);
    assert!(leases.contains(&one) && !leases.contains(MAC2), "{leases}");
    assert!(world.pings("g1", "203.0.113.80"), "what runs goes on");

    make_room(&world);
    let two = bound_address(&mut client);
    let leases = world.works(&["net-dhcp-leases", "natntw"]);
    assert!(leases.contains(&one) && leases.contains(&two), "{leases}");
    let _ = world.works(&["net-define", &file]);
}

#[test]
fn files_that_cannot_be_read_are_named_and_stop_nothing_else() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.works(&["net-autostart", "natntw"]);
    let file = world.file("hostntw.xml", &xml::hostntw());
    let _ = world.works(&["net-define", &file]);
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    world.stop_daemon(Signal::TERM);
    // Not even root reads it: the daemon has given up the right to pass over file modes.
    let hidden = world.path("state/networks/hostntw.xml");
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o000)).expect("mode");
    let torn = world.path("state/networks/torn.xml");
    fs::write(&torn, "<network><name>torn").expect("write");
    world.start_daemon();
    let said = world.daemon_log();
    for path in [&hidden, &torn] {
        assert!(said.contains(&*path.to_string_lossy()), "{said}");
    }
    assert!(said.contains("Permission denied"), "{said}");
    assert_eq!(world.works(&["net-list", "--all", "--name"]), "hostntw\nnatntw\n", "from its copy");
    assert!(world.works(&["net-dhcp-leases", "natntw"]).contains(&address));
    assert!(hidden.exists(), "what could not be read is kept");
    let aside = world.path("state/networks/torn.xml.bad-1");
    assert_eq!(fs::read_to_string(aside).expect("set aside"), "<network><name>torn");
}

#[test]
fn without_permission_for_the_tun_device_a_start_says_what_is_needed() {
    let prepare = "mkdir -p \"$STATE\" && cp -a /dev/net/tun \"$STATE/tun\" && chmod 0 \"$STATE/tun\" \
                   && mount --bind \"$STATE/tun\" /dev/net/tun";
    let Some(world) = World::new(&Setup { prepare, ..Setup::default() }) else { return };
    let file = world.file("hostntw.xml", &xml::hostntw());
    let _ = world.works(&["net-define", &file]);
    let expected = "error: Failed to start network hostntw\n\
        error: Unable to create tap device virbr2: Permission denied (os error 13)\n\
        the daemon needs CAP_NET_ADMIN and access to /dev/net/tun: run it as root, or in a container with \
        --cap-add NET_ADMIN --device /dev/net/tun\n";
    refused(&world, &["net-start", "hostntw"], expected);
    assert_eq!(world.works(&["net-list", "--all", "--name"]), "hostntw\n");
}

#[test]
fn without_the_tun_device_a_start_says_where_it_comes_from() {
    let prepare = "mount -t tmpfs tmpfs /dev/net";
    let Some(world) = World::new(&Setup { prepare, ..Setup::default() }) else { return };
    let file = world.file("hostntw.xml", &xml::hostntw());
    let _ = world.works(&["net-define", &file]);
    let expected = "error: Failed to start network hostntw\n\
        error: Unable to create tap device virbr2: No such file or directory (os error 2)\n\
        /dev/net/tun does not work: load the kernel module with `modprobe tun`\n";
    refused(&world, &["net-start", "hostntw"], expected);
}

#[test]
fn a_second_daemon_names_the_first() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let second = world.second_daemon();
    let state = world.path("state");
    let expected = format!(
        "error: another daemon (pid {}) already uses {}; stop it or give another --state-dir\n",
        world.daemon_pid(),
        state.display()
    );
    assert_eq!((second.code, second.err), (Some(1), expected));
    assert_eq!(world.works(&["net-list", "--name"]), "\n");
}
