/* Runs of plain commands: what a chunk of bytes from a client begins with, executed without a Python object a command.

   Optional. A plain command is GET, MGET, EXISTS, HGET, HGETALL, LRANGE, ZRANGE, SET or INCR without options, as nearly
   every client writes it:

     *2\r\n $3\r\n GET\r\n $5\r\n key:1\r\n        (spaces only here)

   The handlers in eventdb/commands stay the specification: whatever is run here has the same reply, the same event,
   the same dirty key and the same statistics as there, and tests/engine/test_plain_runs.py compares the two. Anything
   that is not plain ends the run, untouched, and takes the ordinary way (parser, gates, handler) from that byte on:

     another command, or other arguments; an odd length; a request that is not there to its end;
     a key of another type than the command is for; a large value, or many elements, which may take long;
     a key whose deadline has passed, or (INCR) that has one; a read of a dirty key, changed but not yet durable;
     a new key where the database keeps an Order of its keys; an INCR whose result is an error; no memory.

   What concerns all commands of a chunk (gates, WATCH, blocked clients, pauses, the slow log) has been looked at before
   by eventdb/engine/plain_runs.py, which also settles the run afterwards: counters, replies, the batch.

   One call is one run, of reads or of writes. What a write changes, in this order, so that nothing is half done:

     1. all objects are made and all room is reserved; whatever fails until then ends the run before this command;
     2. the key joins the batch's dirty keys, the value the database's dict; a deadline goes;
     3. the event is copied into `log`, as the request's own bytes:

          *2\r\n $9\r\n127.0.0.1\r\n   *3\r\n$3\r\nSET\r\n   $3\r\nkey\r\n$5\r\nvalue\r\n
          `head`, the caller's         one for all           copied from the request

   At the end of a run `log` becomes one bytes object among the batch's chunks. Were there no memory for it, the state
   would be ahead of its log: the process ends (Py_FatalError), and the next one replays the log.

   References: values found in dicts are borrowed; between finding one and copying it nothing runs that could drop it
   (the keys are bytes, whose hash and comparison run no Python code, and the interpreter's lock is kept throughout).
   Where an attribute of a value is asked for, the value is held. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define ARGUMENTS_MAX 64        /* of one command */
#define VALUE_MAX (64 << 10)    /* a larger one is read by its handler */
#define REPLIES_MAX (64 << 10)  /* bytes of replies after which a run ends */
#define REPLY_MAX (256 << 10)   /* of one command */
#define ELEMENTS_MAX 1000       /* in a reply */
#define BLOCKS_MAX 4096         /* of a sorted set; more are for its handler to search */
#define DIGITS_MAX 9            /* of a length */

/* The commands; plain_runs.py has the same order. The first WRITES only read. */
enum { GET, MGET, EXISTS, HGET, HGETALL, LRANGE, ZRANGE, SET, INCR, KINDS };
#define WRITES SET
#define UNKNOWN (-1)

/* Places in `tally` behind the calls of each command. */
enum { COUNT = KINDS, HITS, MISSES, REPLY_BYTES, EVENT_BYTES, LAST, TALLIES };

static const char SET_EVENT[] = "*3\r\n$3\r\nSET\r\n";
#define SET_EVENT_BYTES ((Py_ssize_t)sizeof SET_EVENT - 1)

typedef struct {
    char *at;
    Py_ssize_t size, room;
} Buffer;

typedef struct {
    PyObject_HEAD
    PyObject *hash_type, *list_type, *zset_type;         /* HashValue, ListValue, ZSetValue */
    PyObject *fields, *front, *back, *ranking, *members; /* names of what they hold */
    PyObject *ok;                                        /* the reply of SET */
    Buffer reply, log;    /* kept from run to run; empty between them */
} Runner;

typedef struct {
    const char *at;
    Py_ssize_t size;
} Slice;

/* One request: its arguments, and where the second one's length line begins. */
typedef struct {
    int kind, count;
    const char *first, *end;
    Slice argument[ARGUMENTS_MAX];
} Request;

/* One call of `run`. */
typedef struct {
    Runner *self;
    PyObject *values, *expires, *dirty, *null, *replies, *changed, *head;
    long long now_ms;
    int apart, ordered;
    Py_ssize_t calls[KINDS], count, hits, misses, reply_bytes, event_bytes;
} Run;

/* -- bytes */

/* Make room for `more` bytes; 0 when there is no memory. */
static int reserve(Buffer *buffer, Py_ssize_t more) {
    if (buffer->room - buffer->size >= more) return 1;
    Py_ssize_t room = (buffer->size + more) * 2;
    char *grown = PyMem_Realloc(buffer->at, (size_t)room);
    if (grown == NULL) return 0;
    buffer->at = grown;
    buffer->room = room;
    return 1;
}

/* The caller has reserved the room. */
static void put(Buffer *buffer, const char *bytes, Py_ssize_t size) {
    memcpy(buffer->at + buffer->size, bytes, (size_t)size);
    buffer->size += size;
}

/* Write a number in decimal; returns how many bytes, 20 at most. */
static int decimal(char *to, long long number) {
    char digits[20];
    int n = 0, size = 0;
    unsigned long long rest = number < 0 ? 0ULL - (unsigned long long)number : (unsigned long long)number;
    do digits[n++] = (char)('0' + rest % 10), rest /= 10;
    while (rest);
    if (number < 0) to[size++] = '-';
    while (n) to[size++] = digits[--n];
    return size;
}

#define HEAD_MAX 24

/* A mark, a number and a line break: `$5`, `:1`. HEAD_MAX bytes are reserved. */
static void put_head(Buffer *buffer, char mark, long long number) {
    char *to = buffer->at + buffer->size;
    to[0] = mark;
    int size = 1 + decimal(to + 1, number);
    to[size] = '\r', to[size + 1] = '\n';
    buffer->size += size + 2;
}

/* -- requests */

/* Read `*3\r\n` or `$5\r\n`; returns what follows, or NULL unless it is exactly that. */
static const char *read_length(const char *at, const char *end, char mark, Py_ssize_t *length) {
    if (end - at < 4 || *at++ != mark) return NULL;
    const char *first = at;
    Py_ssize_t number = 0;
    while (at < end && *at >= '0' && *at <= '9' && at - first <= DIGITS_MAX) number = number * 10 + (*at++ - '0');
    if (at == first || at - first > DIGITS_MAX || (*first == '0' && at - first > 1)) return NULL;
    if (end - at < 2 || at[0] != '\r' || at[1] != '\n') return NULL;
    *length = number;
    return at + 2;
}

static const char *read_bulk(const char *at, const char *end, Slice *bulk) {
    at = read_length(at, end, '$', &bulk->size);
    if (at == NULL || end - at < 2 || end - at - 2 < bulk->size) return NULL;
    bulk->at = at;
    at += bulk->size;
    return at[0] == '\r' && at[1] == '\n' ? at + 2 : NULL;
}

/* A byte and its capital are the same with bit 5 set, and no other byte is: the name is all letters. */
static int is_name(Slice found, const char *name, Py_ssize_t size) {
    if (found.size != size) return 0;
    for (Py_ssize_t i = 0; i < size; i++)
        if ((found.at[i] | 32) != name[i]) return 0;
    return 1;
}

static int kind_of(Slice name, Py_ssize_t count) {
    switch (name.size) {
    case 3:
        if (count == 2 && is_name(name, "get", 3)) return GET;
        if (count == 3 && is_name(name, "set", 3)) return SET;
        return UNKNOWN;
    case 4:
        if (count == 3 && is_name(name, "hget", 4)) return HGET;
        if (count == 2 && is_name(name, "incr", 4)) return INCR;
        return count >= 2 && is_name(name, "mget", 4) ? MGET : UNKNOWN;
    case 6:
        if (count == 4 && is_name(name, "lrange", 6)) return LRANGE;
        if (count == 4 && is_name(name, "zrange", 6)) return ZRANGE;
        return count >= 2 && is_name(name, "exists", 6) ? EXISTS : UNKNOWN;
    case 7: return count == 2 && is_name(name, "hgetall", 7) ? HGETALL : UNKNOWN;
    default: return UNKNOWN;
    }
}

/* Read a whole plain request; 0 when that is not what stands there. */
static int read_request(Request *request, const char *at, const char *end) {
    Py_ssize_t count;
    at = read_length(at, end, '*', &count);
    if (at == NULL || count < 2 || count > ARGUMENTS_MAX) return 0;
    at = read_bulk(at, end, &request->argument[0]);
    if (at == NULL) return 0;
    request->kind = kind_of(request->argument[0], count);
    if (request->kind == UNKNOWN) return 0;
    request->count = (int)count;
    request->first = at;
    for (int i = 1; i < count; i++) {
        at = read_bulk(at, end, &request->argument[i]);
        if (at == NULL) return 0;
    }
    request->end = at;
    return 1;
}

/* Read a signed 64-bit integer as strictly as protocol/replies.py: parse_int; 0 when it is none. */
static int read_integer(Slice text, long long *number) {
    const char *at = text.at, *end = at + text.size;
    int negative = at < end && *at == '-';
    at += negative;
    if (at == end || end - at > 19 || (*at == '0' && text.size > 1)) return 0;
    unsigned long long size = 0; /* 19 digits fit */
    for (; at < end; at++) {
        if (*at < '0' || *at > '9') return 0;
        size = size * 10 + (unsigned long long)(*at - '0');
    }
    if (size > (unsigned long long)INT64_MAX + (unsigned)negative) return 0;
    *number = negative ? (long long)(0ULL - size) : (long long)size;
    return 1;
}

/* -- reading. Each returns 1, or 0 to end the run before this command, whose reply is then cut off again. */

static PyObject *bytes_of(Slice slice) { return PyBytes_FromStringAndSize(slice.at, slice.size); }

/* The value at a key, borrowed, or NULL; 0 when the ordinary way has to look at this key. */
static int look_up(Run *run, Slice name, PyObject **value) {
    PyObject *key = bytes_of(name);
    int plain = key != NULL;
    for (Py_ssize_t i = 0; plain && i < PyList_GET_SIZE(run->dirty); i++)
        plain = PySet_Contains(PyList_GET_ITEM(run->dirty, i), key) == 0;
    if (plain) {
        *value = PyDict_GetItemWithError(run->values, key);
        plain = *value != NULL || !PyErr_Occurred();
    }
    if (plain && *value != NULL && PyDict_GET_SIZE(run->expires) > 0) {
        PyObject *at_ms = PyDict_GetItemWithError(run->expires, key);
        if (at_ms != NULL) plain = PyLong_AsLongLong(at_ms) > run->now_ms;
        if (PyErr_Occurred()) plain = 0;
    }
    Py_XDECREF(key);
    return plain;
}

static int put_null(Run *run) {
    if (!reserve(&run->self->reply, PyBytes_GET_SIZE(run->null))) return 0;
    put(&run->self->reply, PyBytes_AS_STRING(run->null), PyBytes_GET_SIZE(run->null));
    return 1;
}

static int put_bulk(Buffer *reply, const char *bytes, Py_ssize_t size) {
    if (size > VALUE_MAX || !reserve(reply, size + HEAD_MAX + 2)) return 0;
    put_head(reply, '$', size);
    put(reply, bytes, size);
    put(reply, "\r\n", 2);
    return 1;
}

/* A string, or nothing; `others`: what another type becomes, 0 to end the run. */
static int put_string(Run *run, PyObject *value, int others) {
    if (value == NULL) return put_null(run);
    if (PyBytes_CheckExact(value))
        return put_bulk(&run->self->reply, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    if (PyByteArray_CheckExact(value))
        return put_bulk(&run->self->reply, PyByteArray_AS_STRING(value), PyByteArray_GET_SIZE(value));
    return others ? put_null(run) : 0;
}

static void count_look_ups(Run *run, Py_ssize_t found, Py_ssize_t all) {
    run->hits += found;
    run->misses += all - found;
}

static int run_get(Run *run, Request *request) {
    PyObject *value;
    if (!look_up(run, request->argument[1], &value) || !put_string(run, value, 0)) return 0;
    count_look_ups(run, value != NULL, 1);
    return 1;
}

static int run_mget(Run *run, Request *request) {
    Buffer *reply = &run->self->reply;
    Py_ssize_t found = 0, start = reply->size;
    if (!reserve(reply, HEAD_MAX)) return 0;
    put_head(reply, '*', request->count - 1);
    for (int i = 1; i < request->count; i++) {
        PyObject *value;
        if (!look_up(run, request->argument[i], &value) || !put_string(run, value, 1)) return 0;
        if (reply->size - start > REPLY_MAX) return 0;
        found += value != NULL;
    }
    count_look_ups(run, found, request->count - 1);
    return 1;
}

static int run_exists(Run *run, Request *request) {
    Buffer *reply = &run->self->reply;
    Py_ssize_t found = 0;
    for (int i = 1; i < request->count; i++) {
        PyObject *value;
        if (!look_up(run, request->argument[i], &value)) return 0;
        found += value != NULL;
    }
    if (!reserve(reply, HEAD_MAX)) return 0;
    put_head(reply, ':', found);
    count_look_ups(run, found, request->count - 1);
    return 1;
}

/* A field of a hash that is exactly a HashValue: one whose fields have deadlines is of another class. */
static int put_field(Run *run, PyObject *hash, Slice name) {
    PyObject *fields = PyObject_GetAttr(hash, run->self->fields);
    PyObject *field = fields != NULL && PyDict_CheckExact(fields) ? bytes_of(name) : NULL;
    PyObject *value = field != NULL ? PyDict_GetItemWithError(fields, field) : NULL;
    int done = field != NULL && !PyErr_Occurred() && put_string(run, value, 0);
    Py_XDECREF(field);
    Py_XDECREF(fields);
    return done;
}

/* A value of exactly this type, held, or NULL where the key holds nothing; 0: another type, or for the ordinary way. */
static int look_up_typed(Run *run, Slice name, PyObject *type, PyObject **value) {
    if (!look_up(run, name, value)) return 0;
    if (*value != NULL && (PyObject *)Py_TYPE(*value) != type) return 0;
    Py_XINCREF(*value);
    return 1;
}

static int run_hget(Run *run, Request *request) {
    PyObject *hash;
    if (!look_up_typed(run, request->argument[1], run->self->hash_type, &hash)) return 0;
    int done = hash == NULL ? put_null(run) : put_field(run, hash, request->argument[2]);
    if (done) count_look_ups(run, hash != NULL, 1);
    Py_XDECREF(hash);
    return done;
}

static int put_element(Buffer *reply, Py_ssize_t start, PyObject *item) {
    if (!PyBytes_CheckExact(item) || reply->size - start > REPLY_MAX) return 0;
    return put_bulk(reply, PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item));
}

static int run_hgetall(Run *run, Request *request) {
    Buffer *reply = &run->self->reply;
    PyObject *hash, *fields = NULL, *name, *value;
    if (!look_up_typed(run, request->argument[1], run->self->hash_type, &hash)) return 0;
    if (hash != NULL) fields = PyObject_GetAttr(hash, run->self->fields);
    Py_ssize_t count = fields != NULL && PyDict_CheckExact(fields) ? PyDict_GET_SIZE(fields) : 0, at = 0;
    Py_ssize_t start = reply->size;
    int maps = PyBytes_AS_STRING(run->null)[0] == '_'; /* RESP3 */
    int done = (hash == NULL || count > 0) && count * 2 <= ELEMENTS_MAX && reserve(reply, HEAD_MAX);
    if (done) put_head(reply, maps ? '%' : '*', maps ? count : count * 2);
    while (done && count > 0 && PyDict_Next(fields, &at, &name, &value))
        done = put_element(reply, start, name) && put_element(reply, start, value);
    if (done) count_look_ups(run, hash != NULL, 1);
    Py_XDECREF(fields);
    Py_XDECREF(hash);
    return done;
}

/* The range that two arguments mean among `size` elements, `stop` exclusive: commands/data/lists.py clamp. */
static int read_range(Request *request, Py_ssize_t size, Py_ssize_t *start, Py_ssize_t *stop) {
    long long first, last;
    if (!read_integer(request->argument[2], &first) || !read_integer(request->argument[3], &last)) return 0;
    if (first < 0) first = first + size < 0 ? 0 : first + size;
    if (last < 0) last += size;
    if (last > size - 1) last = size - 1;
    if (first > last) first = 0, last = -1;
    *start = (Py_ssize_t)first, *stop = (Py_ssize_t)last + 1;
    return *stop - *start <= ELEMENTS_MAX;
}

/* The elements [start, stop) of the lists, one after the other; the first of them back to front if `turned`. */
static int put_slice(Buffer *reply, PyObject **lists, Py_ssize_t start, Py_ssize_t stop, int turned) {
    Py_ssize_t before = reply->size;
    if (!reserve(reply, HEAD_MAX)) return 0;
    put_head(reply, '*', stop - start);
    for (Py_ssize_t first = 0; start < stop; lists++, turned = 0) {
        PyObject *list = *lists;
        Py_ssize_t size = PyList_GET_SIZE(list);
        for (; start < stop && start < first + size; start++) {
            Py_ssize_t i = turned ? size - 1 - (start - first) : start - first;
            if (!put_element(reply, before, PyList_GET_ITEM(list, i))) return 0;
        }
        first += size;
    }
    return 1;
}

static int run_lrange(Run *run, Request *request) {
    PyObject *list, *parts[2] = {NULL, NULL};
    if (!look_up_typed(run, request->argument[1], run->self->list_type, &list)) return 0;
    int done = 1;
    Py_ssize_t size = 0, start, stop;
    if (list != NULL) {
        parts[0] = PyObject_GetAttr(list, run->self->front);
        parts[1] = parts[0] != NULL ? PyObject_GetAttr(list, run->self->back) : NULL;
        done = parts[1] != NULL && PyList_CheckExact(parts[0]) && PyList_CheckExact(parts[1]);
        if (done) size = PyList_GET_SIZE(parts[0]) + PyList_GET_SIZE(parts[1]);
    }
    done = done && read_range(request, size, &start, &stop) && put_slice(&run->self->reply, parts, start, stop, 1);
    if (done) count_look_ups(run, list != NULL, 1);
    Py_XDECREF(parts[0]);
    Py_XDECREF(parts[1]);
    Py_XDECREF(list);
    return done;
}

/* A sorted set keeps its members in blocks; without a ranking yet it is for the handler, which makes one. */
static int run_zrange(Run *run, Request *request) {
    PyObject *zset, *ranking = NULL, *blocks = NULL;
    if (!look_up_typed(run, request->argument[1], run->self->zset_type, &zset)) return 0;
    int done = 1;
    Py_ssize_t count = 0, size = 0, start, stop;
    if (zset != NULL) {
        ranking = PyObject_GetAttr(zset, run->self->ranking);
        blocks = ranking != NULL && ranking != Py_None ? PyObject_GetAttr(ranking, run->self->members) : NULL;
        done = blocks != NULL && PyList_CheckExact(blocks) && PyList_GET_SIZE(blocks) <= BLOCKS_MAX;
        if (done) count = PyList_GET_SIZE(blocks);
    }
    for (Py_ssize_t i = 0; i < count && done; i++) {
        done = PyList_CheckExact(PyList_GET_ITEM(blocks, i));
        if (done) size += PyList_GET_SIZE(PyList_GET_ITEM(blocks, i));
    }
    done = done && read_range(request, size, &start, &stop);
    PyObject **first = blocks != NULL ? PySequence_Fast_ITEMS(blocks) : NULL;
    done = done && put_slice(&run->self->reply, first, start, stop, 0);
    if (done) count_look_ups(run, zset != NULL, 1);
    Py_XDECREF(blocks);
    Py_XDECREF(ranking);
    Py_XDECREF(zset);
    return done;
}

/* -- writing */

/* Make `value` what the key holds. The event is `*3 SET`, the request's `tail` from its first argument on, and `more`.
   0: nothing was changed. */
static int store(Run *run, PyObject *key, PyObject *value, PyObject *reply, Slice tail, Slice more) {
    Buffer *log = &run->self->log;
    Py_ssize_t head = PyBytes_GET_SIZE(run->head), event = SET_EVENT_BYTES + tail.size + more.size;
    if (!reserve(log, head + event)) return 0;
    if (PyList_Append(run->replies, reply) < 0) return 0;
    if (PySet_Add(run->changed, key) < 0 || PyDict_SetItem(run->values, key, value) < 0) {
        Py_ssize_t last = PyList_GET_SIZE(run->replies) - 1;
        PyErr_Clear();
        if (PyList_SetSlice(run->replies, last, last + 1, NULL) < 0) Py_FatalError("a reply that cannot be taken back");
        return 0;
    }
    if (PyDict_GET_SIZE(run->expires) > 0 && PyDict_Contains(run->expires, key) == 1)
        if (PyDict_DelItem(run->expires, key) < 0) PyErr_Clear(); /* it cannot: deleting takes no memory */
    put(log, PyBytes_AS_STRING(run->head), head);
    put(log, SET_EVENT, SET_EVENT_BYTES);
    put(log, tail.at, tail.size);
    put(log, more.at, more.size);
    run->event_bytes += event;
    run->reply_bytes += PyBytes_GET_SIZE(reply);
    return 1;
}

/* The string that a key holds, borrowed, or NULL; 0 when the key is one for the ordinary way. */
static int old_string(Run *run, PyObject *key, PyObject **old) {
    *old = PyDict_GetItemWithError(run->values, key);
    if (*old != NULL) return PyBytes_CheckExact(*old); /* freeing another value may take long */
    return !run->ordered && !PyErr_Occurred();
}

static int run_set(Run *run, Request *request) {
    Slice tail = {request->first, request->end - request->first}, more = {"", 0};
    if (tail.size > VALUE_MAX) return 0;
    PyObject *key = bytes_of(request->argument[1]), *value = bytes_of(request->argument[2]), *old;
    int done = key != NULL && value != NULL && old_string(run, key, &old);
    if (done) done = store(run, key, value, run->self->ok, tail, more);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return done;
}

static int run_incr(Run *run, Request *request) {
    PyObject *key = bytes_of(request->argument[1]), *old, *value = NULL, *reply = NULL;
    long long number = 0;
    int done = key != NULL && old_string(run, key, &old);
    if (done && PyDict_GET_SIZE(run->expires) > 0) done = PyDict_Contains(run->expires, key) == 0;
    if (done && old != NULL) {
        Slice text = {PyBytes_AS_STRING(old), PyBytes_GET_SIZE(old)};
        done = read_integer(text, &number) && number < INT64_MAX;
    }
    if (done) {
        char text[64]; /* :12\r\n for the client, $2\r\n12\r\n for the log */
        Buffer made = {text, 0, sizeof text};
        put_head(&made, ':', number + 1);
        Py_ssize_t size = made.size - 3, start = made.size;
        value = PyBytes_FromStringAndSize(text + 1, size);
        reply = PyBytes_FromStringAndSize(text, start);
        put_head(&made, '$', size);
        put(&made, text + 1, size + 2);
        Slice tail = {request->first, request->end - request->first}, more = {text + start, made.size - start};
        done = value != NULL && reply != NULL && store(run, key, value, reply, tail, more);
    }
    Py_XDECREF(key);
    Py_XDECREF(value);
    Py_XDECREF(reply);
    return done;
}

/* -- runs */

static int (*const COMMANDS[KINDS])(Run *, Request *) = {
    run_get, run_mget, run_exists, run_hget, run_hgetall, run_lrange, run_zrange, run_set, run_incr,
};

/* Hand over what `reply` has from `start` on; 0 when there is no memory. */
static int hand_over(Run *run, Py_ssize_t start) {
    Buffer *reply = &run->self->reply;
    PyObject *made = PyBytes_FromStringAndSize(reply->at + start, reply->size - start);
    int done = made != NULL && PyList_Append(run->replies, made) == 0;
    if (done) run->reply_bytes += reply->size - start;
    Py_XDECREF(made);
    reply->size = start;
    return done;
}

/* Run commands of one sort from `at` on; returns where the first stands that was not run. */
static const char *run_all(Run *run, const char *at, const char *end, Py_ssize_t limit, Py_ssize_t room, int *last) {
    Buffer *reply = &run->self->reply;
    Request request;
    int writes = -1;
    while (run->count < limit && read_request(&request, at, end)) {
        if (writes < 0) writes = request.kind >= WRITES;
        if (writes != (request.kind >= WRITES) || (writes ? run->head == Py_None : run->dirty == Py_None)) break;
        Py_ssize_t start = reply->size;
        int done = COMMANDS[request.kind](run, &request);
        if (done && run->apart && !writes) done = hand_over(run, start);
        if (!done) {
            PyErr_Clear(); /* the ordinary way meets it again, and answers */
            reply->size = start;
            break;
        }
        *last = request.kind;
        run->calls[request.kind]++;
        run->count++;
        at = request.end;
        if (reply->size >= REPLIES_MAX || run->reply_bytes >= REPLIES_MAX || run->event_bytes >= room) break;
    }
    return at;
}

/* Write down what was run; 0 with an exception when there is no memory. */
static int fill_tally(Run *run, PyObject *tally, int last) {
    Py_ssize_t found[TALLIES];
    memcpy(found, run->calls, sizeof run->calls);
    found[COUNT] = run->count, found[HITS] = run->hits, found[MISSES] = run->misses;
    found[REPLY_BYTES] = run->reply_bytes, found[EVENT_BYTES] = run->event_bytes, found[LAST] = last;
    for (Py_ssize_t i = 0; i < TALLIES; i++) {
        PyObject *item = PyLong_FromSsize_t(found[i]);
        if (item == NULL || PyList_SetItem(tally, i, item) < 0) return 0;
    }
    return 1;
}

/* The events of the run become one chunk of the batch. */
static int keep_log(Run *run, PyObject *chunks) {
    Buffer *log = &run->self->log;
    PyObject *chunk = PyBytes_FromStringAndSize(log->at, log->size);
    int done = chunk != NULL && PyList_Append(chunks, chunk) == 0;
    Py_XDECREF(chunk);
    return done;
}

enum {
    DATA, START, LIMIT, VALUES, EXPIRES, NOW_MS, DIRTY, NOTHING, APART, REPLIES, TALLY, ORIGIN, CHANGED, CHUNKS, ROOM,
    ORDERED, PARAMETERS,
};

static int are_sets(PyObject *list) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++)
        if (!PySet_CheckExact(PyList_GET_ITEM(list, i))) return 0;
    return 1;
}

static int fit(PyObject *const *p, Py_ssize_t count) {
    if (count != PARAMETERS || !PyBytes_CheckExact(p[DATA]) || !PyDict_CheckExact(p[VALUES])) return 0;
    if (!PyDict_CheckExact(p[EXPIRES]) || !PyBytes_CheckExact(p[NOTHING]) || !PyList_CheckExact(p[REPLIES])) return 0;
    if (!PyList_CheckExact(p[TALLY]) || PyList_GET_SIZE(p[TALLY]) != TALLIES) return 0;
    if (p[DIRTY] != Py_None && !(PyList_CheckExact(p[DIRTY]) && are_sets(p[DIRTY]))) return 0;
    if (p[ORIGIN] != Py_None && !PyBytes_CheckExact(p[ORIGIN])) return 0;
    return PySet_CheckExact(p[CHANGED]) && PyList_CheckExact(p[CHUNKS]);
}

static PyObject *runner_run(Runner *self, PyObject *const *p, Py_ssize_t count) {
    if (!fit(p, count)) {
        PyErr_SetString(PyExc_TypeError, "see plain_run.pyi");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(p[START]), limit = PyLong_AsSsize_t(p[LIMIT]), room = PyLong_AsSsize_t(p[ROOM]);
    Run run = {.self = self, .values = p[VALUES], .expires = p[EXPIRES], .dirty = p[DIRTY], .null = p[NOTHING],
               .replies = p[REPLIES], .changed = p[CHANGED], .head = p[ORIGIN], .now_ms = PyLong_AsLongLong(p[NOW_MS]),
               .apart = p[APART] == Py_True, .ordered = p[ORDERED] == Py_True};
    if (PyErr_Occurred()) return NULL;
    const char *data = PyBytes_AS_STRING(p[DATA]);
    Py_ssize_t size = PyBytes_GET_SIZE(p[DATA]);
    if (start < 0 || start > size) {
        PyErr_SetString(PyExc_ValueError, "start outside of the data");
        return NULL;
    }
    int last = 0;
    const char *end = run_all(&run, data + start, data + size, limit, room, &last);
    int done = 1;
    if (self->reply.size) done = hand_over(&run, 0);
    if (done) done = fill_tally(&run, p[TALLY], last);
    PyObject *reached = done ? PyLong_FromSsize_t(end - data) : NULL;
    if (run.event_bytes && (reached == NULL || !keep_log(&run, p[CHUNKS])))
        Py_FatalError("no memory for the log of what was changed; the log has everything that was answered");
    self->reply.size = self->log.size = 0;
    return reached;
}

/* -- the module */

static void runner_dealloc(Runner *self) {
    PyObject *held[] = {self->hash_type, self->list_type, self->zset_type, self->fields, self->front,
                        self->back,      self->ranking,   self->members,   self->ok};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) Py_XDECREF(held[i]);
    PyMem_Free(self->reply.at);
    PyMem_Free(self->log.at);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *runner_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(names)) {
    PyObject *hash, *list, *zset;
    if (!PyArg_ParseTuple(args, "O!O!O!", &PyType_Type, &hash, &PyType_Type, &list, &PyType_Type, &zset)) return NULL;
    Runner *self = (Runner *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    Py_INCREF(hash), Py_INCREF(list), Py_INCREF(zset);
    self->hash_type = hash, self->list_type = list, self->zset_type = zset;
    self->fields = PyUnicode_InternFromString("fields");
    self->front = PyUnicode_InternFromString("front");
    self->back = PyUnicode_InternFromString("back");
    self->ranking = PyUnicode_InternFromString("ranking");
    self->members = PyUnicode_InternFromString("members");
    self->ok = PyBytes_FromString("+OK\r\n");
    if (PyErr_Occurred()) Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))runner_run, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject RunnerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "eventdb.engine.plain_run.Runner",
    .tp_basicsize = sizeof(Runner),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = runner_new,
    .tp_dealloc = (destructor)runner_dealloc,
    .tp_methods = methods,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "plain_run", .m_size = -1};

PyMODINIT_FUNC PyInit_plain_run(void) {
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &RunnerType) < 0) Py_CLEAR(made);
    return made;
}
