//! The records that the eBPF program and the collector share: integers only, padding explicit, sizes asserted.
#![no_std]
