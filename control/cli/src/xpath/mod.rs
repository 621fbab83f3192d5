//! XPath 1.0 over one document, for `--xpath`: parsed, evaluated, printed as libxml2 prints nodes.
//!
//! Not here: variables, namespace prefixes in names (virsh registers none either), `id()` and `translate()`.

mod eval;
mod parse;
mod print;

use roxmltree::Document;

/// What the path picks, a node after the other; with `wrap` all of it inside `<nodes>`.
///
/// # Errors
/// When it is no XPath or does not pick nodes.
pub(crate) fn select(xml: &str, path: &str, wrap: bool) -> Result<String, ()> {
    let document = Document::parse(xml).map_err(drop)?;
    let nodes = eval::nodes(&document, &parse::parse(path)?)?;
    Ok(if wrap { print::wrapped(&nodes) } else { print::each(&nodes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<network connections='1'>
  <name>default</name>
  <metadata><a:b xmlns:a='urn:a' x='\"&lt;'>t &amp; u</a:b></metadata>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.122.2' end='192.168.122.9'/>
      <range start='192.168.122.20' end='192.168.122.29'/>
      <host mac='52:54:00:00:00:01' name='one' ip='192.168.122.50'/>
      <host mac='52:54:00:00:00:02' name='two' ip='192.168.122.51'/>
    </dhcp>
  </ip>
</network>";

    fn picked(path: &str) -> String {
        select(XML, path, false).unwrap_or_else(|()| "ERROR".to_owned())
    }

    #[test]
    fn paths_pick_what_libxml2_picks() {
        for (path, expected) in [
            ("/network/name", "<name>default</name>\n"),
            ("//name/text()", "default\n"),
            ("//range[1]/@start", " start=\"192.168.122.2\"\n"),
            ("//range[last()]", "<range start=\"192.168.122.20\" end=\"192.168.122.29\"/>\n"),
            ("//host[@name='two']/@ip", " ip=\"192.168.122.51\"\n"),
            ("//host[@name!='two' and starts-with(@mac, '52:54')]/@ip", " ip=\"192.168.122.50\"\n"),
            ("//host[position()=2]/@mac | //name", "<name>default</name>\n mac=\"52:54:00:00:00:02\"\n"),
            ("//dhcp/range[2]/following-sibling::host[1]/@name", " name=\"one\"\n"),
            ("//range/../../@address", " address=\"192.168.122.1\"\n"),
            ("/network/ip[count(dhcp/host) > 1]/@address", " address=\"192.168.122.1\"\n"),
            ("//*[local-name()='b']", "<a:b xmlns:a=\"urn:a\" x=\"&quot;&lt;\">t &amp; u</a:b>\n"),
            ("//host[not(contains(@name, 'w'))]/@name", " name=\"one\"\n"),
            ("descendant::host[1]/ancestor::ip/@netmask", " netmask=\"255.255.255.0\"\n"),
            ("//nope", ""),
            ("@connections", " connections=\"1\"\n"),
            ("//host[2 - 1]/@name", " name=\"one\"\n"),
        ] {
            assert_eq!(picked(path), expected, "{path}");
        }
    }

    #[test]
    fn elements_are_indented_anew_and_the_document_has_its_declaration() {
        let expected = "<dhcp>
  <range start=\"192.168.122.2\" end=\"192.168.122.9\"/>
  <range start=\"192.168.122.20\" end=\"192.168.122.29\"/>
  <host mac=\"52:54:00:00:00:01\" name=\"one\" ip=\"192.168.122.50\"/>
  <host mac=\"52:54:00:00:00:02\" name=\"two\" ip=\"192.168.122.51\"/>
</dhcp>
";
        assert_eq!(picked("//dhcp"), expected);
        assert!(picked("/").starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<network connections="));
        assert!(picked(".").starts_with("<network connections=\"1\">\n  <name>default</name>\n"));
    }

    #[test]
    fn wrapped_nodes_have_one_root() {
        let wrapped = |path| select(XML, path, true).expect("nodes");
        assert_eq!(wrapped("//name"), "<nodes>\n  <name>default</name>\n</nodes>\n");
        assert_eq!(wrapped("//range[1]/@end"), "<nodes end=\"192.168.122.9\"/>\n");
        assert_eq!(wrapped("//range/@end"), "<nodes end=\"192.168.122.29\"/>\n");
        assert_eq!(wrapped("//name/text() | //name"), "<nodes><name>default</name>default</nodes>\n");
        assert_eq!(wrapped("//nope"), "<nodes/>\n");
    }

    #[test]
    fn what_is_no_path_to_nodes_is_refused() {
        for path in
            ["//[", "string(//name)", "count(//ip)", "//a:b", "1", "", "//x[", "//x[@]", "nope(1)", "$x"]
        {
            assert_eq!(picked(path), "ERROR", "{path}");
        }
        let deep = "(".repeat(5000) + "//x" + &")".repeat(5000);
        assert_eq!(picked(&deep), "ERROR", "depth is bounded");
    }
}
