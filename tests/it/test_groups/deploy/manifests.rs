//! The manifests, built as `kubectl apply -k` builds them.

use std::process::Command;

use serde_json::Value;

use super::{assert_taken, assert_variables, read, root, tool, yaml};

/// The oldest, middle and newest version with a known schema.
const VERSIONS: [&str; 3] = ["1.25", "1.31", "1.37"];
/// Native sidecars need 1.29 or later.
const NATIVE: [&str; 3] = ["1.29", "1.31", "1.37"];
const IMAGES: &str = "runner-resource-collector/";

/// A directory with a kustomization, and the versions that it supports.
const KUSTOMIZATIONS: [(&str, [&str; 3]); 7] = [
    ("receiver", VERSIONS),
    ("node", VERSIONS),
    ("sidecar", NATIVE),
    ("sidecar-classic", VERSIONS),
    ("sidecar-same-user", NATIVE),
    ("overlays/try", VERSIONS),
    ("overlays/tls", VERSIONS),
];

fn built(directory: &str) -> String {
    let path = root().join("deploy/kubernetes").join(directory);
    let output = Command::new(tool("kustomize")).arg("build").arg(path).output().unwrap();
    assert!(output.status.success(), "{directory}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A schema's error about a manifest. Unknown fields are errors as well.
fn refusal(manifest: &str, version: &str) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, manifest).unwrap();
    let mut validate = Command::new(tool("kubernetes-validate"));
    let output = validate.args(["--strict", "-k", version]).arg(file.path()).output().unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then_some(told)
}

#[track_caller]
fn assert_valid(manifest: &str, versions: &[&str], from: &str) {
    for version in versions {
        assert_eq!(refusal(manifest, version), None, "{from}, Kubernetes {version}");
    }
}

/// All containers of a pod's spec, including init containers.
fn containers(specification: &Value) -> Vec<&Value> {
    let of = |list: &str| specification[list].as_array().into_iter().flatten();
    of("initContainers").chain(of("containers")).collect()
}

/// The pod specs in a text of manifests.
fn pods(manifests: &str) -> Vec<Value> {
    let pods = yaml(manifests).into_iter().map(|one| one["spec"]["template"]["spec"].clone());
    pods.filter(Value::is_object).collect()
}

#[test]
fn manifests_are_valid_in_three_versions() {
    for (directory, versions) in KUSTOMIZATIONS {
        assert_valid(&built(directory), &versions, directory);
    }
    for runner in ["forgejo-runner.yaml", "gitea-act-runner.yaml"] {
        assert_valid(&read(format!("deploy/runners/{runner}")), &VERSIONS, runner);
    }
    // Values of another project's chart: it copies them into the pod unchanged.
    for values in ["arc-kubernetes.yaml", "arc-dind.yaml"] {
        let values = &yaml(&read(format!("deploy/runners/{values}")))[0];
        let mut pod = values["template"].clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"] = serde_json::json!({"name": "runner"});
        assert_valid(&pod.to_string(), &VERSIONS, "the chart's template");
    }
}

#[test]
fn a_misspelt_field_would_be_found() {
    let wrong = built("receiver").replace("readOnlyRootFilesystem", "readOnlyRootFileSystem");
    assert!(refusal(&wrong, "1.31").unwrap().contains("readOnlyRootFileSystem"));
    assert!(refusal(&built("sidecar"), "1.25").unwrap().contains("restartPolicy"));
}

#[test]
fn the_programs_take_every_argument_and_variable() {
    let mut found = 0;
    for (directory, _) in KUSTOMIZATIONS {
        for pod in pods(&built(directory)) {
            for container in containers(&pod) {
                let Some(image) = container["image"].as_str().unwrap().strip_prefix(IMAGES) else { continue };
                // Without a tag, or with `latest`, a node pulls every time and never uses an image that was loaded.
                let (name, tag) = image.split_once(':').unwrap();
                assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{directory}");
                let words = container["args"].as_array().into_iter().flatten();
                let words: Vec<_> = words.map(|word| word.as_str().unwrap().to_owned()).collect();
                assert_taken(name, &words, directory);
                let names = container["env"].as_array().into_iter().flatten();
                let names: Vec<_> = names.map(|one| one["name"].as_str().unwrap()).collect();
                assert_variables(&names.join(" "), directory);
                found += 1;
            }
        }
    }
    assert_eq!(found, 8);
}

/// Kubernetes refuses a `StatefulSet` with changed claims. A changed name or namespace means another object, and so another
/// volume.
#[test]
fn what_was_tried_is_kept_by_what_follows() {
    let objects = |directories: &[&str]| {
        let all = directories.iter().flat_map(|directory| yaml(&built(directory)));
        let mut objects: Vec<Value> = all.filter(|object| object["kind"] != "Secret").collect();
        objects.sort_by_key(|object| (object["kind"].to_string(), object["metadata"]["name"].to_string()));
        objects
    };
    let mut tried = objects(&["overlays/try"]);
    let kept = objects(&["receiver", "node"]);
    assert!(kept.iter().any(|object| object["kind"] == "StatefulSet"));
    assert_ne!(tried, kept, "the secrets of a trial are not taken over");
    for object in &mut tried {
        let volumes = object.pointer_mut("/spec/template/spec/volumes").and_then(Value::as_array_mut);
        for secret in volumes.into_iter().flatten().filter_map(|volume| volume.get_mut("secret")) {
            let name = secret["secretName"].as_str().unwrap();
            let (name, hash) = name.rsplit_once('-').unwrap();
            assert_eq!(hash.len(), 10);
            secret["secretName"] = name.into();
        }
    }
    assert_eq!(tried, kept);
}

#[test]
fn nobody_has_more_rights_than_said() {
    for (directory, _) in KUSTOMIZATIONS {
        for pod in pods(&built(directory)) {
            for container in
                containers(&pod).iter().filter(|one| one["image"].as_str().unwrap().starts_with(IMAGES))
            {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{directory}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{directory}");
                assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]), "{directory}");
                assert_ne!(security["privileged"], true, "{directory}");
                let added = &security["capabilities"]["add"];
                if pod["hostPID"] == true {
                    let enough = serde_json::json!(["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"]);
                    assert_eq!(*added, enough, "{directory}");
                } else {
                    // Also required by the Pod Security Standard `restricted`.
                    assert_eq!(*added, Value::Null, "{directory}");
                    assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{directory}");
                    assert_eq!(
                        pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
                        "{directory}"
                    );
                }
                assert_eq!(pod["automountServiceAccountToken"], false, "{directory}");
            }
        }
    }
}
