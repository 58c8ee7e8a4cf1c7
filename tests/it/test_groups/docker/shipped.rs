//! The content of the images, and their own descriptions.

use serde_json::Value;

use super::{docker, told};

fn image(name: &str) -> Value {
    let told = told(&["image", "inspect", &format!("runner-resource-collector/{name}")]);
    serde_json::from_str::<Value>(&told).unwrap()[0]["Config"].clone()
}

#[test]
fn an_image_is_one_program_without_a_user_of_its_own() {
    for (name, files) in [
        ("receiver", &["bin/receiver", "data/"][..]),
        ("collector", &["bin/collector", "etc/ssl/certs/ca-certificates.crt"]),
    ] {
        let config = image(name);
        assert_eq!(config["User"], "65532:65532", "{name}");
        assert_eq!(config["Entrypoint"][0], format!("/bin/{name}"));
        assert_eq!(config["Labels"]["org.opencontainers.image.title"], name);
        assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "MIT OR Apache-2.0");
        let container = told(&["create", &format!("runner-resource-collector/{name}")]);
        let export = format!("docker export {container} | tar -t");
        let listed = std::process::Command::new("sh").args(["-c", &export]).output().unwrap();
        docker(&["rm", "--volumes", &container]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        // Files that the engine adds to every container.
        let own = [
            "dev/",
            "proc/",
            "sys/",
            "etc/hostname",
            "etc/hosts",
            "etc/mtab",
            "etc/resolv.conf",
            ".dockerenv",
        ];
        let left: Vec<_> = listed
            .lines()
            .filter(|path| *path != "etc/" && !own.iter().any(|own| path.starts_with(own)))
            .filter(|path| {
                !files.iter().any(|file| file == path || (path.ends_with('/') && file.starts_with(path)))
            })
            .collect();
        assert!(left.is_empty(), "{name}: {left:?}");
        for file in files {
            assert!(listed.lines().any(|path| path == *file), "{name}: no {file} in {listed}");
        }
    }
    assert_eq!(image("receiver")["Healthcheck"]["Test"][2], "health");
}

#[test]
fn programs_run_without_anything_but_themselves() {
    for name in ["receiver", "collector"] {
        let image = format!("runner-resource-collector/{name}");
        let restricted = ["--rm", "--read-only", "--cap-drop=ALL", "--network=none"];
        let version = told(&[&["run"], &restricted[..], &[&image, "--version"]].concat());
        assert_eq!(version, format!("{name} {}", env!("CARGO_PKG_VERSION")));
    }
}
