//! Parts of definitions: `net-update`, titles, descriptions and metadata.

use pontoon_netxml::{Network, Section, UpdateCommand};
use pontoon_proto::api::{Affect, MetadataKind, Reply};
use pontoon_proto::event::{Event, Metadata};

use crate::change::Update;
use crate::events::subject;
use crate::failure::{Answer, fail, fail_help, internal};
use crate::known::Known;
use crate::state::State;
use crate::verbs::xml_failure;

impl State {
    /// `words` are the command and the section, `source` the XML and where it comes from.
    pub(crate) fn net_update(
        &mut self,
        network: &str,
        (command, section): (&str, &str),
        parent_index: i32,
        (xml, file): (&str, &str),
        affect: Affect,
    ) -> Answer<Reply> {
        let name = self.find(network)?;
        let unknown = |what: &str, word: &str| fail(format!("unrecognized {what} name '{word}'"));
        let command = UpdateCommand::from_word(command).ok_or_else(|| unknown("command", command))?;
        let section = Section::from_word(section).ok_or_else(|| unknown("section", section))?;
        let update = Update { command, section, parent_index, xml, file };
        Ok(Reply::Done { warnings: self.update_network(&name, &update, affect)? })
    }

    pub(crate) fn set_metadata(
        &mut self,
        network: &str,
        kind: &MetadataKind,
        value: Option<&str>,
        affect: Affect,
    ) -> Answer<Reply> {
        let name = self.find(network)?;
        if matches!(kind, MetadataKind::Title) && value.is_some_and(|value| value.contains('\n')) {
            return Err(fail("invalid argument: metadata title can't contain newlines"));
        }
        let warnings = self.edit(&name, affect, |network| set(network, kind, value))?;
        let running = self.live.by_name(&name).map(|live| &live.network);
        if let Some(network) = running.or_else(|| self.defined.get(&name)) {
            let (detail, uri) = match kind {
                MetadataKind::Title => (Metadata::Title, None),
                MetadataKind::Description => (Metadata::Description, None),
                MetadataKind::Element { uri, .. } => (Metadata::Element, Some(uri.clone())),
            };
            self.events.publish(Event::MetadataChange { subject: subject(network), detail, uri });
        }
        Ok(Reply::Done { warnings })
    }
}

impl Known {
    pub(crate) fn get_metadata(&self, network: &str, kind: &MetadataKind, affect: Affect) -> Answer<Reply> {
        let name = self.find(network)?;
        if affect.live && affect.config {
            return Err(fail_help(
                "invalid argument: Flags 'VIR_NETWORK_UPDATE_AFFECT_LIVE' and \
                 'VIR_NETWORK_UPDATE_AFFECT_CONFIG' are mutually exclusive",
                "give --live or --config",
            ));
        }
        let live = self.resolve(&name, affect)?.live;
        let running = self.live.by_name(&name).map(|live| &live.network);
        let network = if live { running } else { self.defined.get(&name) };
        let network = network.ok_or_else(|| internal("network vanished"))?;
        let text = match kind {
            MetadataKind::Title => network.title.clone(),
            MetadataKind::Description => network.description.clone(),
            MetadataKind::Element { uri, .. } => network.metadata_xml(uri),
        };
        let text =
            text.ok_or_else(|| fail("metadata not found: Requested metadata element is not present"))?;
        Ok(Reply::Text { text })
    }
}

fn set(network: &mut Network, kind: &MetadataKind, value: Option<&str>) -> Answer<()> {
    let text = value.filter(|value| !value.is_empty()).map(str::to_owned);
    match kind {
        MetadataKind::Title => network.title = text,
        MetadataKind::Description => network.description = text,
        MetadataKind::Element { uri, key } => network
            .set_metadata(uri, key.as_deref().unwrap_or_default(), value)
            .map_err(|error| xml_failure(&error, "the metadata"))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{accepted, define, refused, scratch, state};
    use pontoon_proto::api::Request;

    fn request(kind: MetadataKind, value: &str) -> Request {
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        Request::NetSetMetadata { network: "n".into(), kind, value, affect: Affect::default() }
    }

    fn read(kind: MetadataKind, affect: Affect) -> Request {
        Request::NetGetMetadata { network: "n".into(), kind, affect }
    }

    #[test]
    fn titles_and_elements_are_set_read_and_removed() {
        let root = scratch("metadata");
        let mut state = state(&root);
        accepted(define(&mut state, "<network><name>n</name></network>"));
        let events = state.events.subscribe(crate::events::Filter::default());
        accepted(state.answer(request(MetadataKind::Title, "A lab")));
        let title = Reply::Text { text: "A lab".into() };
        assert_eq!(accepted(state.answer(read(MetadataKind::Title, Affect::default()))), title);
        let heard = events.next().expect("event");
        assert!(matches!(heard, Reply::Event { event: Event::MetadataChange { .. }, .. }), "{heard:?}");
        let element = || MetadataKind::Element { uri: "urn:app".into(), key: Some("app".into()) };
        accepted(state.answer(request(element(), "<owner>me</owner>")));
        let text = Reply::Text { text: "<owner>me</owner>".into() };
        assert_eq!(accepted(state.answer(read(element(), Affect::default()))), text);
        accepted(state.answer(request(element(), "")));
        let gone = "metadata not found: Requested metadata element is not present";
        assert_eq!(refused(state.answer(read(element(), Affect::default()))).message, gone);
        std::fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn what_cannot_be_set_or_asked_has_libvirts_words() {
        let root = scratch("metadata-words");
        let mut state = state(&root);
        accepted(define(&mut state, "<network><name>n</name></network>"));
        let lines = refused(state.answer(request(MetadataKind::Title, "two\nlines")));
        assert_eq!(lines.message, "invalid argument: metadata title can't contain newlines");
        let live = Affect { live: true, config: false };
        let stopped = refused(state.answer(read(MetadataKind::Title, live)));
        assert_eq!(stopped.message, "Requested operation is not valid: network is not running");
        let both = refused(state.answer(read(MetadataKind::Title, Affect { live: true, config: true })));
        assert!(both.message.ends_with("are mutually exclusive"), "{}", both.message);
        let bad = MetadataKind::Element { uri: "urn:app".into(), key: Some("app".into()) };
        assert!(refused(state.answer(request(bad, "<owner>"))).detail.is_some());
        std::fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn updates_change_the_definition() {
        let root = scratch("update");
        let mut state = state(&root);
        accepted(define(
            &mut state,
            "<network><name>n</name><ip address='10.1.0.1' prefix='24'><dhcp><range start='10.1.0.2' \
             end='10.1.0.9'/></dhcp></ip></network>",
        ));
        let update = |command: &str, section: &str| Request::NetUpdate {
            network: "n".into(),
            command: command.into(),
            section: section.into(),
            xml: "<host mac='52:54:00:00:00:01' ip='10.1.0.5'/>".into(),
            parent_index: -1,
            affect: Affect::default(),
            file: "h.xml".into(),
        };
        accepted(state.answer(update("add-last", "ip-dhcp-host")));
        let twice = refused(state.answer(update("add-last", "ip-dhcp-host")));
        assert!(twice.message.contains("there is an existing dhcp host entry in network 'n'"), "{twice:?}");
        assert!(
            state.defined["n"]
                .to_xml(&pontoon_netxml::DumpOptions { inactive: true, connections: None })
                .contains("<host mac='52:54:00:00:00:01' ip='10.1.0.5'/>")
        );
        accepted(state.answer(update("delete", "ip-dhcp-host")));
        assert_eq!(
            refused(state.answer(update("paint", "ip-dhcp-host"))).message,
            "unrecognized command name 'paint'"
        );
        std::fs::remove_dir_all(&root).expect("clean");
    }
}
