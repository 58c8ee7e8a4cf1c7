//! The eBPF program; see `program`. Built for any other target, it does nothing.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod program;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("collector-ebpf: this program runs in the kernel; cargo xtask build-ebpf builds it for that");
}
