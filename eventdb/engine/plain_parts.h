/* Commands on one part of a value, for plain_run.c: an element, a field, a bit, the registers of a HyperLogLog.

   A command returns 1, or 0 when it is for its handler; it has then changed nothing but `reply`. Of the writes only what
   changes bytes or references in place is done here, or what changes nothing: that is most of them, in a bitmap or a
   HyperLogLog that is in use. */

/* -- reads */

static int lindex(Run *run, Request *request) {
    PyObject *list, *front = NULL, *back = NULL, *item = NULL;
    long long index;
    if (!look_up_typed(run, request->argument[1], run->self->type[LIST], &list)) return 0;
    int done = read_integer(request->argument[2], &index);
    if (done && list != NULL) {
        front = PyObject_GetAttr(list, run->self->name[FRONT]);
        back = front != NULL ? PyObject_GetAttr(list, run->self->name[BACK]) : NULL;
        done = back != NULL && PyList_CheckExact(front) && PyList_CheckExact(back);
        Py_ssize_t before = done ? PyList_GET_SIZE(front) : 0, size = done ? before + PyList_GET_SIZE(back) : 0;
        if (index < 0) index += size;
        if (index >= 0 && index < before) item = PyList_GET_ITEM(front, before - 1 - index);
        else if (index >= 0 && index < size) item = PyList_GET_ITEM(back, index - before);
    }
    Buffer *reply = &run->self->reply;
    done = done && (item == NULL ? put_null(run) : put_element(reply, reply->size, item));
    if (done) count_look_ups(run, list != NULL, 1);
    Py_XDECREF(front);
    Py_XDECREF(back);
    Py_XDECREF(list);
    return done;
}

static int hmget(Run *run, Request *request) {
    PyObject *hash;
    if (!look_up_typed(run, request->argument[1], run->self->type[HASH], &hash)) return 0;
    Buffer *reply = &run->self->reply;
    Py_ssize_t start = reply->size;
    int done = reserve(reply, HEAD_MAX);
    if (done) put_head(reply, '*', request->count - 2);
    for (int i = 2; done && i < request->count; i++) {
        done = hash == NULL ? put_null(run) : put_field(run, hash, request->argument[i]);
        done = done && reply->size - start <= REPLY_MAX;
    }
    if (done) count_look_ups(run, hash != NULL, 1);
    Py_XDECREF(hash);
    return done;
}

/* The bytes of a string, borrowed. */
static int bytes_in(PyObject *value, Slice *bytes) {
    if (PyBytes_CheckExact(value)) bytes->at = PyBytes_AS_STRING(value), bytes->size = PyBytes_GET_SIZE(value);
    else if (PyByteArray_CheckExact(value))
        bytes->at = PyByteArray_AS_STRING(value), bytes->size = PyByteArray_GET_SIZE(value);
    else return 0;
    return 1;
}

/* The number of a bit, in a string that is no longer than the setting allows. */
static int read_offset(Run *run, Slice text, long long *offset) {
    if (!read_integer(text, offset) || *offset < 0 || *offset >> 3 >= STRING_MAX) return 0;
    PyObject *limit = PyObject_GetAttr(run->limits, run->self->name[STRING_BYTES]);
    int done = limit != NULL && *offset >> 3 < PyLong_AsLongLong(limit);
    Py_XDECREF(limit);
    return done;
}

static int getbit(Run *run, Request *request) {
    PyObject *value;
    Slice bytes = {"", 0};
    long long offset;
    if (!read_offset(run, request->argument[2], &offset) || !look_up(run, request->argument[1], &value)) return 0;
    if (value != NULL && !bytes_in(value, &bytes)) return 0;
    if (!reserve(&run->self->reply, HEAD_MAX)) return 0;
    Py_ssize_t at = (Py_ssize_t)(offset >> 3);
    put_head(&run->self->reply, ':', at < bytes.size && bytes.at[at] & (0x80 >> (offset & 7)));
    count_look_ups(run, value != NULL, 1);
    return 1;
}

/* -- writes */

/* The value of a key without a deadline, borrowed; 0: it has one, or there is no such key. */
static int look_up_lasting(Run *run, PyObject *key, PyObject **value) {
    *value = PyDict_GetItemWithError(run->values, key);
    if (*value == NULL) return 0;
    return PyDict_GET_SIZE(run->expires) == 0 || PyDict_Contains(run->expires, key) == 0;
}

/* What a write that changes nothing answers; it waits as a read does. */
static int put_unchanged(Run *run, PyObject *key, int number) {
    if (!note_dirty(run, key) || !reserve(&run->self->reply, HEAD_MAX)) return 0;
    put_head(&run->self->reply, ':', number);
    return 1;
}

/* All that can fail before a change in place: the reply is among the others and the key among the changed ones. */
static int announce(Run *run, PyObject *key, Slice tail, Slice more, const char *text, Py_ssize_t size) {
    PyObject *reply = PyBytes_FromStringAndSize(text, size);
    int done = reply != NULL && reserve_event(run, tail, more) && PySet_Add(run->changed, key) == 0 &&
               PyList_Append(run->replies, reply) == 0;
    Py_XDECREF(reply);
    if (done) run->reply_bytes += size;
    return done;
}

/* An index from the end is for the handler: the event tells it from the beginning. */
static int lset(Run *run, Request *request) {
    Slice tail = tail_of(request), none = {"", 0};
    PyObject *value, *sides[2] = {NULL, NULL};
    long long index;
    if (!may_write(run) || !read_integer(request->argument[2], &index) || index < 0 || request->argument[2].at[0] == '-')
        return 0;
    PyObject *key = bytes_of(request->argument[1]), *item = bytes_of(request->argument[3]), *list = NULL;
    int done = key != NULL && item != NULL && look_up_lasting(run, key, &value) &&
               (PyObject *)Py_TYPE(value) == run->self->type[LIST];
    if (done) {
        sides[0] = PyObject_GetAttr(value, run->self->name[FRONT]);
        sides[1] = sides[0] != NULL ? PyObject_GetAttr(value, run->self->name[BACK]) : NULL;
        done = sides[1] != NULL && PyList_CheckExact(sides[0]) && PyList_CheckExact(sides[1]);
    }
    if (done) {
        Py_ssize_t before = PyList_GET_SIZE(sides[0]);
        list = sides[index >= before];
        index = index < before ? before - 1 - index : index - before;
        done = index < PyList_GET_SIZE(list) && announce(run, key, tail, none, "+OK\r\n", 5);
    }
    if (done) {
        PyObject *old = PyList_GET_ITEM(list, index);
        PyList_SET_ITEM(list, index, Py_NewRef(item));
        Py_DECREF(old);
        put_event(run, "LSET", 4, tail, none);
    }
    Py_XDECREF(sides[0]);
    Py_XDECREF(sides[1]);
    Py_XDECREF(key);
    Py_XDECREF(item);
    return done;
}

/* `$4\r\n1000\r\n$1\r\n\x80\r\n`: what follows the key in the SETRANGE of one byte. */
static Slice patch_of(char *text, Py_ssize_t at, char byte) {
    char digits[HEAD_MAX];
    int size = decimal(digits, at);
    Buffer made = {text, 0, PATCH_MAX};
    put_head(&made, '$', size);
    put(&made, digits, size);
    put(&made, "\r\n$1\r\n", 6);
    put(&made, &byte, 1);
    put(&made, "\r\n", 2);
    Slice patch = {text, made.size};
    return patch;
}

/* A bit beyond the end, or of a string that has not been changed in place yet, is for the handler. */
static int setbit(Run *run, Request *request) {
    PyObject *value;
    Slice bytes, name = request->argument[1], wanted = request->argument[3];
    long long offset;
    if (!read_offset(run, request->argument[2], &offset) || wanted.size != 1 || (wanted.at[0] & ~1) != '0') return 0;
    PyObject *key = bytes_of(name);
    int done = key != NULL && look_up_lasting(run, key, &value) && bytes_in(value, &bytes) && offset >> 3 < bytes.size;
    if (done) {
        Py_ssize_t at = (Py_ssize_t)(offset >> 3);
        int mask = 0x80 >> (offset & 7), on = wanted.at[0] == '1', was_on = (bytes.at[at] & mask) != 0;
        if (was_on == on) done = put_unchanged(run, key, on);
        else {
            char byte = (char)(on ? bytes.at[at] | mask : bytes.at[at] & ~mask), text[PATCH_MAX];
            Slice tail = {request->first, name.at + name.size + 2 - request->first}, more = patch_of(text, at, byte);
            done = PyByteArray_CheckExact(value) && may_write(run) &&
                   announce(run, key, tail, more, was_on ? ":1\r\n" : ":0\r\n", 4);
            if (done) PyByteArray_AS_STRING(value)[at] = byte;
            if (done) put_event(run, "SETRANGE", 4, tail, more);
        }
    }
    Py_XDECREF(key);
    return done;
}

/* -- HyperLogLogs: keyspace/types/hyperloglog.py */

static uint64_t little_endian(const char *at, Py_ssize_t size) {
    uint64_t number = 0;
    for (Py_ssize_t i = 0; i < size; i++) number |= (uint64_t)(unsigned char)at[i] << (8 * i);
    return number;
}

/* MurmurHash64A. Source: the reference implementation by Austin Appleby. */
static uint64_t murmur(Slice data) {
    const uint64_t by = 0xC6A4A7935BD1E995ULL;
    uint64_t h = 0xADC83B19ULL ^ (uint64_t)data.size * by;
    for (; data.size >= 8; data.at += 8, data.size -= 8) {
        uint64_t k = little_endian(data.at, 8) * by;
        k = (k ^ k >> 47) * by;
        h = (h ^ k) * by;
    }
    if (data.size) h = (h ^ little_endian(data.at, data.size)) * by;
    h = (h ^ h >> 47) * by;
    return h ^ h >> 47;
}

#define HLL_HEADER 16
#define HLL_BITS 14
#define HLL_DENSE_SIZE (HLL_HEADER + (6 << HLL_BITS) / 8)

/* What a register holds; -1 where its runs do not reach it. */
static int dense_rank(Slice value, int index) {
    const char *at = value.at + HLL_HEADER + index * 6 / 8;
    Py_ssize_t left = value.at + value.size - at;
    return (int)(little_endian(at, left < 2 ? left : 2) >> (index * 6 & 7)) & 63;
}

static int sparse_rank(Slice value, int index) {
    for (Py_ssize_t at = HLL_HEADER; at < value.size; at++) {
        int byte = (unsigned char)value.at[at], rank = 0, length = byte + 1;
        if (byte & 0x80) rank = (byte >> 2 & 31) + 1, length = (byte & 3) + 1;
        else if (byte & 0x40) {
            if (++at == value.size) return -1;
            length = ((byte & 63) << 8 | (unsigned char)value.at[at]) + 1;
        }
        if (index < length) return rank;
        index -= length;
    }
    return -1;
}

/* Elements that raise no register. The first that raises one is for the handler, with all of its command. */
static int pfadd(Run *run, Request *request) {
    PyObject *value, *key = bytes_of(request->argument[1]);
    Slice bytes;
    int done = key != NULL && look_up_lasting(run, key, &value) && bytes_in(value, &bytes);
    done = done && bytes.size >= HLL_HEADER && !memcmp(bytes.at, "HYLL", 4);
    int dense = done && bytes.at[4] == 0;
    done = done && (dense ? bytes.size == HLL_DENSE_SIZE : bytes.at[4] == 1);
    for (int i = 2; done && i < request->count; i++) {
        uint64_t hash = murmur(request->argument[i]), rest = hash >> HLL_BITS | 1ULL << (64 - HLL_BITS);
        int index = (int)(hash & ((1 << HLL_BITS) - 1)), rank = 1;
        for (; !(rest & 1); rest >>= 1) rank++;
        done = rank <= (dense ? dense_rank(bytes, index) : sparse_rank(bytes, index));
    }
    done = done && put_unchanged(run, key, 0);
    Py_XDECREF(key);
    return done;
}
