//! The eBPF program on the real kernel, as root: what it tells against the kernel's own books.
