//! What QEMU is told of a network interface.

use std::path::PathBuf;

use serde_json::{Value, json};

/// One interface's back-end.
#[derive(Clone, Debug)]
pub enum Nic {
    /// Connects to a stream socket.
    Stream(PathBuf),
    /// Shared memory, and the socket where pontoon waits for QEMU.
    VhostUser(PathBuf),
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
            Self::VhostUser(_) => json!({"type": "vhost-user", "id": id, "chardev": chardev(number)}),
            Self::Tap(name) => {
                json!({"type": "tap", "id": id, "ifname": name, "script": "no", "downscript": "no", "vhost": false})
            }
            Self::Bridge(bridge, helper) => {
                json!({"type": "bridge", "id": id, "br": bridge, "helper": helper})
            }
        }
    }

    /// What `-chardev` and `chardev-add` are told of the socket it needs, which is connected to again when it was away.
    pub(crate) fn socket(&self, number: usize) -> Option<(String, Value)> {
        let Self::VhostUser(path) = self else { return None };
        let (id, shown) = (chardev(number), path.display());
        let address = json!({"type": "unix", "data": {"path": path}});
        let data = json!({"addr": address, "server": false, "reconnect": 1});
        let added = json!({"id": id, "backend": {"type": "socket", "data": data}});
        Some((format!("socket,id={id},path={shown},reconnect=1"), added))
    }

    /// `-device` and `device_add`; q35 takes hot-plugged ones only behind a port.
    pub(crate) fn device(&self, number: usize, mac: &str, behind: Option<&str>) -> Value {
        let (id, netdev) = (format!("d{number}"), format!("n{number}"));
        let mut device =
            json!({"driver": "virtio-net-pci", "id": id, "netdev": netdev, "mac": mac, "romfile": ""});
        if let (Self::VhostUser(_), Some(device)) = (self, device.as_object_mut()) {
            // QEMU 7.2 under software emulation crashes with MSI-X there.
            device.insert("vectors".into(), 0.into());
        }
        if let (Some(bus), Some(device)) = (behind, device.as_object_mut()) {
            device.insert("bus".into(), bus.into());
        }
        device
    }
}

fn chardev(number: usize) -> String {
    format!("c{number}")
}
