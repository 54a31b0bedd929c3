//! Seeds that once found a mistake. Each is named after what went wrong.

use sim::scenario;

fn play(seeds: &[u64]) {
    for seed in seeds {
        if let Err(failure) = scenario::play(*seed) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_child_takes_keys_from_a_parent_that_lags_behind_a_publishing_run() {
    play(&[685]);
}

#[test]
fn what_a_new_run_loses_at_its_head_is_asked_for() {
    play(&[63, 91, 129]);
}

#[test]
fn an_expected_first_packet_is_not_taken_for_received() {
    play(&[768, 954, 1213]);
}

#[test]
fn a_frame_repaired_after_a_replay_has_its_own_timestamp() {
    play(&[32, 54, 106, 134]);
}
