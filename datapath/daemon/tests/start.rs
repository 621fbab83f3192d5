//! The whole process but for exec: inherited descriptors, sandbox, session memory, workers, a conversation.

use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use pontoon_datapath::DatapathArgs;
use pontoon_datapath::sandbox::Sandbox;
use pontoon_proto::codec;
use pontoon_proto::message::{ToControl, ToDatapath};

/// A descriptor as exec leaves it: without close-on-exec, owned by nobody.
fn inherited(fd: impl AsFd) -> i32 {
    rustix::io::dup(fd).expect("dup").into_raw_fd()
}

#[test]
fn the_datapath_starts_from_inherited_descriptors_and_quits() {
    let path = std::env::temp_dir().join(format!("pontoon-start-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("listener");
    let (control, theirs) = UnixStream::pair().expect("pair");
    let memory = rustix::fs::memfd_create("sessions", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    rustix::fs::ftruncate(&memory, 96 * 1024).expect("size");
    let args = DatapathArgs {
        listen_fd: inherited(&listener),
        control_fd: inherited(&theirs),
        session_fd: Some(inherited(&memory)),
        workers: 3,
        spin_us: 50,
        nap_us: 30,
        coalesce: true,
        sandbox: Sandbox::default(),
    };
    drop(theirs);
    let datapath = std::thread::spawn(move || pontoon_datapath::main(args));
    codec::send(&control, &ToDatapath::Hello, &[]).expect("send");
    let (sessions, fds) = codec::receive::<ToControl>(&control).expect("receive").expect("open");
    assert_eq!(
        (sessions, fds.len()),
        (ToControl::Sessions, 1),
        "a control that takes over gets the memory back"
    );
    let (hello, _) = codec::receive(&control).expect("receive").expect("open");
    assert!(matches!(hello, ToControl::Hello { workers: 3, .. }), "{hello:?}");
    drop(control);
    let control = UnixStream::connect(&path).expect("connect");
    codec::send(&control, &ToDatapath::Quit, &[]).expect("send");
    datapath.join().expect("join").expect("ends well");
    let _ = std::fs::remove_file(path);
}
