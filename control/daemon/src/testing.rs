//! What tests of the daemon share.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use pontoon_proto::api::{Failure, Reply, Request, Response};
use pontoon_proto::codec;
use pontoon_proto::message::{ToControl, ToDatapath};

use crate::link::{Event, Link};
use crate::resolvers::Resolvers;
use crate::state::State;
use crate::store::Store;

pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("pontoon-verbs-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

pub(crate) fn state(root: &std::path::Path) -> State {
    let store = Store::open(root).expect("store");
    State::new(store, Resolvers::read(&root.join("none")), 1, root.join("live.json")).expect("state")
}

pub(crate) fn define(state: &mut State, xml: &str) -> Response {
    state.answer(Request::NetDefine { xml: xml.into(), file: "n.xml".into(), validate: false })
}

pub(crate) fn refused(response: Response) -> Failure {
    match response {
        Response::Error(failure) => failure,
        Response::Parameters(reply) => panic!("not refused: {reply:?}"),
    }
}

pub(crate) fn accepted(response: Response) -> Reply {
    match response {
        Response::Parameters(reply) => reply,
        Response::Error(failure) => panic!("refused: {failure:?}"),
    }
}

/// Gives the state a datapath that refuses networks named `bad` and agrees to everything else.
pub(crate) fn connect(state: &mut State) -> Receiver<Event> {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    agreeable(theirs);
    let (events, received) = sync_channel(8);
    state.link = Some(Link::open(ours, 1, 1, events.into()).expect("link").link);
    received
}

fn agreeable(stream: UnixStream) {
    std::thread::spawn(move || {
        while let Ok(Some((message, _))) = codec::receive::<ToDatapath>(&stream) {
            let answer = match message {
                ToDatapath::Hello => {
                    ToControl::Hello { workers: 1, lacking: Vec::new(), document: Box::default() }
                }
                ToDatapath::Apply { document } if document.networks.iter().any(|n| n.name == "bad") => {
                    ToControl::Refused { reason: "bad".into() }
                }
                ToDatapath::Apply { document } => ToControl::Applied { generation: document.generation },
                _ => continue,
            };
            let _ = codec::send(&stream, &answer, &[]);
        }
    });
}
