//! What QEMU is told of a network interface.

use std::path::PathBuf;

use serde_json::{Value, json};

/// One interface's back-end.
#[derive(Clone, Debug)]
pub enum Nic {
    /// Connects to a stream socket.
    Stream(PathBuf),
    /// A tap that is there, by name.
    Tap(String),
    /// A bridge, and who plugs a tap into it.
    Bridge(String, String),
}

impl Nic {
    /// `-netdev` and `netdev_add`.
    pub(crate) fn netdev(&self, number: usize) -> Value {
        let id = format!("n{number}");
        match self {
            Self::Stream(path) => {
                json!({"type": "stream", "id": id, "server": false, "addr": {"type": "unix", "path": path}})
            }
            Self::Tap(name) => {
                json!({"type": "tap", "id": id, "ifname": name, "script": "no", "downscript": "no", "vhost": false})
            }
            Self::Bridge(bridge, helper) => {
                json!({"type": "bridge", "id": id, "br": bridge, "helper": helper})
            }
        }
    }

    /// `-device` and `device_add`; q35 takes hot-plugged ones only behind a port.
    pub(crate) fn device(number: usize, mac: &str, behind: Option<&str>) -> Value {
        let (id, netdev) = (format!("d{number}"), format!("n{number}"));
        let mut device =
            json!({"driver": "virtio-net-pci", "id": id, "netdev": netdev, "mac": mac, "romfile": ""});
        if let (Some(bus), Some(device)) = (behind, device.as_object_mut()) {
            device.insert("bus".into(), bus.into());
        }
        device
    }
}
