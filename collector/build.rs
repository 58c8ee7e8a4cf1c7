//! Embeds the eBPF object that `COLLECTOR_BPF_OBJECT` names; without it the collector reads /proc alone.

use std::path::PathBuf;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(bpf_object)");
    println!("cargo::rerun-if-env-changed=COLLECTOR_BPF_OBJECT");
    let Some(object) = std::env::var_os("COLLECTOR_BPF_OBJECT").filter(|path| !path.is_empty()) else {
        return;
    };
    let object = PathBuf::from(object);
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    match std::fs::copy(&object, out.join("collector-ebpf")) {
        Ok(_) => {
            println!("cargo::rerun-if-changed={}", object.display());
            println!("cargo::rustc-cfg=bpf_object");
        }
        Err(error) => println!("cargo::error=COLLECTOR_BPF_OBJECT={}: {error}", object.display()),
    }
}
