//! libvirt itself, in session mode under an ordinary user, with pontoon's bridge helper and a tap it does not manage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pontoon_guest_tests::Image;
use pontoon_netns_tests::{Output, Proc, Setup, World, until, xml};

/// Guests' memory in a descriptor that can be shared, without which there is no vhost-user. Under software emulation QEMU
/// 7.2 crashes with vhost-user and MSI-X.
const SHARED: &str = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>";
const NO_VECTORS: &str = "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<qemu:arg value='-global'/><qemu:arg value='virtio-net-pci.vectors=0'/></qemu:commandline>";

const USER: &str = "65534";
const MACS: [&str; 5] =
    ["52:54:00:33:44:01", "52:54:00:33:44:02", "52:54:00:33:44:03", "52:54:00:33:44:04", "52:54:00:33:44:05"];

struct Session<'a> {
    world: &'a World,
    _daemon: Proc,
}

/// The words that run something as the user, in the session's directories.
fn as_user<'a>(dir: &'a str, vars: &'a [String; 4], words: &[&'a str]) -> Vec<&'a str> {
    let user = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "env", "-C", dir];
    let vars: Vec<&str> = vars.iter().map(String::as_str).collect();
    [&user[..], &vars, words].concat()
}

fn vars(world: &World) -> [String; 4] {
    let dir = world.path("session").to_string_lossy().into_owned();
    [
        format!("HOME={dir}"),
        format!("XDG_RUNTIME_DIR={dir}/run"),
        format!("XDG_CONFIG_HOME={dir}/config"),
        format!("XDG_CACHE_HOME={dir}/cache"),
    ]
}

impl<'a> Session<'a> {
    fn start(world: &'a World) -> Self {
        let dir = world.path("session");
        let config = dir.join("config/libvirt");
        for place in [&config, &dir.join("run"), &dir.join("cache")] {
            fs::create_dir_all(place).expect("directory");
        }
        let helper = dir.join("qemu-bridge-helper");
        let acl = world.file("bridge.conf", "allow virbr1\nallow virbr2\n");
        let program = format!(
            "#!/bin/sh\nexec '{}' --socket '{}' bridge-helper --acl='{acl}' \"$@\"\n",
            world.path("pontoon-for-users").display(),
            world.path("run/pontoon.sock").display()
        );
        fs::copy(world.bin(), world.path("pontoon-for-users")).expect("program");
        fs::write(&helper, program).expect("helper");
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("helper");
        let settings = format!(
            "bridge_helper = \"{}\"\nsecurity_driver = \"none\"\nstdio_handler = \"file\"\n",
            helper.display()
        );
        fs::write(config.join("qemu.conf"), settings).expect("qemu.conf");
        let _ = pontoon_netns_tests::run(&["chown", "-R", USER, &dir.to_string_lossy()]).expect_ok("chown");
        let (vars, place) = (vars(world), dir.to_string_lossy().into_owned());
        // Everybody may open the device on most systems; here in this process's own mount namespace.
        let tun = "mknod -m 666 tun c 10 200 && mount --bind tun /dev/net/tun && exec \"$@\"";
        let enter = ["env", "-C", &place, "sh", "-c", tun, "sh"];
        let words = [&enter[..], &as_user(&place, &vars, &["libvirtd"])].concat();
        let daemon = world.spawn("host", "libvirtd", &words);
        let socket = dir.join("run/libvirt/libvirt-sock");
        until(&format!("libvirt serves: {}", daemon.said()), 20, || socket.exists().then_some(()));
        Self { world, _daemon: daemon }
    }

    fn virsh(&self, words: &[&str]) -> Output {
        let (vars, place) = (vars(self.world), self.world.path("session").to_string_lossy().into_owned());
        let all = [&["virsh", "-q", "-c", "qemu:///session"], words].concat();
        self.world.exec("host", &as_user(&place, &vars, &all))
    }
}

/// A guest outlives libvirtd: a test that failed must not leave one.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _ = self.virsh(&["destroy", "node-1"]);
    }
}

/// An interface over vhost-user, for which QEMU connects to pontoon.
fn vhost_user(path: &Path, mac: &str) -> String {
    let path = path.display();
    format!(
        "<interface type='vhostuser'><mac address='{mac}'/><source type='unix' path='{path}' mode='client'/>
<model type='virtio'/></interface>"
    )
}

fn domain(kernel: &Path, initramfs: &Path, more: &str) -> String {
    format!(
        "<domain type='qemu'><name>node-1</name><memory unit='MiB'>160</memory>{SHARED}<vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{}</kernel><initrd>{}</initrd>
<cmdline>console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check net.ifnames=0 guest=node-1</cmdline></os>
<features><acpi/></features><cpu mode='maximum'/>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='usb' model='none'/><memballoon model='none'/>
<controller type='pci' index='0' model='pcie-root'/><controller type='pci' index='1' model='pcie-root-port'/>
<controller type='pci' index='2' model='pcie-root-port'/><controller type='pci' index='3' model='pcie-root-port'/>
<controller type='pci' index='4' model='pcie-root-port'/><controller type='pci' index='5' model='pcie-root-port'/>
<controller type='pci' index='6' model='pcie-root-port'/><controller type='pci' index='7' model='pcie-root-port'/>
<interface type='bridge'><mac address='{}'/><source bridge='virbr2'/><model type='virtio'/></interface>
<interface type='ethernet'><mac address='{}'/><target dev='t-node-1' managed='no'/><model type='virtio'/></interface>{more}
<serial type='null'/><serial type='null'/></devices>{NO_VECTORS}</domain>",
        kernel.display(),
        initramfs.display(),
        MACS[0],
        MACS[1]
    )
}

/// The address a lease gave to a MAC address; `name` is the guest's, which one lease of a network has.
fn leased(world: &World, network: &str, mac: &str, name: &str) -> String {
    until(&format!("a lease of {network} for {mac}"), 60, || {
        let leases = world.works(&["net-dhcp-leases", network]);
        let line = leases.lines().find(|line| line.contains(mac) && line.contains(name))?.to_owned();
        let word = line.split_whitespace().find(|word| word.starts_with("192.168."))?;
        word.split('/').next().map(str::to_owned)
    })
}

#[test]
fn a_guest_of_libvirt_is_plugged_in_and_hot_plugged() {
    let missing = ["/usr/sbin/libvirtd", "/usr/bin/virsh", "/usr/bin/setpriv"];
    if let Some(missing) = missing.iter().find(|program| !Path::new(program).exists()) {
        return println!("skipped: there is no {missing}");
    }
    let image = match Image::get() {
        Ok(image) => image,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let options = &["--group", USER];
    let setup = Setup { workers: 2, tools: &["ping"], daemon_options: options, ..Setup::default() };
    let Some(world) = World::new(&setup) else { return };
    world.start_network("natntw", &xml::natntw());
    world.start_network("hostntw", &xml::hostntw());
    let session = Session::start(&world);
    let (kernel, initramfs) = (world.path("session/vmlinuz"), world.path("session/initramfs"));
    fs::copy(&image.kernel, &kernel).expect("kernel");
    fs::copy(&image.initramfs, &initramfs).expect("initramfs");
    let _ =
        pontoon_netns_tests::run(&["chmod", "a+r", &kernel.to_string_lossy(), &initramfs.to_string_lossy()]);
    world.ip("host", &format!("tuntap add t-node-1 mode tap user {USER} vnet_hdr"));
    let words =
        ["attach-interface", "node-1", "network", "natntw", "--kind", "adopt", "--target", "t-node-1"];
    let _ = world.works(&words);
    // In the directory whose sockets the group may use.
    let sockets = ["node-1.vhost", "node-1.hot"].map(|name| world.path("run/ports").join(name));
    for socket in &sockets {
        let path = socket.to_string_lossy().into_owned();
        let words =
            ["attach-interface", "node-1", "network", "natntw", "--kind", "vhostuser", "--socket", &path];
        let _ = world.works(&words);
    }
    let card = |number: usize| vhost_user(&sockets[number], MACS[3 + number]);
    let file = world.file("domain.xml", &domain(&kernel, &initramfs, &card(0)));
    let _ = session.virsh(&["create", &file]).expect_ok("virsh create");

    let (inside, outside) =
        (leased(&world, "hostntw", MACS[0], "node-1"), leased(&world, "natntw", MACS[1], ""));
    // Of its cards on natntw the first one to ask has the name.
    let shared = leased(&world, "natntw", MACS[3], "");
    assert!(world.works(&["net-dhcp-leases", "natntw"]).contains("node-1"));
    assert!(world.pings("host", &inside) && world.pings("host", &outside));
    let plug =
        ["attach-interface", "node-1", "bridge", "virbr1", "--model", "virtio", "--mac", MACS[2], "--live"];
    let _ = session.virsh(&plug).expect_ok("virsh attach-interface");
    let hot = leased(&world, "natntw", MACS[2], "");
    assert!(world.pings("host", &hot), "hot-plugged without a restart");
    let _ = session
        .virsh(&["detach-interface", "node-1", "bridge", "--mac", MACS[2], "--live"])
        .expect_ok("detach");
    until("its interface is gone", 20, || (!world.pings("host", &hot)).then_some(()));
    until("pontoon knows it", 20, || {
        (!world.works(&["net-port-list", "natntw", "--details"]).contains(MACS[2])).then_some(())
    });

    assert!(world.pings("host", &shared), "over vhost-user");
    let plug = world.file("card.xml", &card(1));
    let _ = session.virsh(&["attach-device", "node-1", &plug, "--live"]).expect_ok("virsh attach-device");
    let hot = leased(&world, "natntw", MACS[4], "");
    assert!(world.pings("host", &hot), "hot-plugged over vhost-user");
    let words = ["detach-interface", "node-1", "vhostuser", "--mac", MACS[4], "--live"];
    let _ = session.virsh(&words).expect_ok("detach");
    until("its interface is gone", 20, || (!world.pings("host", &hot)).then_some(()));
    assert!(world.pings("host", &shared), "the other one stays");
    let _ = session.virsh(&["destroy", "node-1"]).expect_ok("virsh destroy");
}
