"""What the description of the API cannot say, told to Schemathesis.

Secrets and the address come from the environment: RECEIVER_READ_TOKEN, RECEIVER_PUSH_TOKEN (for `ORGANIZATION`).
"""

import os
import random

import schemathesis
from urllib3.util import connection

READ_TOKEN = os.environ["RECEIVER_READ_TOKEN"]
PUSH_TOKEN = os.environ["RECEIVER_PUSH_TOKEN"]
ORGANIZATION = "my-org"
JOB = {"organization": ORGANIZATION, "repository": "my-repo", "workflow": "ci.yml", "job": "build"}
PUSH = "/api/v1/metrics"
CHECK = "/api/v1/push-check"

# What the `Link` of a page says, by path and order: no schema can say what is a place in a list.
CURSORS = {
    "/api/v1/organizations": "my%2Dorg",
    "/api/v1/repositories": "my%2Dorg/my%2Drepo",
    "/api/v1/workflows": "my%2Dorg/my%2Drepo/ci%2Eyml",
    "waste": "0.5:1",
    "risk": ":1",
    "last_run": "3",
    "name": "my%2Dorg/my%2Drepo/ci%2Eyml/build",
}


connect = connection.create_connection
# Not that of the module, which is part of what a seed repeats.
addresses = random.Random(0)


def connect_from_anywhere(address, *arguments, **options):
    """Answers to wrong tokens are held longer and longer, for each address: hundreds of them come from hundreds."""
    options["source_address"] = (f"127.{addresses.randrange(256)}.{addresses.randrange(256)}.{addresses.randrange(1, 255)}", 0)
    return connect(address, *arguments, **options)


connection.create_connection = connect_from_anywhere


def takes_push_token(case):
    return case.path in (PUSH, CHECK)


# What `get` returns is kept: a token for each of the two kinds.
@schemathesis.auth(cache_by_key=lambda case, context: str(takes_push_token(case)))
class Token:
    """The push token where something is pushed, the read token everywhere else."""

    def get(self, case, context):
        return PUSH_TOKEN if takes_push_token(case) else READ_TOKEN

    def set(self, case, data, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}", "Connection": "close"}


@schemathesis.hook
def before_call(context, case, kwargs):
    """What is sent to be accepted must be about what there is, and make sense beyond what a schema can say."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    # The same case is always sent in the same way.
    choice = random.Random(repr((case.path, case.path_parameters, case.query)))
    path, query = case.path_parameters or {}, case.query or {}
    if "job" in path and choice.random() < 0.5:
        path.update(JOB)
    if "id" in path and choice.random() < 0.5:
        path["id"] = choice.randrange(1, 6)
    for name in ("a", "b"):
        if name in query and choice.random() < 0.5:
            query[name] = choice.randrange(1, 6)
    if "after" in query:
        key = query.get("sort", "waste") if case.path == "/api/v1/jobs" else case.path
        query["after"] = CURSORS[key]
    if case.path.startswith("/api/v1/sizing/"):
        agree(query)
    if case.path == CHECK:
        make_prefix(query)
    if isinstance(case.body, dict):
        case.body = whole(case.body)
        if case.path == PUSH:
            make_sense(case.body)


def agree(query):
    """Of two parameters that must agree, one leaves room for every value of the other."""
    if "runs" in query:
        query["min_runs"] = 1
    elif "min_runs" in query:
        query["runs"] = 1000
    for given, other, room in (
        ("cpu_limit_percentile", "cpu_percentile", 1),
        ("cpu_cap", "cpu_floor", "1n"),
        ("memory_cap", "memory_floor", "1"),
    ):
        if given in query:
            query[other] = room


def make_prefix(query):
    """A scope that the token is for; only trailing parts may be left out."""
    query["organization"] = ORGANIZATION
    parts = ("repository", "workflow", "job")
    for part, next_part in zip(parts, parts[1:]):
        if part not in query:
            query.pop(next_part, None)


def whole(value):
    """A schema takes 90.0 for an integer; whoever counts writes 90."""
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def make_sense(body):
    """A summary of the scope that the token is for, which ends no sooner than it begins, its histograms in order."""
    body["organization"] = ORGANIZATION
    payload = body["payload"]
    payload["end_time"] = payload["start_time"]
    for container in payload.get("containers") or []:
        histogram = dict(container.get("cpu_cores_histogram") or [])
        if histogram:
            container["cpu_cores_histogram"] = [[bucket, histogram[bucket]] for bucket in sorted(histogram)]
