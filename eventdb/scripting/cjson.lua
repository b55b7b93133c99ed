-- cjson: JSON as lua-cjson 2.1 speaks it, with its defaults, options and error texts.
-- Called with `null`, a userdata that equals only itself, and the function that raises an error in the script.

local null, raise = ...
local byte, char, concat, find, format, gsub, match, sub = string.byte, string.char, table.concat, string.find, string.format,
  string.gsub, string.match, string.sub
local error, floor, next, pairs, pcall, rawget, select = error, math.floor, next, pairs, pcall, rawget, select
local tonumber, tostring, type = tonumber, tostring, type
local HUGE, INT_MAX = math.huge, 2147483647

local ESCAPES = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t", ["\127"] = "\\u007f",
}
for i = 0, 31 do
  local c = char(i)
  ESCAPES[c] = ESCAPES[c] or format("\\u%04x", i)
end
local UNESCAPES = {
  ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

local function utf8(code)
  if code < 128 then return char(code) end
  if code < 2048 then return char(192 + floor(code / 64), 128 + code % 64) end
  if code < 65536 then return char(224 + floor(code / 4096), 128 + floor(code / 64) % 64, 128 + code % 64) end
  return char(240 + floor(code / 262144), 128 + floor(code / 4096) % 64, 128 + floor(code / 64) % 64, 128 + code % 64)
end

local function new()
  local options = {
    convert = false, ratio = 2, safe = 10, encode_depth = 1000, decode_depth = 1000, precision = 14, encode_invalid = false,
    decode_invalid = true, keep = true,
  }

  local function fail(text)
    error(text, 0)
  end

  local function encode_string(text)
    return '"' .. gsub(text, '[%c"\\/\127]', ESCAPES) .. '"'
  end

  local function encode_number(n)
    if n ~= n or n == HUGE or n == -HUGE then
      if options.encode_invalid == "null" then return "null" end
      if not options.encode_invalid then fail("Cannot serialise number: must not be NaN or Inf") end
    end
    return format("%." .. options.precision .. "g", n)
  end

  -- The length when every key is a positive integer and not too many are missing; -1: an object.
  local function array_length(t)
    local highest, items = 0, 0
    for key in next, t do
      if type(key) ~= "number" or key < 1 or floor(key) ~= key then return -1 end
      if key > highest then highest = key end
      items = items + 1
    end
    if options.ratio > 0 and highest > items * options.ratio and highest > options.safe then
      if not options.convert then fail("Cannot serialise table: excessively sparse array") end
      return -1
    end
    return highest
  end

  local encode

  local function encode_table(out, t, depth)
    if depth > options.encode_depth then fail("Cannot serialise, excessive nesting (" .. depth .. ")") end
    local length = array_length(t)
    if length > 0 then
      out[#out + 1] = "["
      for i = 1, length do
        if i > 1 then out[#out + 1] = "," end
        encode(out, rawget(t, i), depth)
      end
      out[#out + 1] = "]"
      return
    end
    out[#out + 1] = "{"
    local first = true
    for key, value in next, t do
      if not first then out[#out + 1] = "," end
      first = false
      local kind = type(key)
      if kind == "string" then
        out[#out + 1] = encode_string(key) .. ":"
      elseif kind == "number" then
        out[#out + 1] = '"' .. encode_number(key) .. '":'
      else
        fail("Cannot serialise " .. kind .. ": table key must be a number or string")
      end
      encode(out, value, depth)
    end
    out[#out + 1] = "}"
  end

  function encode(out, value, depth)
    local kind = type(value)
    if value == nil or value == null then
      out[#out + 1] = "null"
    elseif kind == "string" then
      out[#out + 1] = encode_string(value)
    elseif kind == "number" then
      out[#out + 1] = encode_number(value)
    elseif kind == "boolean" then
      out[#out + 1] = value and "true" or "false"
    elseif kind == "table" then
      encode_table(out, value, depth + 1)
    else
      fail("Cannot serialise " .. kind .. ": type not supported")
    end
  end

  local text, at  -- what is being decoded, and where

  local function token_name()
    local c = sub(text, at, at)
    if c == "" then return "T_END" end
    local names = {["{"] = "T_OBJ_BEGIN", ["}"] = "T_OBJ_END", ["["] = "T_ARR_BEGIN", ["]"] = "T_ARR_END",
      [","] = "T_COMMA", [":"] = "T_COLON", ['"'] = "T_STRING"}
    if names[c] then return names[c] end
    if find(text, "^-?%d", at) then return "T_NUMBER" end
    if find(text, "^true", at) or find(text, "^false", at) then return "T_BOOLEAN" end
    if find(text, "^null", at) then return "T_NULL" end
    return "invalid token"
  end

  local function expected(what)
    fail("Expected " .. what .. " but found " .. token_name() .. " at character " .. at)
  end

  local function skip()
    at = find(text, "[^ \t\r\n]", at) or #text + 1
  end

  local function decode_escape(c, where)
    if c ~= "u" then
      local plain = UNESCAPES[c]
      if not plain then fail("Expected value but found invalid escape code at character " .. where) end
      return plain, where + 2
    end
    local hex = match(text, "^%x%x%x%x", where + 2)
    if not hex then fail("Expected value but found invalid unicode escape code at character " .. where) end
    local code = tonumber(hex, 16)
    if code >= 0xDC00 and code <= 0xDFFF then
      fail("Expected value but found invalid unicode escape code at character " .. where)
    end
    if code >= 0xD800 and code <= 0xDBFF then
      local low = match(text, "^\\u(%x%x%x%x)", where + 6)
      low = low and tonumber(low, 16)
      if not low or low < 0xDC00 or low > 0xDFFF then
        fail("Expected value but found invalid unicode escape code at character " .. where)
      end
      return utf8(65536 + (code - 0xD800) * 1024 + low - 0xDC00), where + 12
    end
    return utf8(code), where + 6
  end

  local function decode_string()
    local start = at
    local from = at + 1
    local stop = find(text, '["\\%c]', from)
    if stop and byte(text, stop) == 34 then
      at = stop + 1
      return sub(text, from, stop - 1)
    end
    local pieces = {}
    while true do
      stop = find(text, '["\\%c]', from)
      if not stop then fail("Expected value but found unexpected end of string at character " .. #text + 1) end
      pieces[#pieces + 1] = sub(text, from, stop - 1)
      local c = byte(text, stop)
      if c == 34 then
        at = stop + 1
        return concat(pieces)
      elseif c == 92 then
        pieces[#pieces + 1], from = decode_escape(sub(text, stop + 1, stop + 1), stop)
      elseif c == 127 then
        pieces[#pieces + 1], from = "\127", stop + 1
      else
        at = start
        fail("Expected value but found invalid token at character " .. stop)
      end
    end
  end

  local function decode_number()
    local digits = match(text, "^-?%d+%.?%d*[eE]?[+-]?%d*", at)
    local n = digits and tonumber(digits)
    if digits and find(digits, "^-?0%d") and not options.decode_invalid then n = nil end
    if not n then
      for _, word in next, {"-?[iI][nN][fF][iI][nN][iI][tT][yY]", "-?[iI][nN][fF]", "-?[nN][aA][nN]", "-?0[xX]%x+"} do
        digits = match(text, "^" .. word, at)
        if digits then break end
      end
      if not digits or not options.decode_invalid then return nil end
      local low = digits:lower()
      n = tonumber(digits) or (find(low, "inf", 1, true) and (byte(low) == 45 and -HUGE or HUGE)) or 0 / 0
    end
    at = at + #digits
    return n
  end

  local decode

  local function deeper(depth)
    if depth > options.decode_depth then
      fail("Found too many nested data structures (" .. depth .. ")")
    end
  end

  local function decode_array(depth)
    deeper(depth)
    at = at + 1
    local t, count = {}, 0
    skip()
    if byte(text, at) == 93 then
      at = at + 1
      return t
    end
    while true do
      count = count + 1
      t[count] = decode(depth)
      skip()
      local c = byte(text, at)
      if c == 93 then
        at = at + 1
        return t
      elseif c ~= 44 then
        expected("comma or array end")
      end
      at = at + 1
    end
  end

  local function decode_object(depth)
    deeper(depth)
    at = at + 1
    local t = {}
    skip()
    if byte(text, at) == 125 then
      at = at + 1
      return t
    end
    while true do
      skip()
      if byte(text, at) ~= 34 then expected("object key string") end
      local key = decode_string()
      skip()
      if byte(text, at) ~= 58 then expected("colon") end
      at = at + 1
      t[key] = decode(depth)
      skip()
      local c = byte(text, at)
      if c == 125 then
        at = at + 1
        return t
      elseif c ~= 44 then
        expected("comma or object end")
      end
      at = at + 1
    end
  end

  function decode(depth)
    skip()
    local c = byte(text, at)
    if c == 34 then return decode_string() end
    if c == 123 then return decode_object(depth + 1) end
    if c == 91 then return decode_array(depth + 1) end
    if find(text, "^true", at) then
      at = at + 4
      return true
    elseif find(text, "^false", at) then
      at = at + 5
      return false
    elseif find(text, "^null", at) then
      at = at + 4
      return null
    end
    local n = decode_number()
    if n == nil then expected("value") end
    return n
  end

  local cjson = {null = null, _NAME = "cjson", _VERSION = "2.1.0", new = nil}

  local function guarded(ok, ...)
    if not ok then raise((...)) end
    return ...
  end

  function cjson.encode(...)
    if select("#", ...) ~= 1 then raise("bad argument #1 to 'encode' (expected 1 argument)") end
    local out = {}
    guarded(pcall(encode, out, (...), 0))
    return concat(out)
  end

  local function decode_all(source)
    text, at = source, 1
    local value = decode(0)
    skip()
    if at <= #text then expected("the end") end
    text = nil
    return value
  end

  function cjson.decode(...)
    local source = ...
    if select("#", ...) ~= 1 then raise("bad argument #1 to 'decode' (expected 1 argument)") end
    if type(source) == "number" then source = tostring(source) end
    if type(source) ~= "string" then
      raise("bad argument #1 to 'decode' (string expected, got " .. (source == nil and "nil" or type(source)) .. ")")
    end
    local value = guarded(pcall(decode_all, source))  -- no tail call: it would hide the script's line
    return value
  end

  -- An option stays for every later script, so only what means something is taken. The checks are those of lua-cjson, the
  -- place of a number that is out of range, always #1, with them.
  local function refuse(at, name, why)
    raise("bad argument #" .. at .. " to '" .. name .. "' (" .. why .. ")")
  end

  local function set_integer(value, option, name, at, low, high)
    if value == nil then return end
    local n = type(value) ~= "table" and tonumber(value)
    if not n then refuse(at, name, "number expected, got " .. type(value)) end
    n = n < 0 and -floor(-n) or floor(n)
    if not (n >= low and n <= high) then refuse(1, name, "expected integer between " .. low .. " and " .. high) end
    options[option] = n
  end

  local function set_word(value, option, name, words)
    if value == nil then return end
    if type(value) == "boolean" then
      options[option] = value
      return
    end
    if type(value) ~= "string" and type(value) ~= "number" then refuse(1, name, "string expected, got " .. type(value)) end
    local meant = words[value]
    if meant == nil then refuse(1, name, "invalid option '" .. value .. "'") end
    options[option] = meant
  end

  local function few(most, name, ...)
    if select("#", ...) > most then refuse(most + 1, name, "found too many arguments") end
  end

  local SWITCH = {on = true, off = false}

  function cjson.encode_sparse_array(...)
    few(3, "encode_sparse_array", ...)
    local convert, ratio, safe = ...
    set_word(convert, "convert", "encode_sparse_array", SWITCH)
    set_integer(ratio, "ratio", "encode_sparse_array", 2, 0, INT_MAX)
    set_integer(safe, "safe", "encode_sparse_array", 3, 0, INT_MAX)
    return options.convert, options.ratio, options.safe
  end

  local function integer(name, option, low, high)
    cjson[name] = function(...)
      few(1, name, ...)
      set_integer((...), option, name, 1, low, high)
      return options[option]
    end
  end

  local function word(name, option, words)
    cjson[name] = function(...)
      few(1, name, ...)
      set_word((...), option, name, words)
      return options[option]
    end
  end

  integer("encode_max_depth", "encode_depth", 1, INT_MAX)
  integer("decode_max_depth", "decode_depth", 1, INT_MAX)
  integer("encode_number_precision", "precision", 1, 14)
  word("encode_keep_buffer", "keep", SWITCH)
  word("encode_invalid_numbers", "encode_invalid", {on = true, off = false, null = "null"})
  word("decode_invalid_numbers", "decode_invalid", SWITCH)
  cjson.new = new
  return cjson
end

return new()
