//! DHCP servers that are not pontoon's.

use crate::{Proc, World};

impl World {
    /// Starts a DHCP server on an interface of a namespace, for `range`, as "203.0.113.100,203.0.113.120"; it ends with
    /// what is returned.
    #[must_use]
    pub fn serve_dhcp(&self, which: &str, device: &str, range: &str) -> Proc {
        let (interface, range) = (format!("--interface={device}"), format!("--dhcp-range={range},1h"));
        let words = [
            "dnsmasq",
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--pid-file=",
            "--bind-interfaces",
            "--dhcp-leasefile=/dev/null",
            "--dhcp-authoritative",
            "--no-ping",
            &interface,
            &range,
        ];
        let mut server = self.spawn(which, &format!("dhcp-{device}"), &words);
        server.wait_said("DHCP, IP range", 5);
        server
    }
}
