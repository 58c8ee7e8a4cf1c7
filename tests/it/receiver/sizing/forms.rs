//! The formats of an answer, and refused requests.

use serde_json::json;
use tests::receiver::READ_TOKEN;

use super::{JOB, MIB, Scene, container, run};

#[test]
fn each_form_says_the_same() {
    let scene = Scene::with_peaks(&[500, 600, 550]);
    let resources = scene.yaml(&format!("{JOB}?max_step_down=25&format=yaml"));
    let expected = json!({
        "name": "runner",
        "resources": {"requests": {"cpu": "3", "memory": "768Mi"}, "limits": {"memory": "768Mi"}}
    });
    assert_eq!(resources, json!({"containers": [expected]}));
    let patch = scene.yaml(&format!("{JOB}?max_step_down=25&format=patch"));
    assert_eq!(
        patch,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "build"},
            "spec": {"template": {"spec": {"containers": [expected]}}}
        })
    );
    let cron = scene.yaml(&format!("{JOB}?max_step_down=25&format=patch&kind=CronJob&name=nightly.ci"));
    assert_eq!(cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0], expected);
    assert_eq!((&cron["apiVersion"], &cron["metadata"]["name"]), (&json!("batch/v1"), &json!("nightly.ci")));

    let limits = scene.get(&format!("{JOB}?max_step_down=25&format=limits&cpu_limit_percentile=99"));
    let parsed = collector::config::limits::parse(&limits.body).unwrap();
    assert_eq!(parsed["runner"].memory_bytes, Some(768 * MIB));
    assert_eq!(parsed["runner"].cpu_cores, Some(3.0), "no limit is below the request");
    assert_eq!(parsed["runner"].requests.cpu_cores, Some(3.0));
    assert_eq!(parsed["runner"].requests.memory_bytes, Some(768 * MIB));

    let markdown = scene.get(&format!("{JOB}?max_step_down=25&format=markdown"));
    assert_eq!(markdown.header("content-type"), Some("text/markdown; charset=utf-8"));
    assert!(markdown.body.contains("| runner | 3 | 4.00 cores | 768Mi | 1.0 GiB | 3 |"), "{}", markdown.body);
    // The header selects the format, too.
    let accepted = tests::http::raw(
        &scene.receiver.address,
        format!(
            "GET {JOB} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {READ_TOKEN}\r\n\
             accept: text/html;q=0.9, application/yaml\r\nconnection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!(accepted.header("content-type"), Some("application/yaml"));
    assert_eq!(accepted.header("vary"), Some("accept"));
}

#[test]
fn gitlab_gets_its_variables_by_the_names_of_its_containers() {
    let scene = Scene::new();
    for at in 0..3 {
        let containers = [
            container("build", 1.0, 900),
            container("helper", 0.1, 850),
            container("svc-0", 2.8, 800),
            container("svc-1", 0.1, 880),
        ];
        scene.push(&run("build", &at.to_string(), &containers));
    }
    let variables = scene.yaml(&format!("{JOB}?format=gitlab&max_step_down=100"));
    assert_eq!(
        variables,
        json!({"variables": {
            "KUBERNETES_CPU_REQUEST": "1150m",
            "KUBERNETES_MEMORY_REQUEST": "1Gi", "KUBERNETES_MEMORY_LIMIT": "1Gi",
            "KUBERNETES_HELPER_CPU_REQUEST": "115m",
            "KUBERNETES_HELPER_MEMORY_REQUEST": "1Gi", "KUBERNETES_HELPER_MEMORY_LIMIT": "1Gi",
            "KUBERNETES_SERVICE_CPU_REQUEST": "3220m",
            "KUBERNETES_SERVICE_MEMORY_REQUEST": "1Gi", "KUBERNETES_SERVICE_MEMORY_LIMIT": "1Gi",
        }}),
        "a change of less than 10 % is none"
    );
    let none = Scene::with_peaks(&[500, 600, 550]);
    assert_eq!(none.yaml(&format!("{JOB}?format=gitlab")), json!({"variables": {}}));
}

#[test]
fn hostile_names_stay_names() {
    let scene = Scene::new();
    let names = ["x: y\u{2028}- name: evil", "<script>alert(1)</script>|`x`", "\u{202e}dlrow", "ok"];
    let run_id = "1 \u{2028}  image: evil <b>";
    for _ in 0..3 {
        let containers: Vec<_> = names.iter().map(|name| container(name, 1.0, 900)).collect();
        scene.push(&run("a\u{85}b".replace('\u{85}', "\u{2029}").as_str(), run_id, &containers));
    }
    let path = "/api/v1/sizing/repo/my-org/my-repo/ci.yml/a%E2%80%A9b";
    assert_eq!(scene.json(path)["containers"].as_array().unwrap().len(), 4);
    for format in ["yaml", "patch"] {
        let yaml = scene.yaml(&format!("{path}?format={format}"));
        let containers = if format == "yaml" { &yaml } else { &yaml["spec"]["template"]["spec"] };
        let containers = containers["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{yaml:#}");
        assert_eq!(containers[0]["name"], "ok");
        assert_eq!(containers[0].as_object().unwrap().len(), 2, "{yaml:#}");
    }
    assert_eq!(scene.yaml(&format!("{path}?format=gitlab")), json!({"variables": {}}));
    let limits = collector::config::limits::parse(&scene.get(&format!("{path}?format=limits")).body).unwrap();
    assert_eq!(limits.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), names.into());
    let markdown = scene.get(&format!("{path}?format=markdown")).body;
    assert!(!markdown.contains("<script") && !markdown.contains("<b>") && !markdown.contains('\u{202e}'));
    let table = markdown.lines().find(|line| line.contains("script")).unwrap();
    assert_eq!(table.matches('|').count() - table.matches("\\|").count(), 7, "{table}");
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let scene = Scene::with_peaks(&[500]);
    for (query, field) in [
        ("runs=0", "runs"),
        ("runs=1001", "runs"),
        ("runs=20&runs=20", "runs"),
        ("runs=2", "min_runs"),
        ("since=yesterday", "since"),
        ("cpu_percentile=0", "cpu_percentile"),
        ("cpu_percentile=NaN", "cpu_percentile"),
        ("cpu_limit_percentile=50", "cpu_limit_percentile"),
        ("memory_margin=-1", "memory_margin"),
        ("oom_factor=0.9", "oom_factor"),
        ("oom_bytes=100MB", "oom_bytes"),
        ("cpu_floor=0", "cpu_floor"),
        ("cpu_cap=1m", "cpu_cap"),
        ("memory_cap=1Mi", "memory_cap"),
        ("max_step_down=101", "max_step_down"),
        ("price_core_hour=inf", "price_core_hour"),
        ("format=xml", "format"),
        ("kind=Service", "kind"),
        ("name=A", "name"),
        ("name=a%0Ab", "name"),
        ("nonsense=1", "nonsense"),
    ] {
        let answer = scene.get(&format!("{JOB}?{query}"));
        assert_eq!(
            (answer.status, &answer.json()["field"]),
            (422, &json!(field)),
            "{query}: {}",
            answer.body
        );
    }
    let detail = scene.get(&format!("{JOB}?nonsense=1")).json()["detail"].as_str().unwrap().to_owned();
    let parameters = scene.json(JOB)["parameters"].as_object().unwrap().clone();
    for name in parameters.keys().map(String::as_str).chain(["format", "name", "kind", "price_gib_hour"]) {
        assert!(detail.contains(name), "{name}: {detail}");
    }
    assert_eq!(scene.receiver.request("GET", JOB, "", "").status, 401);
    assert_eq!(scene.receiver.request("GET", JOB, "wrong-token", "").status, 401);
    assert_eq!(scene.receiver.request("POST", JOB, READ_TOKEN, "{}").status, 405);
    assert_eq!(scene.get("/api/v1/sizing/repo/my-org/my-repo/ci.yml/%0A").status, 422);
    let unacceptable = tests::http::raw(
        &scene.receiver.address,
        format!(
            "GET {JOB} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {READ_TOKEN}\r\naccept: image/png\r\n\
             connection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!(unacceptable.status, 406, "{}", unacceptable.body);
}
