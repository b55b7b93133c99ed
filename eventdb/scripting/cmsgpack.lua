-- cmsgpack: MessagePack as Redis's library speaks it (lua_cmsgpack 0.4): pack, unpack, unpack_one, unpack_limit.
-- Called with two functions of lua.py, the bytes of a fraction and the number in 4 or 8 bytes, and with the one that raises
-- an error in the script.

local bytes_of, float_of, raise = ...
local byte, char, concat, floor, sub = string.byte, string.char, table.concat, math.floor, string.sub
local error, next, rawget, select, tonumber, type = error, next, rawget, select, tonumber, type
local NESTED_MAX = 16

local function big_endian(n, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    out[i] = char(n % 256)
    n = floor(n / 256)
  end
  return concat(out)
end

local function pack_integer(n)
  if n >= 0 then
    if n < 128 then return char(n) end
    if n < 256 then return "\204" .. char(n) end
    if n < 65536 then return "\205" .. big_endian(n, 2) end
    if n < 4294967296 then return "\206" .. big_endian(n, 4) end
    return "\207" .. big_endian(n, 8)
  end
  if n >= -32 then return char(256 + n) end
  if n >= -128 then return "\208" .. char(256 + n) end
  if n >= -32768 then return "\209" .. big_endian(65536 + n, 2) end
  if n >= -2147483648 then return "\210" .. big_endian(4294967296 + n, 4) end
  -- Two's complement of 64 bits, in two halves: a double cannot hold it in one.
  local high = floor(n / 4294967296)
  return "\211" .. big_endian(high + 4294967296, 4) .. big_endian(n - high * 4294967296, 4)
end

local function pack_string(text)
  local n = #text
  if n < 32 then return char(160 + n) .. text end
  if n < 256 then return "\217" .. char(n) .. text end
  if n < 65536 then return "\218" .. big_endian(n, 2) .. text end
  return "\219" .. big_endian(n, 4) .. text
end

local function head(n, small, medium)
  if n < 16 then return char(small + n) end
  if n < 65536 then return char(medium) .. big_endian(n, 2) end
  return char(medium + 1) .. big_endian(n, 4)
end

-- The length of a table whose keys are 1 to n, else nil.
local function array_length(t)
  local highest, items = 0, 0
  for key in next, t do
    if type(key) ~= "number" or key <= 0 or floor(key) ~= key then return nil end
    if key > highest then highest = key end
    items = items + 1
  end
  return highest == items and items or nil
end

local pack

local function pack_table(out, t, depth)
  local length = array_length(t)
  if length then
    out[#out + 1] = head(length, 144, 220)
    for i = 1, length do pack(out, rawget(t, i), depth + 1) end
    return
  end
  local items = 0
  for _ in next, t do items = items + 1 end
  out[#out + 1] = head(items, 128, 222)
  for key, value in next, t do
    pack(out, key, depth + 1)
    pack(out, value, depth + 1)
  end
end

function pack(out, value, depth)
  local kind = type(value)
  if kind == "string" then
    out[#out + 1] = pack_string(value)
  elseif kind == "number" then
    if floor(value) == value and value < 9223372036854775808 and value >= -9223372036854775808 then
      out[#out + 1] = pack_integer(value)
    else
      out[#out + 1] = bytes_of(value)
    end
  elseif kind == "boolean" then
    out[#out + 1] = value and "\195" or "\194"
  elseif kind == "table" and depth < NESTED_MAX then
    pack_table(out, value, depth)
  else
    out[#out + 1] = "\192"
  end
end

local function missing()
  error("Missing bytes in input.", 0)
end

local function unsigned(text, at, bytes)
  if at + bytes - 1 > #text then missing() end
  local n = 0
  for i = at, at + bytes - 1 do n = n * 256 + byte(text, i) end
  return n, at + bytes
end

local function signed(text, at, bytes)
  local n, after = unsigned(text, at, bytes)
  if byte(text, at) >= 128 then
    if bytes == 8 then  -- by halves, so that small negative numbers stay exact
      return (unsigned(text, at, 4) - 4294967296) * 4294967296 + unsigned(text, at + 4, 4), after
    end
    n = n - 256 ^ bytes
  end
  return n, after
end

local function text_of(text, at, n)
  if at + n - 1 > #text then missing() end
  return sub(text, at, at + n - 1), at + n
end

local unpack_value

local function array_of(text, at, n)
  local t = {}
  for i = 1, n do t[i], at = unpack_value(text, at) end
  return t, at
end

local function map_of(text, at, n)
  local t = {}
  for _ = 1, n do
    local key, value
    key, at = unpack_value(text, at)
    value, at = unpack_value(text, at)
    if key == nil then error("Bad data format in input.", 0) end
    t[key] = value
  end
  return t, at
end

local READERS = {
  [192] = function(_, at) return nil, at end,
  [194] = function(_, at) return false, at end,
  [195] = function(_, at) return true, at end,
  [202] = function(text, at)
    local raw, after = text_of(text, at, 4)
    return float_of(raw), after
  end,
  [203] = function(text, at)
    local raw, after = text_of(text, at, 8)
    return float_of(raw), after
  end,
  [204] = function(text, at) return unsigned(text, at, 1) end,
  [205] = function(text, at) return unsigned(text, at, 2) end,
  [206] = function(text, at) return unsigned(text, at, 4) end,
  [207] = function(text, at) return unsigned(text, at, 8) end,
  [208] = function(text, at) return signed(text, at, 1) end,
  [209] = function(text, at) return signed(text, at, 2) end,
  [210] = function(text, at) return signed(text, at, 4) end,
  [211] = function(text, at) return signed(text, at, 8) end,
}
for offset = 0, 2 do  -- str 8, 16, 32; its bin types are unknown to this library
  READERS[217 + offset] = function(text, at)
    local n
    n, at = unsigned(text, at, 2 ^ offset)
    return text_of(text, at, n)
  end
end
for offset = 0, 1 do
  READERS[220 + offset] = function(text, at)
    local n
    n, at = unsigned(text, at, 2 + 2 * offset)
    return array_of(text, at, n)
  end
  READERS[222 + offset] = function(text, at)
    local n
    n, at = unsigned(text, at, 2 + 2 * offset)
    return map_of(text, at, n)
  end
end

function unpack_value(text, at)
  local mark = byte(text, at)
  if not mark then missing() end
  at = at + 1
  if mark < 128 then return mark, at end
  if mark >= 224 then return mark - 256, at end
  if mark >= 160 and mark < 192 then return text_of(text, at, mark - 160) end
  if mark >= 144 and mark < 160 then return array_of(text, at, mark - 144) end
  if mark < 144 then return map_of(text, at, mark - 128) end
  local read = READERS[mark]
  if not read then error("Bad data format in input.", 0) end
  return read(text, at)
end

local function guarded(ok, ...)
  if not ok then raise((...)) end
  return ...
end

local function unpack_some(text, at, limit)
  local found, count = {}, 0
  while at <= #text and (limit == 0 or count < limit) do
    count = count + 1
    found[count], at = unpack_value(text, at)
    if count > 7000 then error("too many results to unpack", 0) end
  end
  return found, count, at
end

local cmsgpack = {_NAME = "cmsgpack", _VERSION = "lua-cmsgpack 0.4.0", _COPYRIGHT = "", _DESCRIPTION = "MessagePack for Lua"}

function cmsgpack.pack(...)
  local n = select("#", ...)
  if n == 0 then raise("bad argument #0 to 'pack' (MessagePack pack needs input.)") end
  local out = {}
  for i = 1, n do pack(out, (select(i, ...)), 0) end
  return concat(out)
end

local function input(text, name)
  if type(text) == "number" then return text .. "" end
  if type(text) ~= "string" then
    raise("bad argument #1 to '" .. name .. "' (string expected, got " .. (text == nil and "no value" or type(text)) .. ")")
  end
  return text
end

function cmsgpack.unpack(text)
  text = input(text, "unpack")
  local found, count = guarded(pcall(unpack_some, text, 1, 0))
  return unpack(found, 1, count)
end

local function integer(name, at, absent, ...)
  local value = (select(at, ...))
  if value == nil and absent then return absent end
  local n = type(value) ~= "table" and tonumber(value)
  if not n then
    local got = select("#", ...) < at and "no value" or type(value)
    raise("bad argument #" .. at .. " to '" .. name .. "' (number expected, got " .. got .. ")")
  end
  return n < 0 and -floor(-n) or floor(n)
end

local function limited(text, limit, offset)
  if offset < 0 or limit < 0 then
    raise("Invalid request to unpack with offset of " .. offset .. " and limit of " .. #text .. ".")
  end
  if not (offset <= #text) then
    raise("Start offset " .. offset .. " greater than input length " .. #text .. ".")
  end
  local found, count, at = guarded(pcall(unpack_some, text, offset + 1, limit))
  return at > #text and -1 or at - 1, unpack(found, 1, count)
end

function cmsgpack.unpack_one(...)
  local offset = integer("unpack_one", 2, 0, ...)
  return limited(input((...), "unpack_one"), 1, offset)
end

function cmsgpack.unpack_limit(...)
  local limit, offset = integer("unpack_limit", 2, nil, ...), integer("unpack_limit", 3, 0, ...)
  return limited(input((...), "unpack_limit"), limit, offset)
end

return cmsgpack
