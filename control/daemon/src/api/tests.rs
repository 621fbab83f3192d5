//! Clients that are slow, silent, greedy or hostile, and what they cost the others.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_proto::api::{Failure, Reply, Request, Response};
use pontoon_proto::codec;
use pontoon_proto::event::{Event, EventKind, Lifecycle};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::access::{Access, ReadAccess};
use super::limits::Limits;
use super::server::Server;
use crate::events::BACKLOG;
use crate::known::Shared;
use crate::testing::{accepted, connect, scratch, state};

/// Longest any answer may take while others misbehave: half of what a server that waited for one of them would take.
const PROMPT: Duration = Duration::from_secs(5);

struct Api {
    root: PathBuf,
    shared: Arc<Shared>,
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn serve(name: &str, limits: Limits) -> Api {
    serve_with(name, limits, Access::new("0", ReadAccess::Group))
}

fn serve_with(name: &str, limits: Limits, access: Access) -> Api {
    let root = scratch(name);
    let shared = Arc::new(Shared::new(state(&root)));
    let listener = super::bind(&root.join("api"), &access).expect("bind");
    let server = Server::new(listener, Arc::clone(&shared), access, limits).expect("server");
    std::thread::spawn(move || server.run());
    Api { root, shared }
}

/// Limits at which a test need not wait for long.
fn short() -> Limits {
    Limits { patience: Duration::from_millis(300), ..Limits::default() }
}

impl Api {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.root.join("api")).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("timeout");
        stream
    }

    /// A request of its own that has to be answered without delay.
    fn works(&self) {
        let start = Instant::now();
        assert_eq!(ask(&self.connect(), &Request::NetList), Ok(Reply::Networks { networks: Vec::new() }));
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    }
}

/// The next message, and not a byte of the one behind it.
fn receive(stream: &UnixStream) -> Option<Result<Reply, Failure>> {
    read(BufReader::with_capacity(1, stream))
}

fn read(mut stream: impl std::io::BufRead) -> Option<Result<Reply, Failure>> {
    let response = codec::read_api::<Response>(&mut stream).expect("answer")?;
    Some(match response {
        Response::Parameters(reply) => Ok(reply),
        Response::Error(failure) => Err(failure),
    })
}

fn ask(stream: &UnixStream, request: &Request) -> Result<Reply, Failure> {
    codec::write_api(stream, request).expect("request");
    read(BufReader::new(stream)).expect("an answer")
}

fn refused(stream: &UnixStream) -> String {
    receive(stream).expect("an answer").expect_err("a refusal").message
}

/// Whether the daemon has closed, also where what it sent before was not read.
fn is_hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::IN)];
    rustix::event::poll(&mut polled, Some(&Timespec::default())).expect("poll");
    polled[0].revents().contains(PollFlags::HUP)
}

/// Whether the daemon has closed.
fn is_closed(mut stream: &UnixStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("timeout");
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn requests_of_one_connection_are_answered_in_order() {
    let api = serve("api-order", Limits::default());
    let mut stream = api.connect();
    stream.write_all(b"{\"method\":\"ping\"}\0{\"method\":\"nope\"}\0{}\0{\"method\":\"net-").expect("write");
    assert_eq!(receive(&stream), Some(Ok(Reply::Done { warnings: Vec::new() })));
    assert!(refused(&stream).contains("no method 'nope'"));
    assert!(refused(&stream).contains("missing field `method`"));
    stream.write_all(b"list\"}\0").expect("write");
    assert_eq!(receive(&stream), Some(Ok(Reply::Networks { networks: Vec::new() })));
    let version = ask(&stream, &Request::Version).expect("version");
    assert!(matches!(version, Reply::Version { protocol: 1, .. }), "{version:?}");
}

#[test]
fn a_client_that_shuts_its_sending_side_gets_its_answer() {
    let api = serve("api-half", Limits::default());
    let mut stream = api.connect();
    stream.write_all(b"{\"method\":\"ping\"}\0").expect("write");
    stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
    assert!(receive(&stream).expect("an answer").is_ok());
    assert_eq!(receive(&stream), None, "and then the end");

    let mut stream = api.connect();
    stream.write_all(b"{\"method\":").expect("write");
    stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
    assert!(refused(&stream).contains("not ended by a NUL"));
    assert_eq!(receive(&stream), None);
}

#[test]
fn a_request_of_one_who_does_not_wait_for_the_answer_is_carried_out() {
    let api = serve("api-forget", Limits::default());
    let mut stream = api.connect();
    let define = Request::NetDefine {
        xml: "<network><name>a</name></network>".into(),
        file: String::new(),
        validate: false,
    };
    codec::write_api(&mut stream, &define).expect("write");
    drop(stream);
    let start = Instant::now();
    while api.shared.known().find("a").is_err() {
        assert!(start.elapsed() < PROMPT);
        std::thread::yield_now();
    }
}

#[test]
fn a_byte_at_a_time_ends_when_patience_does() {
    let api = serve("api-drip", short());
    let mut slow: Vec<UnixStream> = (0..50).map(|_| api.connect()).collect();
    let start = Instant::now();
    while !slow.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} are still there", slow.len());
        slow.retain_mut(|stream| stream.write_all(b" ").is_ok());
        api.works();
    }
    assert!(start.elapsed() >= short().patience);
    let mut silent = api.connect();
    silent.write_all(b"{").expect("write");
    assert!(refused(&silent).contains("did not come within"));
    assert_eq!(receive(&silent), None);
}

#[test]
fn a_request_without_an_end_is_cut_off() {
    let api = serve("api-endless", Limits { request: 1 << 20, memory: 4 << 20, ..Limits::default() });
    let chunk = vec![b'x'; 64 << 10];
    let mut stream = api.connect();
    let sent = (0..).take_while(|_| stream.write_all(&chunk).is_ok()).count() * chunk.len();
    assert!(sent < 4 << 20, "{sent} bytes were taken");
    assert!(refused(&stream).contains("longer than 1048576 bytes"));
    api.works();
    // Each below the limit of one, all of them above what all may have.
    let whole = vec![b'x'; 900 << 10];
    let mut many: Vec<UnixStream> = (0..20).map(|_| api.connect()).collect();
    for stream in &mut many {
        let _ = stream.write_all(&whole);
    }
    api.works();
    let left = many.iter().filter(|stream| !is_closed(stream)).count();
    assert!(left <= 5, "{left} requests of 900 KiB are held");
}

#[test]
fn ten_thousand_connections_are_taken_in_one_for_another() {
    crate::run::raise_descriptor_limit();
    let room = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(room.saturating_sub(700)).unwrap_or(usize::MAX).min(10_000);
    let api = serve("api-crowd", Limits::default());
    let mut crowd = Vec::new();
    for number in 0..count {
        crowd.push(api.connect());
        if number % 500 == 0 {
            api.works();
        }
    }
    api.works();
    let open = crowd.iter().filter(|stream| !is_closed(stream)).count();
    assert!(open <= Limits::default().per_user, "{open} are open");
    assert!(!is_closed(crowd.last().expect("a last one")), "the oldest went first");
}

/// Has a network defined whose XML fills more than a socket.
fn with_long_answer(name: &str, limits: Limits) -> Api {
    let api = serve(name, limits);
    let xml = format!("<network><name>a</name><description>{}</description></network>", "x".repeat(LONG));
    accepted(crate::testing::define(&mut api.shared.lock(), &xml));
    api
}

const LONG: usize = 3 << 20;

fn dump() -> Request {
    Request::NetDumpxml { network: "a".into(), inactive: false }
}

#[test]
fn one_who_never_reads_delays_nobody() {
    let patience = Duration::from_secs(3600);
    let api = with_long_answer("api-mute", Limits { patience, ..Limits::default() });
    let mute = api.connect();
    codec::write_api(&mute, &dump()).expect("request");
    // Its first byte is there, so the rest waits.
    let mut first = [0];
    (&mute).read_exact(&mut first).expect("an answer begins");
    for _ in 0..20 {
        ask(&api.connect(), &Request::Ping).expect("pong");
    }
    assert!(matches!(ask(&api.connect(), &dump()), Ok(Reply::Xml { xml }) if xml.len() > LONG));
    let rest = read(BufReader::new(first.chain(&mute)));
    assert!(matches!(rest, Some(Ok(Reply::Xml { xml })) if xml.len() > LONG), "it may read late");
}

#[test]
fn one_who_never_reads_is_dropped() {
    let api = with_long_answer("api-mute-long", short());
    let mute = api.connect();
    let start = Instant::now();
    codec::write_api(&mute, &dump()).expect("request");
    while !is_hung_up(&mute) {
        assert!(start.elapsed() < Duration::from_secs(60), "it is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(start.elapsed() >= short().patience);
    let mut answer = Vec::new();
    let _ = (&mute).read_to_end(&mut answer);
    assert!(answer.len() < LONG, "it was cut off: {}", answer.len());
}

#[test]
fn a_change_that_waits_for_the_datapath_holds_up_no_reader() {
    let api = serve("api-stuck", Limits::default());
    ask(&api.connect(), &define("a")).expect("defined");
    // As a change holds it while it waits.
    let state = api.shared.lock();
    let waiting = api.connect();
    codec::write_api(&waiting, &define("b")).expect("request");
    for _ in 0..20 {
        let Ok(Reply::Networks { networks }) = ask(&api.connect(), &Request::NetList) else {
            panic!("no list")
        };
        assert_eq!(networks.len(), 1);
    }
    drop(state);
    assert!(receive(&waiting).expect("an answer").is_ok());
}

fn define(name: &str) -> Request {
    Request::NetDefine {
        xml: format!("<network><name>{name}</name></network>"),
        file: String::new(),
        validate: false,
    }
}

fn lifecycle(reply: Option<Result<Reply, Failure>>) -> (String, Lifecycle) {
    match reply {
        Some(Ok(Reply::Event { event: Event::Lifecycle { subject, detail }, .. })) => {
            (subject.network, detail)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn subscribers_hear_what_they_asked_for_until_they_go() {
    let api = serve("api-events", short());
    let kinds = vec![EventKind::Lifecycle];
    let unknown = Request::Subscribe { events: Vec::new(), network: Some("a".into()) };
    assert!(ask(&api.connect(), &unknown).expect_err("no network").message.starts_with("Network not found"));
    let all = api.connect();
    let request = Request::Subscribe { events: kinds.clone(), network: None };
    assert_eq!(ask(&all, &request), Ok(Reply::Subscribed));
    ask(&api.connect(), &define("a")).expect("defined");
    let one = api.connect();
    assert_eq!(
        ask(&one, &Request::Subscribe { events: kinds, network: Some("a".into()) }),
        Ok(Reply::Subscribed)
    );
    // Longer than a request may take: a subscriber may be silent.
    std::thread::sleep(short().patience * 2);
    ask(&api.connect(), &define("b")).expect("defined");
    ask(&api.connect(), &Request::NetUndefine { network: "a".into() }).expect("undefined");
    assert_eq!(lifecycle(receive(&all)), ("a".into(), Lifecycle::Defined));
    assert_eq!(lifecycle(receive(&all)), ("b".into(), Lifecycle::Defined));
    assert_eq!(lifecycle(receive(&all)), ("a".into(), Lifecycle::Undefined));
    assert_eq!(lifecycle(receive(&one)), ("a".into(), Lifecycle::Undefined));
    codec::write_api(&one, &Request::Ping).expect("request");
    assert!(refused(&one).contains("takes no more requests"));
    assert_eq!(receive(&one), None);
}

#[test]
fn a_subscriber_who_does_not_read_hears_how_much_it_missed() {
    let api = serve("api-lag", short());
    let lazy = api.connect();
    let request = Request::Subscribe { events: Vec::new(), network: None };
    assert_eq!(ask(&lazy, &request), Ok(Reply::Subscribed));
    let count = 20 * BACKLOG;
    let network = pontoon_netxml::Network { name: "n".repeat(200), ..Default::default() };
    let events = api.shared.lock().events.clone();
    for _ in 0..count {
        events.lifecycle(&network, Lifecycle::Started);
    }
    api.works();
    let (mut heard, mut missed) = (0, 0);
    while heard + missed < count {
        match receive(&lazy) {
            Some(Ok(Reply::Event { event: Event::Missed { count }, .. })) => {
                missed += usize::try_from(count).expect("a count");
            }
            Some(Ok(Reply::Event { .. })) => heard += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(missed > 0 && heard >= BACKLOG, "{heard} heard, {missed} missed");
    assert_eq!(heard + missed, count);
}

#[test]
fn rights_decide_which_verbs_are_answered() {
    // The test's own user is somebody else to this daemon.
    let me = rustix::process::geteuid().as_raw();
    let access = Access { users: Vec::new(), group: None, read: ReadAccess::Any };
    let api = serve_with("api-rights", Limits { stranger: 1000, ..short() }, access);
    let stream = api.connect();
    assert!(ask(&stream, &Request::NetList).is_ok());
    let failure = ask(&stream, &define("a")).expect_err("refused");
    assert_eq!(failure.message, format!("authentication failed: user {me} may read but not change networks"));
    assert!(ask(&stream, &Request::Ping).is_ok(), "the connection goes on");
    assert!(api.shared.known().find("a").is_err());

    let access = Access { users: Vec::new(), group: None, read: ReadAccess::Group };
    let api = serve_with("api-norights", Limits { stranger: 1000, ..short() }, access);
    let mut stream = api.connect();
    assert_eq!(ask(&stream, &Request::Ping).expect_err("refused").code(), "auth-failed");
    stream.write_all(&[b'x'; 2000]).expect("write");
    assert!(refused(&stream).contains("longer than 1000 bytes"));
}

#[test]
fn a_panic_costs_one_answer() {
    let api = serve("api-panic", Limits::default());
    let _events = connect(&mut api.shared.lock());
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _state = api.shared.lock();
        panic!("while the lock is held");
    }));
    ask(&api.connect(), &define("a")).expect("changes go on");
}
