-- Requests that become jobs, each a new one: `request` or `chain`, as the first argument says.

local kind

function init(arguments)
    kind = arguments[1]
    math.randomseed(os.time())
end

local function uuid()
    return string.format("%08x-%04x-4%03x-8%03x-%06x%06x", math.random(0, 0x7fffffff), math.random(0, 0xffff),
        math.random(0, 0xfff), math.random(0, 0xfff), math.random(0, 0xffffff), math.random(0, 0xffffff))
end

function request()
    local headers = { ["Content-Type"] = "text/plain" }
    if kind == "chain" then
        headers["X-Forward-Id"] = uuid()
        headers["X-Forward-Errors-To"] = "http://bench/errors"
        headers["X-Forward-Referer"] = "ORIGIN"
        headers["X-Forward-To"] = "http://bench/one, http://bench/two, http://bench/three"
        headers["X-Forward-Query-Params"] = "a=1, , "
        headers["X-Forward-Method"] = "POST, POST, PUT"
    else
        headers["Prefer"] = "respond-async"
    end
    return wrk.format("POST", nil, headers, "some text")
end

function done(summary, latency)
    local e = summary.errors
    print(string.format('{"requests": %d, "duration_us": %d, "errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}}',
        summary.requests, summary.duration, e.connect, e.read, e.write, e.timeout, e.status))
end
