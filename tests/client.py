"""A client of the receiver in plain Python, written from the README alone: makes a token, pushes, asks."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

base, read_token = sys.argv[1:]


def call(method, url, token, body=None):
    request = urllib.request.Request(url, method=method)
    request.add_header("Authorization", f"Bearer {token}")
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, data, timeout=30) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.load(error)


scope = {"organization": "my-org", "repository": "my-org/my-repo", "workflow": "ci.yml", "job": "build"}
_, _, made = call("POST", f"{base}/api/v1/token", read_token, scope)
push_token = made["token"]


def push(run, seq, final=True, seconds=20.0):
    stats = {"peak": 2.0, "avg": 1.5}
    body = {
        **scope,
        "run_id": f"run-{run}",
        "summary_id": f"summary-{run}",
        "seq": seq,
        "final": final,
        "payload": {
            "start_time": "2026-02-06T14:30:02Z",
            "end_time": "2026-02-06T14:30:22Z",
            "duration_seconds": seconds,
            "sample_count": 11,
            "containers": [{"name": "runner", "cpu_cores": stats, "memory_bytes": stats}],
        },
    }
    return call("POST", f"{base}/api/v1/metrics", push_token, body)


told = {"created": push(1, 2)[0], "repeated": push(1, 2)[0], "conflict": push(1, 2, seconds=21.0)[0]}
told["superseded"] = push(1, 1, final=False)[2]["superseded"]
for run in range(2, 8):
    push(run, 1)

path = "/".join(urllib.parse.quote(part, safe="") for part in ("my-org", "my-org/my-repo", "ci.yml", "build"))
_, headers, runs = call("GET", f"{base}/api/v1/metrics/repo/{path}?limit=3", read_token)
told["stored"] = [int(run["run_id"].split("-")[1]) for run in runs]
link = {name.lower(): value for name, value in headers.items()}["link"]
following = link[link.index("<") + 1 : link.index(">")]
_, _, runs = call("GET", urllib.parse.urljoin(base, following), read_token)
told["next_page"] = [int(run["run_id"].split("-")[1]) for run in runs]
print(json.dumps(told))
