"""rdb: Redis's file format, in which data comes in from Redis and goes back.

functions.py  libraries of functions, as FUNCTION DUMP answers and FUNCTION RESTORE takes them
crc64.py      the checksum
"""
