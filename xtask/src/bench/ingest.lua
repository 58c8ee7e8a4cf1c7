-- wrk's requests: summaries of some 2 KB, each of a run of its own, or a group of metrics of the same size.

-- In the one state that starts the threads; each of those has a state of its own.
local threads = 0
function setup(thread)
    thread:set("identity", threads)
    threads = threads + 1
end

function init(arguments)
    count = 0
    target, token, template, name = arguments[1], arguments[2], arguments[3], arguments[4]
    local file = assert(io.open(template))
    body = file:read("*a")
    file:close()
    if target == "receiver" then
        headers = { ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. token }
    else
        headers = { ["Content-Type"] = "text/plain" }
    end
end

function request()
    count = count + 1
    if target == "receiver" then
        local id = name .. "-" .. identity .. "-" .. count
        return wrk.format("POST", "/api/v1/metrics", headers, (body:gsub("RUN", id)))
    end
    local group = (count * 2 + identity) % 1000
    return wrk.format("PUT", "/metrics/job/ci/run/" .. group, headers, body)
end

function done(summary, latency)
    local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
    io.write(string.format(
        '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "failed": %d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed))
end
