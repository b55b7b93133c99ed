"""rdb: Redis's file format, in which data comes in from Redis and goes back: DUMP, RESTORE, import, export, SYNC.

    codes.py     the numbers of the format, and the errors
    source.py    bytes read once, from a payload or from a file in pieces: lengths, strings, the checksum
    listpack.py  listpacks, both ways; compact.py: what came before them (ziplist, zipmap, intset); lzf.py, crc64.py
    values.py    a value, from any encoding that Redis 2.8 to 8 or Valkey wrote, as the events that make it
    streams.py   streams, both ways
    out.py       bytes in the making
    writer.py    values and whole files, in the plain encodings of version 10, which Redis 7.0 reads
    reader.py    whole files, as transactions in bounded pieces
    payload.py   what DUMP answers and RESTORE takes; functions.py: FUNCTION DUMP and FUNCTION RESTORE

A value is read as events (RPUSH, HSET, ZADD …), the ones that commands emit too. So the log never holds a piece of
Redis's format, and loading is replaying: there is one way in which state comes about. What is read may be hostile: any
fault in it is a BadRdb, and no length in it is believed before as many bytes are there.
"""
