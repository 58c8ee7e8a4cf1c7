//! Checkpoints: a file is either refused or makes a summary that can be pushed, with or without a valid checksum.
#![no_main]

use collector::deliver::checkpoint::{Checkpoint, Encoder};

libfuzzer_sys::fuzz_target!(|content: &[u8]| {
    let _ = Checkpoint::decode(content);
    let Some(end) = content.len().checked_sub(4) else { return };
    let mut sealed = content[..end].to_vec();
    sealed.extend(collector::deliver::checkpoint::checksum(&sealed).to_le_bytes());
    let Ok(checkpoint) = Checkpoint::decode(&sealed) else { return };
    let payload = checkpoint.payload();
    let json = serde_json::to_vec(&payload).expect("JSON");
    let _: wire::Payload = serde_json::from_slice(&json).expect("what was written can be read");
    let (mut encoder, _) = Encoder::begin(&checkpoint.head, &checkpoint.accumulator).expect("a head");
    while encoder.next(&checkpoint.accumulator).expect("a block").is_some() {}
});
