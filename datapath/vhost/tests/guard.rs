//! Apart from other tests, because the slots are the process's.

use pontoon_vhost::guard::{Guard, MAX_MAPPINGS};

#[test]
fn slots_run_out_and_are_given_back() {
    let guard = |number: usize| Guard::new((number + 1) * 8192, 4096);
    let guards: Vec<Guard> = (0..MAX_MAPPINGS).map_while(guard).collect();
    assert_eq!(guards.len(), MAX_MAPPINGS);
    assert!(guard(MAX_MAPPINGS).is_none() && guards.iter().all(|guard| !guard.is_hit()));
    drop(guards);
    assert!(guard(0).is_some());
}
