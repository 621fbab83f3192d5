use super::*;
use crate::args::DatapathArgs;
use crate::process;
use pontoon_engine::nat::Slot;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

/// A datapath of two workers and a control that speaks to it.
struct Fake {
    control: UnixStream,
    path: std::path::PathBuf,
    datapath: std::thread::JoinHandle<()>,
}

impl Fake {
    fn start(name: &str) -> Self {
        let (listen_fd, control_fd, session_fd) = (-1, -1, None);
        let args = DatapathArgs {
            listen_fd,
            control_fd,
            session_fd,
            workers: 2,
            spin_us: 0,
            nap_us: 0,
            coalesce: true,
            sandbox: crate::sandbox::Sandbox::default(),
        };
        let path = std::env::temp_dir().join(format!("pontoon-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("listener");
        let (control, theirs) = UnixStream::pair().expect("pair");
        let datapath = std::thread::spawn(move || {
            let slots = Box::leak(vec![Slot::default(); 64].into_boxed_slice());
            let (mut service, threads) = process::start(&args, slots, 7).expect("start");
            process::serve(&mut service, theirs, &listener, rustix::process::geteuid());
            drop(service);
            threads.into_iter().for_each(|thread| thread.join().expect("thread"));
        });
        control.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        Self { control, path, datapath }
    }

    fn tell(&self, message: &ToDatapath, fds: &[BorrowedFd<'_>]) {
        codec::send(&self.control, message, fds).expect("send");
    }

    fn hear(&self) -> ToControl {
        codec::receive(&self.control).expect("receive").expect("open").0
    }

    fn ask(&self, message: &ToDatapath) -> ToControl {
        self.tell(message, &[]);
        self.hear()
    }

    fn status(&self) -> Status {
        match self.ask(&ToDatapath::Status) {
            ToControl::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn quit(self) {
        self.tell(&ToDatapath::Quit, &[]);
        self.datapath.join().expect("ends");
        let _ = std::fs::remove_file(self.path);
    }
}

fn document(generation: u64, ports: &[u16]) -> Document {
    let ports: Vec<_> = ports
        .iter()
        .map(|id| serde_json::json!({"id": id, "name": "up", "role": {"uplink": {"uplink": id}}, "max_addresses": 1}))
        .collect();
    let uplinks: Vec<_> = ports
        .iter()
        .map(|port| {
            serde_json::json!({"id": port["id"], "name": "up", "mac": [2, 0, 0, 0, 0, 1],
                "address": null, "gateway": null, "mtu": 1500})
        })
        .collect();
    serde_json::from_value(serde_json::json!({"generation": generation, "networks": [], "uplinks": uplinks,
        "ports": ports, "resolvers": 0, "sockets_per_resolver": 0}))
    .expect("document")
}

#[test]
fn an_empty_document_is_applied_and_asked_for() {
    let fake = Fake::start("empty");
    let ToControl::Hello { workers: 2, document: before, .. } = fake.ask(&ToDatapath::Hello) else {
        panic!("no hello")
    };
    assert_eq!(*before, Document::default());
    let applied = fake.ask(&ToDatapath::Apply { document: document(3, &[]) });
    assert_eq!(applied, ToControl::Applied { generation: 3 });
    assert_eq!(fake.status(), Status { generation: 3, ..Status::default() });
    fake.quit();
}

#[test]
fn a_refused_document_leaves_the_previous_one_running() {
    let fake = Fake::start("refused");
    fake.ask(&ToDatapath::Apply { document: document(3, &[]) });
    let refused = fake.ask(&ToDatapath::Apply { document: document(4, &[1, 1]) });
    let ToControl::Refused { reason } = refused else { panic!("{refused:?}") };
    assert_eq!(reason, "uplinks[1].id: 1 is used twice");
    let refused = fake.ask(&ToDatapath::Attach { port: 4096, kind: PortKind::Packet, vnet_header: true });
    assert!(matches!(refused, ToControl::Refused { .. }));
    assert_eq!(fake.status().generation, 3);
    fake.quit();
}

#[test]
fn a_control_that_comes_back_finds_the_document() {
    let mut fake = Fake::start("again");
    fake.ask(&ToDatapath::Apply { document: document(5, &[]) });
    fake.control = UnixStream::connect(&fake.path).expect("connect");
    let ToControl::Hello { document, .. } = fake.ask(&ToDatapath::Hello) else { panic!("no hello") };
    assert_eq!(document.generation, 5);
    fake.quit();
}

#[test]
fn frames_of_an_attached_port_are_counted_until_it_goes() {
    let fake = Fake::start("port");
    let (ours, theirs) = UnixDatagram::pair().expect("pair");
    fake.tell(&ToDatapath::Attach { port: 2, kind: PortKind::Packet, vnet_header: true }, &[theirs.as_fd()]);
    // As on a real port, more than one batch waits before anybody reads, on a descriptor control keeps open.
    let sent =
        (0..100).take_while(|_| ours.set_nonblocking(true).is_ok() && ours.send(&[0; 70]).is_ok()).count();
    fake.ask(&ToDatapath::Apply { document: document(1, &[2]) });
    let mut counted = Default::default();
    for _ in 0..100 {
        counted = fake.status().ports.first().map_or((0, 0), |port| (port.rx_packets, port.rx_bytes));
        if counted.0 == sent as u64 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(counted, (sent as u64, sent as u64 * 60));
    fake.ask(&ToDatapath::Apply { document: document(2, &[]) });
    assert_eq!(fake.status().ports, []);
    fake.quit();
}

#[test]
fn a_control_that_comes_back_gets_the_descriptors_of_what_runs() {
    let mut fake = Fake::start("handback");
    let (ours, theirs) = UnixDatagram::pair().expect("pair");
    let packet = ToDatapath::Attach { port: 2, kind: PortKind::Packet, vnet_header: true };
    fake.tell(&packet, &[theirs.as_fd()]);
    fake.ask(&ToDatapath::Apply { document: document(1, &[2]) });
    // Attached, but in no document: it was given up.
    fake.tell(&ToDatapath::Attach { port: 3, kind: PortKind::Packet, vnet_header: true }, &[theirs.as_fd()]);
    drop(theirs);
    fake.control = UnixStream::connect(&fake.path).expect("connect");
    fake.control.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    fake.tell(&ToDatapath::Hello, &[]);
    let (port, fds) = codec::receive::<ToControl>(&fake.control).expect("receive").expect("open");
    assert_eq!(port, ToControl::Port { port: 2, kind: PortKind::Packet });
    let [fd] = <[OwnedFd; 1]>::try_from(fds).expect("one descriptor");
    UnixDatagram::from(fd).send(b"same").expect("send");
    // The uplink asks for an address on the same socket.
    ours.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    while ours.recv(&mut [0; 8]).expect("receive") != 4 {}
    assert!(matches!(fake.hear(), ToControl::Hello { .. }));
    fake.ask(&ToDatapath::Apply { document: document(2, &[]) });
    assert!(matches!(fake.ask(&ToDatapath::Hello), ToControl::Hello { .. }), "a port that went is forgotten");
    fake.quit();
}

#[test]
fn a_lease_log_needs_its_descriptor() {
    let fake = Fake::start("lease");
    let refused = fake.ask(&ToDatapath::LeaseLog { network: 0, leases: Vec::new() });
    assert!(matches!(refused, ToControl::Refused { .. }));
    fake.quit();
}
