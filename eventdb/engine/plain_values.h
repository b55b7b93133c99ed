/* Plain commands that are executed on the values themselves, and what plain_run.c, plain_ranks.h and plain_parts.h
   build on: buffers, requests, the state of a run. The rules stand there.

   A command returns 1, or 0 to end the run before it; what it has put into `reply` is then cut off again. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>
#include <time.h>

#define ARGUMENTS_MAX 64        /* of one command */
#define VALUE_MAX (64 << 10)    /* a larger one is read by its handler */
#define REPLIES_MAX (64 << 10)  /* bytes of replies after which a run ends */
#define REPLY_MAX (256 << 10)   /* of one command */
#define ELEMENTS_MAX 1000       /* in a reply */
#define STRING_MAX (1LL << 31)  /* bits of longer ones are for the handler */
#define PATCH_MAX 96            /* bytes that tell of one changed byte */
#define DIGITS_MAX 9            /* of a length */

#define SLOW_NS 1000000         /* a handler that took longer ends the run: it may be one for the slow log */

/* Places in `tally` after the calls of each command. */
enum { COUNT, HITS, MISSES, REPLY_BYTES, WRITTEN, EVENT_BYTES, WAITS, LAST, LAST_AT, LAST_USEC, FACTS };
enum {
    FIELDS, FRONT, BACK, RANKING, MEMBERS, UPDATE, SCORES, GROUPS, LAST_SCORES, LAST_MEMBERS, STRING_BYTES, ATTRIBUTES,
};
enum { HASH, LIST, SET, ZSET, TYPES };

static const char *const ATTRIBUTE[] = {
    "fields", "front", "back", "ranking", "members", "update", "scores", "groups", "last_scores", "last_members",
    "string_bytes",
};

typedef struct {
    char *at;
    Py_ssize_t size, room;
} Buffer;

typedef struct {
    PyObject_HEAD
    PyObject *type[TYPES], *name[ATTRIBUTES], *ok; /* HashValue …; names of what they hold; the reply of SET */
    Buffer reply, log;                             /* kept from run to run; empty between them */
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

#define KINDS_MAX 80

/* One call of `run`. */
typedef struct {
    Runner *self;
    PyObject *values, *expires, *dirty, *null, *replies, *changed, *chunks, *head, *limits, *client;
    PyObject *handlers, *judged, *fits, *failed, *settle;
    const char *allowed; /* of each kind; NULL: all of them, on any key */
    PyObject *prefixes;  /* of the keys that are allowed */
    long long now_ms, clock_ns, last_ns;
    int apart, ordered;
    Py_ssize_t calls[KINDS_MAX], count, hits, misses, reply_bytes, event_bytes;
    Py_ssize_t written;      /* commands that made an event: none of them, or the first and maybe others */
    Py_ssize_t wants, waits; /* the batch that a reply waits for, one more than its place in `dirty`; 0: for none */
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

static int kind_of(Slice name, Py_ssize_t count); /* what COMMANDS has under it, or -1 */

/* Read a whole plain request; 0 when that is not what stands there. */
static int read_request(Request *request, const char *at, const char *end) {
    Py_ssize_t count;
    at = read_length(at, end, '*', &count);
    if (at == NULL || count < 2 || count > ARGUMENTS_MAX) return 0;
    at = read_bulk(at, end, &request->argument[0]);
    if (at == NULL) return 0;
    request->kind = kind_of(request->argument[0], count);
    if (request->kind < 0) return 0;
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

/* -- reading */

static PyObject *bytes_of(Slice slice) { return PyBytes_FromStringAndSize(slice.at, slice.size); }

/* Note the newest batch that changed this key; 0 when nobody knows which. */
static int note_dirty(Run *run, PyObject *key) {
    if (run->written) return 1; /* the open batch is newer than any */
    if (run->dirty == Py_None) return 0;
    for (Py_ssize_t i = PyList_GET_SIZE(run->dirty); i > run->wants; i--) {
        int found = PySet_Contains(PyList_GET_ITEM(run->dirty, i - 1), key);
        if (found < 0) return 0;
        if (found) run->wants = i;
    }
    return 1;
}

/* A reply without an event may join the run. */
static int may_join(Run *run) { return run->written || !run->count || run->wants == run->waits; }

/* A command with an event may. */
static int may_write(Run *run) { return run->head != Py_None && (run->written || !run->count); }

/* Each reply of the run is an object of its own: they will wait, and may each become an error. */
static int are_apart(Run *run) { return run->apart || run->written || (run->count ? run->waits : run->wants); }

/* The value at a key, borrowed, or NULL; 0 when the ordinary way has to look at this key. */
static int look_up(Run *run, Slice name, PyObject **value) {
    PyObject *key = bytes_of(name);
    int plain = key != NULL && note_dirty(run, key);
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
    PyObject *fields = PyObject_GetAttr(hash, run->self->name[FIELDS]);
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
    if (!look_up_typed(run, request->argument[1], run->self->type[HASH], &hash)) return 0;
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
    if (!look_up_typed(run, request->argument[1], run->self->type[HASH], &hash)) return 0;
    if (hash != NULL) fields = PyObject_GetAttr(hash, run->self->name[FIELDS]);
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
    if (!look_up_typed(run, request->argument[1], run->self->type[LIST], &list)) return 0;
    int done = 1;
    Py_ssize_t size = 0, start, stop;
    if (list != NULL) {
        parts[0] = PyObject_GetAttr(list, run->self->name[FRONT]);
        parts[1] = parts[0] != NULL ? PyObject_GetAttr(list, run->self->name[BACK]) : NULL;
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

/* -- writing */

static const char NOT_LOGGED[] = "no memory for the log of what was changed; the log has everything that was answered";

/* The events of the run, up to here, become one chunk of the batch. */
static void keep_log(Run *run) {
    Buffer *log = &run->self->log;
    if (!log->size) return;
    PyObject *chunk = PyBytes_FromStringAndSize(log->at, log->size);
    if (chunk == NULL || PyList_Append(run->chunks, chunk) < 0) Py_FatalError(NOT_LOGGED);
    Py_DECREF(chunk);
    log->size = 0;
}

/* What the client sent from the first argument on. */
static Slice tail_of(Request *request) {
    Slice tail = {request->first, request->end - request->first};
    return tail;
}

/* Room for an event, which is no longer than VALUE_MAX. */
static int reserve_event(Run *run, Slice tail, Slice more) {
    if (tail.size > VALUE_MAX) return 0;
    return reserve(&run->self->log, PyBytes_GET_SIZE(run->head) + tail.size + more.size + 2 * HEAD_MAX);
}

/* `*3\r\n$3\r\nSET\r\n`, the tail of the request, and more; the room is reserved. */
static void put_event(Run *run, const char *name, int count, Slice tail, Slice more) {
    Buffer *log = &run->self->log;
    put(log, PyBytes_AS_STRING(run->head), PyBytes_GET_SIZE(run->head));
    Py_ssize_t start = log->size, size = (Py_ssize_t)strlen(name);
    put_head(log, '*', count);
    put_head(log, '$', size);
    put(log, name, size);
    put(log, "\r\n", 2);
    put(log, tail.at, tail.size);
    put(log, more.at, more.size);
    run->event_bytes += log->size - start;
    run->written++;
}

/* Make `value` what the key holds, by an event SET. 0: nothing was changed. */
static int store(Run *run, PyObject *key, PyObject *value, PyObject *reply, Slice tail, Slice more) {
    if (!reserve_event(run, tail, more) || PyList_Append(run->replies, reply) < 0) return 0;
    if (PySet_Add(run->changed, key) < 0 || PyDict_SetItem(run->values, key, value) < 0) {
        Py_ssize_t last = PyList_GET_SIZE(run->replies) - 1;
        PyErr_Clear();
        if (PyList_SetSlice(run->replies, last, last + 1, NULL) < 0) Py_FatalError("a reply that cannot be taken back");
        return 0;
    }
    if (PyDict_GET_SIZE(run->expires) > 0 && PyDict_Contains(run->expires, key) == 1)
        if (PyDict_DelItem(run->expires, key) < 0) PyErr_Clear(); /* it cannot: deleting takes no memory */
    put_event(run, "SET", 3, tail, more);
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
    Slice none = {"", 0};
    if (!may_write(run)) return 0;
    PyObject *key = bytes_of(request->argument[1]), *value = bytes_of(request->argument[2]), *old;
    int done = key != NULL && value != NULL && old_string(run, key, &old);
    if (done) done = store(run, key, value, run->self->ok, tail_of(request), none);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return done;
}

static int run_incr(Run *run, Request *request) {
    if (!may_write(run)) return 0;
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
        Slice more = {text + start, made.size - start};
        done = value != NULL && reply != NULL && store(run, key, value, reply, tail_of(request), more);
    }
    Py_XDECREF(key);
    Py_XDECREF(value);
    Py_XDECREF(reply);
    return done;
}

/* A write into a value: the value is held; a new one is no key's yet. */
typedef struct {
    PyObject *key, *value, *argv, *part; /* the part is one attribute of the value */
    int is_new;
} Target;

/* All arguments as bytes objects. */
static PyObject *list_of(Request *request) {
    PyObject *argv = PyList_New(request->count);
    for (int i = 0; argv != NULL && i < request->count; i++) {
        PyObject *arg = bytes_of(request->argument[i]);
        if (arg == NULL) Py_CLEAR(argv);
        else PyList_SET_ITEM(argv, i, arg);
    }
    return argv;
}

static int open_target(Run *run, Request *request, PyObject *type, int attribute, Target *target) {
    Slice none = {"", 0};
    if (run->head == Py_None || !reserve_event(run, tail_of(request), none)) return 0;
    target->argv = list_of(request);
    if (target->argv == NULL) return 0;
    target->key = PyList_GET_ITEM(target->argv, 1);
    target->value = PyDict_GetItemWithError(run->values, target->key);
    Py_XINCREF(target->value);
    if (target->value == NULL) {
        if (run->ordered || PyErr_Occurred()) return 0;
        target->is_new = 1;
        target->value = PyObject_CallNoArgs(type);
        if (target->value == NULL) return 0;
    } else if (PyDict_GET_SIZE(run->expires) > 0 && PyDict_Contains(run->expires, target->key) != 0)
        return 0;
    if ((PyObject *)Py_TYPE(target->value) != type) return 0;
    target->part = PyObject_GetAttr(target->value, run->self->name[attribute]);
    return target->part != NULL;
}

static int close_target(Target *target, int done) {
    Py_XDECREF(target->argv);
    Py_XDECREF(target->value);
    Py_XDECREF(target->part);
    return done;
}

/* The value has been changed, and has an event; the reply is a number. 0: it is a new one, and is dropped. */
static int logged(Run *run, Request *request, Target *target, const char *name, Py_ssize_t number) {
    Slice none = {"", 0};
    char text[HEAD_MAX];
    Buffer made = {text, 0, sizeof text};
    put_head(&made, ':', number);
    PyObject *reply = PyBytes_FromStringAndSize(text, made.size);
    int done = reply != NULL && PySet_Add(run->changed, target->key) == 0;
    if (done && target->is_new) done = PyDict_SetItem(run->values, target->key, target->value) == 0;
    if (!done && target->is_new) {
        Py_XDECREF(reply);
        return 0;
    }
    if (!done || PyList_Append(run->replies, reply) < 0) Py_FatalError(NOT_LOGGED);
    put_event(run, name, request->count, tail_of(request), none);
    run->reply_bytes += made.size;
    Py_DECREF(reply);
    return 1;
}

/* Its own method changes the value, as when an event is applied. 0: it is a new one, and is dropped. */
static int updated(Run *run, Target *target) {
    PyObject *given[] = {target->value, target->argv, run->limits};
    PyObject *done = PyObject_VectorcallMethod(run->self->name[UPDATE], given, 3, NULL);
    if (done == NULL && !target->is_new) Py_FatalError("no memory in the middle of a change");
    Py_XDECREF(done);
    return done != NULL;
}

static int run_hset(Run *run, Request *request) {
    Target target = {NULL, NULL, NULL, NULL, 0};
    int done = may_write(run) && request->count % 2 == 0;
    done = done && open_target(run, request, run->self->type[HASH], FIELDS, &target) && PyDict_CheckExact(target.part);
    Py_ssize_t before = done ? PyDict_GET_SIZE(target.part) : 0;
    done = done && updated(run, &target);
    done = done && logged(run, request, &target, "HSET", PyDict_GET_SIZE(target.part) - before);
    return close_target(&target, done);
}

/* A member that is there already makes no event, and its reply waits as a read's does. */
static int run_sadd(Run *run, Request *request) {
    Target target = {NULL, NULL, NULL, NULL, 0};
    int done = open_target(run, request, run->self->type[SET], MEMBERS, &target);
    int found = done ? PySequence_Contains(target.part, PyList_GET_ITEM(target.argv, 2)) : -1;
    if (found > 0) {
        done = note_dirty(run, target.key) && reserve(&run->self->reply, HEAD_MAX);
        if (done) put_head(&run->self->reply, ':', 0);
    } else
        done = found == 0 && may_write(run) && updated(run, &target) && logged(run, request, &target, "SADD", 1);
    return close_target(&target, done);
}

static int push(Run *run, Request *request, int side, int other, const char *name) {
    Target target = {NULL, NULL, NULL, NULL, 0};
    int done = may_write(run) && open_target(run, request, run->self->type[LIST], side, &target);
    PyObject *rest = done ? PyObject_GetAttr(target.value, run->self->name[other]) : NULL;
    done = rest != NULL && PyList_CheckExact(rest) && PyList_CheckExact(target.part);
    for (int i = 2; done && i < request->count; i++) {
        done = PyList_Append(target.part, PyList_GET_ITEM(target.argv, i)) == 0;
        if (!done && i > 2 && !target.is_new) Py_FatalError("no memory in the middle of a change");
    }
    Py_ssize_t size = done ? PyList_GET_SIZE(target.part) + PyList_GET_SIZE(rest) : 0;
    done = done && logged(run, request, &target, name, size);
    Py_XDECREF(rest);
    return close_target(&target, done);
}

static int run_lpush(Run *run, Request *request) { return push(run, request, FRONT, BACK, "LPUSH"); }
static int run_rpush(Run *run, Request *request) { return push(run, request, BACK, FRONT, "RPUSH"); }
