//! virsh's commands that are not about networks, to say so instead of not knowing them.

const FOREIGN: &str = "\
allocpages attach-disk autostart backup-begin backup-dumpxml blkdeviotune blkiotune blockcommit \
blockcopy blockjob blockpull blockresize capabilities change-media checkpoint-create checkpoint-create-as \
checkpoint-delete checkpoint-dumpxml checkpoint-edit checkpoint-info checkpoint-list checkpoint-parent console \
cpu-baseline cpu-compare cpu-models cpu-stats create define desc destroy detach-device-alias \
detach-disk dom-fd-associate domblkerror domblkinfo domblklist domblkstat domblkthreshold domcapabilities \
domcontrol domdirtyrate-calc domdisplay domdisplay-reload domfsfreeze domfsinfo domfsthaw domfstrim domhostname \
domid dominfo domjobabort domjobinfo domlaunchsecinfo dommemstat domname dompmsuspend dompmwakeup domrename \
domsetlaunchsecstate domstate domstats domtime domuuid domxml-from-native domxml-to-native dump dumpxml edit \
emulatorpin event find-storage-pool-sources find-storage-pool-sources-as freecell freepages get-user-sshkeys \
guest-agent-timeout guestinfo guestvcpus hostname hypervisor-cpu-baseline hypervisor-cpu-compare iface-begin \
iface-bridge iface-commit iface-define iface-destroy iface-dumpxml iface-edit iface-list iface-mac iface-name \
iface-rollback iface-start iface-unbridge iface-undefine inject-nmi iothreadadd iothreaddel iothreadinfo \
iothreadpin iothreadset list lxc-enter-namespace managedsave managedsave-define managedsave-dumpxml \
managedsave-edit managedsave-remove maxvcpus memtune metadata migrate migrate-compcache migrate-getmaxdowntime \
migrate-getspeed migrate-postcopy migrate-setmaxdowntime migrate-setspeed node-memory-tune nodecpumap \
nodecpustats nodedev-autostart nodedev-create nodedev-define nodedev-destroy nodedev-detach nodedev-dettach \
nodedev-dumpxml nodedev-event nodedev-info nodedev-list nodedev-reattach nodedev-reset nodedev-start \
nodedev-undefine nodedev-update nodeinfo nodememstats nodesevinfo nodesuspend numatune nwfilter-binding-create \
nwfilter-binding-delete nwfilter-binding-dumpxml nwfilter-binding-list nwfilter-define nwfilter-dumpxml \
nwfilter-edit nwfilter-list nwfilter-undefine perf pool-autostart pool-build pool-capabilities pool-create \
pool-create-as pool-define pool-define-as pool-delete pool-destroy pool-dumpxml pool-edit pool-event pool-info \
pool-list pool-name pool-refresh pool-start pool-undefine pool-uuid qemu-agent-command qemu-attach \
qemu-monitor-command qemu-monitor-event reboot reset restore resume save save-image-define save-image-dumpxml \
save-image-edit schedinfo screenshot secret-define secret-dumpxml secret-event secret-get-value secret-list \
secret-set-value secret-undefine send-key send-process-signal set-lifecycle-action set-user-password \
set-user-sshkeys setmaxmem setmem setvcpu setvcpus shutdown snapshot-create snapshot-create-as snapshot-current \
snapshot-delete snapshot-dumpxml snapshot-edit snapshot-info snapshot-list snapshot-parent snapshot-revert start \
suspend sysinfo ttyconsole undefine update-memory-device uri vcpucount vcpuinfo vcpupin version vncdisplay \
vol-clone vol-create vol-create-as vol-create-from vol-delete vol-download vol-dumpxml vol-info vol-key vol-list \
vol-name vol-path vol-pool vol-resize vol-upload vol-wipe";

/// Whether virsh has this command and pontoon does not.
pub(crate) fn is_foreign(name: &str) -> bool {
    FOREIGN.split(' ').any(|known| known == name)
}

/// How many edits make one word of the other; beyond `limit` nobody needs to know.
fn distance(one: &str, other: &str, limit: usize) -> Option<usize> {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last = None;
    for (i, c) in one.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, d) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&row, j) + usize::from(c != *d)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            // Two letters changed places.
            if j > 0 && last == Some(*d) && other.get(j - 1) == Some(&c) {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(c);
    }
    row.last().copied().filter(|edits| *edits <= limit)
}

/// The known word nearest to a mistyped one, when one is near.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // What many words begin with, `net-`, says nothing about this one.
    let telling = word.rsplit('-').next().unwrap_or(word);
    let limit = (telling.chars().count() / 3).clamp(1, 3);
    let near = known.filter(|known| *known != word);
    let near = near.filter_map(|known| distance(word, known, limit).map(|edits| (edits, known)));
    near.min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let known = ["net-list", "net-start", "net-undefine", "default"];
        let near = |word| nearest(word, known.into_iter());
        assert_eq!(near("net-lsit"), Some("net-list"));
        assert_eq!(near("net-strat"), Some("net-start"));
        assert_eq!(near("defualt"), Some("default"));
        assert_eq!(near("net-undefin"), Some("net-undefine"));
        assert_eq!(near("nosuch"), None);
        assert_eq!(near("net-zest"), None);
        assert_eq!(near(""), None);
    }

    #[test]
    fn foreign_commands_are_virsh_s_others() {
        assert!(is_foreign("list") && is_foreign("vol-wipe") && is_foreign("allocpages"));
        assert!(!is_foreign("net-list") && !is_foreign("attach-interface") && !is_foreign("nope"));
    }
}
