-- The world that a script sees: an environment of its own, with Redis's names in it and no way out.
-- Called once with the table of functions that lua.py gives; returns what lua.py calls.
-- Source of what is allowed and of every text: redis src/script_lua.c.

local host = ...
local error, getinfo, getmetatable, ipairs, loadstring, next = error, debug.getinfo, getmetatable, ipairs, loadstring, next
local pairs, pcall, rawget, rawset, select, setfenv, setmetatable = pairs, pcall, rawget, rawset, select, setfenv, setmetatable
local tonumber, tostring, type, unpack, xpcall, collectgarbage = tonumber, tostring, type, unpack, xpcall, collectgarbage
local load = load
local byte, concat, format, gsub, sub = string.byte, table.concat, string.format, string.gsub, string.sub
local find, match = string.find, string.match
local ceil, floor = math.ceil, math.floor

-- Where in the script we are: the innermost function that is neither C nor ours. A tail call forgets who called: then
-- places.py looks for it in the source. `ours` is how many tail calls of our own lie between; `called`: redis.call failed.
local running = "@user_script"

local function place(level, ours, called)
  while true do
    local info = getinfo(level, "Sl")
    if info and info.what == "tail" and ours > 0 then
      ours = ours - 1
    elseif not info or info.what == "tail" then
      return running, host.tail_line(called or false)
    elseif info.what ~= "C" and info.source ~= "=eventdb" then
      return info.source, info.currentline
    end
    level = level + 1
  end
end

-- Raise an error as Lua's own functions do, with the place in front.
local raised, raised_source, raised_line  -- the last one, for `explain`: tail calls of ours hide its place

local function raise(text, ours)
  local source, line = place(3, ours or 0)
  raised, raised_source, raised_line = sub(source, 2) .. ":" .. line .. ": " .. text, source, line
  error(raised, 0)
end

-- One of Lua's own functions, called so that what it refuses has the script's place in front and the name that scripts
-- know it by: called straight from here, it would name our line. Errors that are not its own pass as they are.
local function outcome(name, valid, ...)
  if valid then return ... end
  local text = ...
  if type(text) ~= "string" or text == "not enough memory" then error(text, 0) end
  raise((gsub(text, "'%?'", "'" .. name .. "'")), 2)
end

-- To be returned as it is, and by nothing that is itself called in a `return` of ours: `outcome` counts on two tail calls.
local function through(name, real, ...)
  return outcome(name, pcall(real, ...))
end

-- What may be read and not written: an empty table whose metatable leads to the real one.
local locked = setmetatable({}, {__mode = "k"})

local function refuse()
  error("Attempt to modify a readonly table", 2)
end

local function lock(real)
  local metatable = {__index = real, __newindex = refuse, __metatable = false}
  local proxy = setmetatable({}, metatable)
  locked[proxy] = real
  return proxy, metatable
end

local G = {}
local E = lock(G)
for _, name in ipairs {
  "assert", "error", "gcinfo", "ipairs", "rawequal", "select", "tonumber",
  "tostring", "type", "_VERSION",
} do
  G[name] = _G[name]
end
string.dump = nil
getmetatable("").__metatable = false

-- Random numbers as Redis draws them (src/rand.c): a generator of 48 bits, kept as two halves of 24 so that every
-- product is exact. It starts the same on every server, and a seed gives the same numbers as in Redis.
local random, randomseed = math.random, math.randomseed
local HALF, DRAWN = 2 ^ 24, 2 ^ 31 - 1
local high, low = 0x1234AB, 0xCD330E

local function draw()
  local product = low * 0xECE66D + 0xB
  high = (high * 0xECE66D + low * 0x5DE + floor(product / HALF)) % HALF
  low = product % HALF
  return (high * 128 + floor(low / 2 ^ 17)) % DRAWN / DRAWN
end

-- A number as C's int: cut, and 32 bits of it.
local function int(number)
  number = tonumber(number)
  if not (number > -2 ^ 63 and number < 2 ^ 63) then return 0 end
  return ((number < 0 and ceil(number) or floor(number)) + 2 ^ 31) % 2 ^ 32 - 2 ^ 31
end

local function checked(name, real, ...)
  local valid, text = pcall(real, ...)
  if not valid then raise((gsub(text, "'%?'", "'" .. name .. "'"))) end
end

local replaced = {math = {}, table = {}}
function replaced.math.random(...)
  checked("random", random, ...)
  local first, last = ...
  if first == nil then return draw() end
  if last == nil then return floor(draw() * int(first)) + 1 end
  first, last = int(first), int(last)
  return floor(draw() * (last - first + 1)) + first
end

function replaced.math.randomseed(...)
  checked("randomseed", randomseed, ...)
  local seed = int((...)) % 2 ^ 32
  high, low = floor(seed / 256), seed % 256 * 65536 + 0x330E
end

for name, own in pairs(replaced) do
  for key, value in pairs(_G[name]) do own[key] = own[key] or value end
  G[name] = lock(own)
end

-- What a function that gsub calls has raised has a place already.
local function raised_inside(valid, ...)
  if valid then return ... end
  local text = ...
  for _, own in ipairs {"bad argument ", "malformed pattern", "invalid ", "unfinished capture", "missing '['"} do
    if type(text) == "string" and sub(text, 1, #own) == own then
      raise((gsub(text, "'%?'", "'gsub'")))
    end
  end
  local source, line = match(tostring(text), "^(user_%l+):(%d+): ")
  if source then raised, raised_source, raised_line = text, "@" .. source, tonumber(line) end
  error(text, 0)
end

-- Matching recurses once for each item of a pattern: a longer one could exhaust the stack of C.
local PATTERN_MAX = 4096
local strings = string
for _, name in ipairs {"find", "match", "gmatch", "gfind", "gsub"} do
  local real = strings[name]
  strings[name] = function(...)
    local _, pattern, with = ...
    if type(pattern) == "string" and #pattern > PATTERN_MAX and not (name == "find" and select(4, ...)) then
      raise("pattern too complex")
    end
    if type(with) == "function" then
      local made, count = raised_inside(pcall(real, ...))
      return made, count
    end
    return through(name, real, ...)
  end
end
G.string = lock(strings)

-- Time: a hook looks at the clock now and then. Once the script is stopped every line raises, so no pcall goes on for good.
local sethook, create, resume = debug.sethook, coroutine.create, coroutine.resume
local INSTRUCTIONS = 100000
local stopped_by

local function stop_line()
  if getinfo(2, "S").source ~= "=eventdb" then error({err = stopped_by}) end
end

local function stop(text)
  stopped_by = text
  sethook(stop_line, "l")
end

local function look()
  local text = host.look()
  if text then
    stop(text)
    stop_line()
  end
end

local function thread_of(name, f)
  local valid, thread = pcall(create, f)
  if not valid then raise((gsub(thread, "'%?'", "'" .. name .. "'"))) end
  sethook(thread, look, "", INSTRUCTIONS)  -- hooks are not inherited
  return thread
end

local function resumed(ok, ...)
  local why = ...
  if not ok and type(why) == "string" then raise(why, 1) end
  if not ok then
    raised, raised_source, raised_line = why, place(2, 1)
    error(why, 0)
  end
  return ...
end

G.coroutine = lock {
  create = function(f)
    local thread = thread_of("create", f)
    return thread
  end,
  resume = resume, running = coroutine.running, status = coroutine.status, yield = coroutine.yield,
  wrap = function(f)
    local thread = thread_of("wrap", f)
    return function(...) return resumed(resume(thread, ...)) end
  end,
}
G._G = E

function G.pairs(...)
  local t = ...
  if type(t) ~= "table" then return through("pairs", pairs, ...) end
  local real = locked[t]
  if real == nil then return pairs(t) end
  local copy = {}
  for key, value in pairs(real) do copy[key] = value end
  return next, copy, nil
end

function G.next(...)
  local t, key = ...
  if type(t) ~= "table" then return through("next", next, ...) end
  return next(locked[t] or t, key)
end

function G.rawget(...)
  local t, key = ...
  if type(t) ~= "table" or select("#", ...) < 2 then return through("rawget", rawget, ...) end
  return rawget(locked[t] or t, key)
end

function G.rawset(...)
  local t = ...
  if type(t) ~= "table" or select("#", ...) < 3 then return through("rawset", rawset, ...) end
  if locked[t] then error("Attempt to modify a readonly table", 0) end
  return rawset(...)
end

function G.setmetatable(...)
  local t = ...
  if t ~= nil and locked[t] then error("Attempt to modify a readonly table", 0) end
  return through("setmetatable", setmetatable, ...)
end

local of_strings = lock({__index = G.string})
local of_locked = lock({})

function G.getmetatable(...)
  local value = ...
  if select("#", ...) == 0 then return through("getmetatable", getmetatable) end
  if value ~= nil and locked[value] then return of_locked end
  if type(value) == "string" then return of_strings end
  return getmetatable(value)
end

-- Arguments and results of a function of C take 8000 places together. Lua's own check comes after a sum that overflows.
local PLACES = 8000

function G.unpack(...)
  local t, i, j = ...
  if type(t) ~= "table" then return through("unpack", unpack, ...) end
  i, j = i == nil and 1 or tonumber(i), j == nil and #t or tonumber(j)
  if not (i and j) then return through("unpack", unpack, ...) end
  if not (j - i < PLACES - select("#", ...)) then raise("too many results to unpack") end
  return unpack(...)
end

function G.collectgarbage(option, argument)
  if option == nil or option == "collect" or option == "count" or option == "step" then
    return collectgarbage(option, argument)
  end
  return 0
end

-- Compile text in an environment. Bytecode is refused; no collection runs while the parser holds unanchored strings.
local function load_text(source, name, env)
  if byte(source, 1) == 27 then return nil, "attempt to load bytecode" end
  collectgarbage("stop")
  local chunk, why = loadstring(source, name)
  collectgarbage("restart")
  if chunk then setfenv(chunk, env) end
  return chunk, why
end

-- `loadstring` and `load` of an environment.
local function loaders(env)
  return function(...)
    local source, name = ...
    if type(source) == "number" then source = tostring(source) end
    if type(source) ~= "string" then return through("loadstring", loadstring, ...) end
    return load_text(source, name or source, env)
  end, function(...)
    local reader, name = ...
    if type(reader) ~= "function" then return through("load", load, ...) end
    local pieces = {}
    while true do
      local piece = reader()
      if piece == nil or piece == "" then break end
      if type(piece) ~= "string" then return nil, "reader function must return a string" end
      pieces[#pieces + 1] = piece
    end
    return load_text(concat(pieces), name or "=(load)", env)
  end
end
G.loadstring, G.load = loaders(E)

-- A script that catches an error sees Redis's text, not the table that carries it.
local function settled(ok, ...)
  if not ok then
    local why = ...
    if type(why) == "table" and rawget(why, "err") ~= nil then return false, rawget(why, "err") end
  end
  return ok, ...
end

function G.pcall(f, ...)
  return settled(pcall(f, ...))
end

function G.xpcall(...)
  if select("#", ...) < 2 then return through("xpcall", xpcall, ...) end
  return xpcall(...)
end

-- redis.*
local redis = {}
local host_call = host.call

-- The kinds of results are those of replies.py.
local function settle(value, kind, ...)
  if kind == nil then return value end
  if kind == 4 then return {...} end
  if kind == 2 then return {ok = value} end
  if kind == 3 then stop(value) end  -- the next line raises, and so does this one
  return nil, {err = value}
end

-- More arguments than this do not fit beside each other into a call of the host's.
local BESIDE = 7900

local function call_many(count, ...)
  return host.call_many({...}, count)
end

function redis.call(...)
  local count = select("#", ...)
  if count > BESIDE then
    local value, why = settle(call_many(count, ...))
    if why then error(why) end
    return value
  end
  local value, why = settle(host_call(...))
  if why then error(why) end
  return value
end

function redis.pcall(...)
  local count = select("#", ...)
  if count > BESIDE then
    local value, why = settle(call_many(count, ...))
    return why or value
  end
  local value, why = settle(host_call(...))
  return why or value
end

local function one_line(text)
  return (gsub(text, "[\r\n]", " "))
end

function redis.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then return {err = "ERR wrong number or type of arguments"} end
  if byte(text, 1) == 45 then text = sub(text, 2) end
  if not find(text, " ", 1, true) then text = "ERR " .. text end
  return {err = one_line(text)}
end

function redis.status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then return {err = "ERR wrong number or type of arguments"} end
  return {ok = one_line(text)}
end

function redis.sha1hex(...)
  if select("#", ...) ~= 1 then error({err = "ERR wrong number of arguments"}) end
  local kind = type((...))
  return host.sha1hex((kind == "string" or kind == "number") and tostring((...)) or "")
end

function redis.setresp(...)
  local version = tonumber((...))
  if select("#", ...) ~= 1 then error({err = "ERR redis.setresp() requires one argument."}) end
  if version ~= 2 and version ~= 3 then error({err = "ERR RESP version must be 2 or 3."}) end
  host.setresp(version)
end

function redis.log(...)
  local level = ...
  if select("#", ...) < 2 then error({err = "ERR redis.log() requires two arguments or more."}) end
  if type(level) ~= "number" then error({err = "ERR First argument must be a number (log level)."}) end
  if level < 0 or level > 3 then error({err = "ERR Invalid debug level."}) end
  local words = {}
  for i = 2, select("#", ...) do words[#words + 1] = tostring((select(i, ...))) end
  host.log(level, concat(words, " "))
end

function redis.acl_check_cmd(...)
  if select("#", ...) == 0 then error({err = "ERR Please specify at least one argument for this redis lib call"}) end
  for i = 1, select("#", ...) do
    local kind = type((select(i, ...)))
    if kind ~= "string" and kind ~= "number" then
      error({err = "ERR Lua redis lib command arguments must be strings or integers"})
    end
  end
  local allowed = host.allows(...)
  if allowed == nil then error({err = "ERR Invalid command passed to redis.acl_check_cmd()"}) end
  return allowed
end

-- Effects are logged, whatever is asked for: what a node has and its log has not would be lost.
function redis.set_repl(...)
  local flags = tonumber((...)) or 0
  if select("#", ...) ~= 1 then error({err = "ERR redis.set_repl() requires two arguments."}) end
  if flags ~= floor(flags) or flags < 0 or flags > 3 then
    error({err = "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."})
  end
end

redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING = 0, 1, 2, 3
redis.REPL_NONE, redis.REPL_SLAVE, redis.REPL_REPLICA, redis.REPL_AOF, redis.REPL_ALL = 0, 2, 2, 1, 3
redis.REDIS_VERSION, redis.REDIS_VERSION_NUM = host.version, host.version_number

-- Scripts have more of it than functions: a debugger's stubs, and what scripts of the time before Redis 5 ask for.
local redis_of_scripts = {}
for key, value in pairs(redis) do redis_of_scripts[key] = value end
function redis_of_scripts.replicate_commands() return true end
function redis_of_scripts.breakpoint() return false end
function redis_of_scripts.debug() end
G.redis = lock(redis_of_scripts)

-- Replies: Lua values as RESP. Source: redis src/script_lua.c luaReplyToRedisReply.
local function integer(n)
  if n ~= n or n >= 9223372036854775808 or n < -9223372036854775808 then return "-9223372036854775808" end
  local text = format("%.0f", n >= 0 and floor(n) or ceil(n))
  return text == "-0" and "0" or text
end

-- Redis builds a reply on Lua's stack of C, where an array takes one place and a map or a set three.
local DEPTH = 7995
local encode

local function encode_pairs(out, t, mark, resp3, script3, with_values, room)
  local at, count = #out + 1, 0
  out[at] = ""
  for key, value in pairs(t) do
    count = count + 1
    encode(out, key, resp3, script3, room - 3)
    if with_values then encode(out, value, resp3, script3, room - 3) end
  end
  if resp3 then
    out[at] = mark .. count .. "\r\n"
  else
    out[at] = "*" .. (with_values and count * 2 or count) .. "\r\n"
  end
end

local function encode_table(out, t, resp3, script3, room)
  local value = rawget(t, "err")
  if type(value) == "string" then
    out[#out + 1] = "-" .. one_line(value) .. "\r\n"
    return
  end
  value = rawget(t, "ok")
  if type(value) == "string" then
    out[#out + 1] = "+" .. one_line(value) .. "\r\n"
    return
  end
  value = rawget(t, "double")
  if type(value) == "number" then
    local text = value == 1 / 0 and "inf" or value == -1 / 0 and "-inf" or value ~= value and "nan" or format("%.17g", value)
    out[#out + 1] = resp3 and "," .. text .. "\r\n" or "$" .. #text .. "\r\n" .. text .. "\r\n"
    return
  end
  value = rawget(t, "map")
  if type(value) == "table" then return encode_pairs(out, value, "%", resp3, script3, true, room) end
  value = rawget(t, "set")
  if type(value) == "table" then return encode_pairs(out, value, "~", resp3, script3, false, room) end
  value = rawget(t, "big_number")
  if type(value) == "string" then
    value = one_line(value)
    out[#out + 1] = resp3 and "(" .. value .. "\r\n" or "$" .. #value .. "\r\n" .. value .. "\r\n"
    return
  end
  value = rawget(t, "verbatim_string")
  if type(value) == "table" and type(value.format) == "string" and type(value.string) == "string" then
    local text = value.string
    if resp3 then
      text = value.format .. ":" .. text
      out[#out + 1] = "=" .. #text .. "\r\n" .. text .. "\r\n"
    else
      out[#out + 1] = "$" .. #text .. "\r\n" .. text .. "\r\n"
    end
    return
  end
  local at, count = #out + 1, 0
  out[at] = ""
  while true do
    local item = rawget(t, count + 1)
    if item == nil then break end
    count = count + 1
    encode(out, item, resp3, script3, room - 1)
  end
  out[at] = "*" .. count .. "\r\n"
end

function encode(out, value, resp3, script3, room)
  local kind = type(value)
  if room <= 0 then
    out[#out + 1] = "-ERR reached lua stack limit\r\n"
  elseif kind == "string" then
    out[#out + 1] = "$" .. #value .. "\r\n" .. value .. "\r\n"
  elseif kind == "number" then
    out[#out + 1] = ":" .. integer(value) .. "\r\n"
  elseif kind == "table" then
    encode_table(out, value, resp3, script3, room)
  elseif kind == "boolean" and script3 then
    out[#out + 1] = resp3 and (value and "#t\r\n" or "#f\r\n") or (value and ":1\r\n" or ":0\r\n")
  elseif value == true then
    out[#out + 1] = ":1\r\n"
  else
    out[#out + 1] = resp3 and "_\r\n" or "$-1\r\n"
  end
end

local function explain(why)
  local source, line = raised_source, raised_line
  if raised == nil or why ~= raised then source, line = place(3, 0, type(why) == "table") end
  raised = nil
  if type(why) ~= "table" then
    why = {err = "ERR " .. tostring(why)}
  elseif type(rawget(why, "err")) ~= "string" then
    why.err = "ERR unknown error"
  end
  why.source, why.line = source, line
  return why
end

-- Raises nothing. Returns a string alone, as it is; any other reply encoded, and true; or nil, and of an error the text,
-- source and line.
local function finish(resp3, ok, value)
  if not ok then
    if type(value) ~= "table" then return nil, "ERR " .. tostring(value) end  -- out of memory, or an error in `explain`
    return nil, value.err, value.source, value.line
  end
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return ":" .. integer(value) .. "\r\n", true end
  local out = {}
  local encoded, why = pcall(encode, out, value, resp3, host.resp3(), DEPTH)
  if not encoded then return nil, "ERR the reply is nested too deeply" end
  return concat(out), true
end

local function run(chunk, resp3, keys, argv)
  running = "@user_script"
  G.KEYS, G.ARGV = keys, argv
  return finish(resp3, xpcall(chunk, explain))
end

local function split(count, ...)
  if count == 0 then return {}, {...} end
  if count == 1 then return {(...)}, {select(2, ...)} end
  local keys = {}
  for i = 1, count do keys[i] = (select(i, ...)) end
  return keys, {select(count + 1, ...)}
end

local function run_few(chunk, resp3, count, ...)
  return run(chunk, resp3, split(count, ...))
end

local unknown = {
  __metatable = false,
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
}
setmetatable(G, unknown)

-- Libraries of functions have an environment of their own. While one is loaded it holds nothing but `redis`, with what
-- registers functions; when functions run, all that scripts see, without KEYS and ARGV.
local F, L = {}, {}
local FE, of_functions = lock(F)
local registered, load_api = nil, setmetatable({}, unknown)
for _, name in ipairs {"log", "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING", "REDIS_VERSION",
                       "REDIS_VERSION_NUM"} do
  rawset(load_api, name, redis[name])
end
L.redis = lock(load_api)
setmetatable(L, unknown)

local known_flags = {}
for flag in string.gmatch(host.flags, "%S+") do known_flags[flag] = true end

local function refused(text)
  error({err = "ERR " .. text})
end

local function string_of(value, what)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then refused(what .. " to redis.register_function must be a string") end
  return value
end

local function flags_of(value)
  if type(value) ~= "table" then
    refused("flags argument to redis.register_function must be a table representing function flags")
  end
  local flags = {}
  while value[#flags + 1] ~= nil do
    local flag = value[#flags + 1]
    if not known_flags[flag] then refused("unknown flag given") end
    flags[#flags + 1] = flag
  end
  return concat(flags, " ")
end

local function named_arguments(given)
  local name, description, flags, callback
  for key, value in pairs(given) do
    if type(key) ~= "string" and type(key) ~= "number" then
      refused("named argument key given to redis.register_function is not a string")
    elseif key == "function_name" then
      name = string_of(value, "function_name argument given")
    elseif key == "description" then
      description = string_of(value, "description argument given")
    elseif key == "callback" then
      if type(value) ~= "function" then
        refused("callback argument given to redis.register_function must be a function")
      end
      callback = value
    elseif key == "flags" then
      flags = flags_of(value)
    else
      refused("unknown argument given to redis.register_function")
    end
  end
  if not name then refused("redis.register_function must get a function name argument") end
  if not callback then refused("redis.register_function must get a callback argument") end
  return name, callback, description, flags
end

local function register(...)
  local count, first, callback = select("#", ...), ...
  local name, description, flags
  if count < 1 or count > 2 then refused("wrong number of arguments to redis.register_function") end
  if not registered then refused("redis.register_function can only be called on FUNCTION LOAD command") end
  if count == 1 then
    if type(first) ~= "table" then
      refused("calling redis.register_function with a single argument is only applicable to Lua table (representing "
        .. "named arguments).")
    end
    name, callback, description, flags = named_arguments(first)
  else
    name = string_of(first, "first argument")
    if type(callback) ~= "function" then
      refused("second argument to redis.register_function must be a function")
    end
  end
  host.register(name, description, flags or "", callback, getinfo(callback, "S").lastlinedefined)
end
rawset(load_api, "register_function", register)

-- Run a library's code: what it registers goes to `host.register`. Returns nil, or the text of the error.
local function loaded()
  registered, of_functions.__index = nil, F
end

local function load_library(chunk)
  running = "@user_function"
  registered, of_functions.__index = true, L
  local ok, why = xpcall(chunk, explain)
  loaded()
  if ok then return nil end
  return type(why) == "table" and why.err or "ERR " .. tostring(why)
end

local function call_function(f, resp3, keys, argv)
  if registered then loaded() end  -- memory has ended in the middle of a library
  running = "@user_function"
  return finish(resp3, xpcall(function() return f(keys, argv) end, explain))
end

local function call_few(f, resp3, count, ...)
  return call_function(f, resp3, split(count, ...))
end

local function add_library(name, library)
  rawset(G, name, lock(library))
end

-- Functions see what scripts see, once all of it is there.
local function complete()
  for key, value in next, G do rawset(F, key, value) end
  rawset(F, "redis", lock(redis))
  rawset(F, "_G", FE)
  local loadstring_, load_ = loaders(FE)
  rawset(F, "loadstring", loadstring_)
  rawset(F, "load", load_)
  setmetatable(F, unknown)
end

local function load_script(source, name) return load_text(source, name, E) end
local function load_functions(source, name) return load_text(source, name, FE) end

-- Give a function of lua.py to scripts: its first result says whether the call went well; an error is raised for it.
local function answered(ok, ...)
  if not ok then raise((...), 1) end
  return ...
end

local function wrap(f)
  return function(...) return answered(f(...)) end
end

-- As `wrap`, for a function of at least so many numbers, which looks at no more than `most`.
local function wrap_numbers(f, name, least, most)
  return function(...)
    local n, given = select("#", ...), {...}
    local count = n < least and least or n > most and most or n
    for i = 1, count do
      local number = tonumber(given[i])
      if not number then
        local got = i > n and "no value" or type(given[i])
        raise("bad argument #" .. i .. " to '" .. name .. "' (number expected, got " .. got .. ")")
      end
      given[i] = number
    end
    return answered(f(unpack(given, 1, count)))
  end
end

return {
  load_script = load_script, load_functions = load_functions, run = run, run_few = run_few,
  load_library = load_library, call_function = call_function, call_few = call_few, add_library = add_library,
  complete = complete, wrap = wrap, wrap_numbers = wrap_numbers, raise = raise, sethook = sethook, look = look, instructions = INSTRUCTIONS,
}
