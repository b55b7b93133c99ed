/* Runs of plain commands: what a chunk of bytes from a client begins with, executed without the interpreter's loop.

   Optional. A plain command is one of COMMANDS, at the end of this file, as nearly every client writes it:

     *2\r\n $3\r\n GET\r\n $5\r\n key:1\r\n        (spaces only here)

   The hottest ones are executed without a Python object a command (plain_values.h). For the others the request is read
   here, and their handler in eventdb/commands is called (handle); what surrounds a command is shared by all of the run.
   Between the two are those of plain_ranks.h and plain_parts.h: what their code leaves, the handler does (run_own).
   The handlers stay the specification: whatever is run here has the same reply, the same event, the same dirty key and
   the same statistics as there, and tests/engine/test_plain_runs.py compares the two. Anything that is not plain ends
   the run, untouched, and takes the ordinary way (parser, gates, handler) from that byte on:

     another command, or another number of arguments; an odd length; a request that is not there to its end;
     a command or a key that the client's user may not use, or of which only a closer look at its rules can tell;

   and of those in plain_values.h also

     a key of another type than the command is for; a large value, or many elements, which may take long;
     a key whose deadline has passed, or (all writes but SET) that has one;
     a new key where the database keeps an Order of its keys; an INCR whose result is an error; no memory.

   What concerns all commands of a chunk (gates, WATCH, blocked clients, pauses, the slow log) has been looked at before
   by eventdb/engine/plain_runs.py, which also settles the run afterwards: counters, replies, the batch.

   All replies of a run wait for the same batch: none, or the one that changed the keys that are read (`waits`), or,
   when the first command made an event, the open one (`written`). A command that would wait for another ends the run
   before it. What a write changes, in this order, so that nothing is half done:

     1. all objects are made and all room is reserved; whatever fails until then ends the run before this command;
     2. the key joins the batch's dirty keys, the value is changed or joins the database's dict; a deadline goes (SET);
     3. the event is copied into `log`, as the request's own bytes:

          *2\r\n $9\r\n127.0.0.1\r\n   *3\r\n$3\r\nSET\r\n   $3\r\nkey\r\n$5\r\nvalue\r\n
          `head`, the caller's         its name           copied from the request

   At the end of a run, and before a handler that writes, `log` becomes one bytes object among the batch's chunks. Were
   there no memory for it, the state would be ahead of its log: the process ends (Py_FatalError), and the next one
   replays the log.

   References: values found in dicts are borrowed; between finding one and copying it nothing runs that could drop it
   (the keys are bytes, whose hash and comparison run no Python code, and the interpreter's lock is kept throughout).
   Where an attribute of a value is asked for, the value is held. */

#include "plain_values.h"

#include "plain_ranks.h"

#include "plain_parts.h"

/* -- handlers */

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

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* The ordinary way would run this command now, and not ask for a longer lease before. */
static int may_take(Run *run, int kind, PyObject *argv) {
    if (!PyBytes_AS_STRING(run->judged)[kind]) return 1;
    PyObject *found = PyObject_CallFunction(run->fits, "iO", kind, argv);
    Py_XDECREF(found);
    return found == Py_True;
}

static PyObject *call_handler(Run *run, int kind, PyObject *argv) {
    PyObject *given[] = {run->client, argv}, *type, *failure, *trace;
    PyObject *reply = PyObject_Vectorcall(PyList_GET_ITEM(run->handlers, kind), given, 2, NULL);
    if (reply != NULL || !PyErr_ExceptionMatches(PyExc_Exception)) return reply;
    PyErr_Fetch(&type, &failure, &trace);
    PyErr_NormalizeException(&type, &failure, &trace);
    if (trace != NULL) PyException_SetTraceback(failure, trace);
    reply = PyObject_CallFunction(run->failed, "iO", kind, failure);
    Py_XDECREF(type), Py_XDECREF(failure), Py_XDECREF(trace);
    return reply;
}

/* Put what a handler answered after the other replies. */
static int put_reply(Run *run, PyObject *made) {
    Buffer *reply = &run->self->reply;
    Py_ssize_t size = PyBytes_GET_SIZE(made);
    if (!are_apart(run) && size <= VALUE_MAX) {
        if (!reserve(reply, size)) return 0;
        put(reply, PyBytes_AS_STRING(made), size);
        return 1;
    }
    if ((reply->size && !hand_over(run, 0)) || PyList_Append(run->replies, made) < 0) return 0;
    run->reply_bytes += size;
    return 1;
}

/* A command that only its handler can run: `keys` of its first arguments are keys. */
static int handle(Run *run, Request *request, int keys, int writes) {
    if (PyList_GET_ITEM(run->handlers, request->kind) == Py_None || (writes && !may_write(run))) return 0;
    PyObject *argv = list_of(request);
    int done = argv != NULL;
    for (int i = 1; done && i <= keys; i++) done = note_dirty(run, PyList_GET_ITEM(argv, i));
    if (!done || !may_join(run) || !may_take(run, request->kind, argv)) {
        Py_XDECREF(argv);
        return 0;
    }
    if (!run->clock_ns) run->clock_ns = now_ns();
    keep_log(run); /* what a handler writes comes after it */
    PyObject *reply = call_handler(run, request->kind, argv), *bytes = NULL;
    Py_ssize_t size = 0;
    if (writes) {
        bytes = PyObject_CallNoArgs(run->settle);
        size = bytes != NULL ? PyLong_AsSsize_t(bytes) : -1;
        if (size < 0) Py_FatalError(NOT_LOGGED);
        run->event_bytes += size;
        run->written += size > 0;
    }
    done = reply != NULL && PyBytes_CheckExact(reply) && put_reply(run, reply);
    if (!done && size) Py_FatalError("no memory for the reply to a change");
    long long now = now_ns();
    run->last_ns = now - run->clock_ns;
    run->clock_ns = now;
    Py_XDECREF(bytes);
    Py_XDECREF(reply);
    Py_DECREF(argv);
    return done;
}

static int run_read(Run *run, Request *request) { return handle(run, request, 1, 0); }
static int run_read_all(Run *run, Request *request) { return handle(run, request, request->count - 1, 0); }
static int run_write(Run *run, Request *request) { return handle(run, request, 1, 1); }
static int run_write_all(Run *run, Request *request) { return handle(run, request, request->count - 1, 1); }

/* Its own code first, and the handler for what that leaves. */
static int run_own(Run *run, Request *request, int (*own)(Run *, Request *), int writes) {
    Py_ssize_t before = run->self->reply.size;
    if (own(run, request)) return 1;
    PyErr_Clear(); /* the handler meets it again */
    if (run->self->reply.size > before) run->self->reply.size = before;
    return handle(run, request, 1, writes);
}

#define READ(name) \
    static int read_##name(Run *run, Request *request) { return run_own(run, request, name, 0); }
#define WRITE(name) \
    static int write_##name(Run *run, Request *request) { return run_own(run, request, name, 1); }

READ(hmget) READ(lindex) READ(getbit) READ(zrank) READ(zrevrank) READ(zcount) READ(zrevrange) READ(zrangebyscore)
READ(zrevrangebyscore) WRITE(setbit) WRITE(pfadd) WRITE(lset)

/* -- runs */

/* Every plain command, with the least and the most arguments, its name among them; plain_runs.py has the same order.
   Those without code of their own work on their first argument, `…_all` on all of them, and reach nothing but
   the database; what they emit is in the transaction when they return. */
static const struct {
    const char *name;
    int least, most, (*run)(Run *, Request *);
} COMMANDS[] = {
    {"GET", 2, 2, run_get}, {"SET", 3, 3, run_set}, {"MGET", 2, 64, run_mget}, {"EXISTS", 2, 64, run_exists},
    {"INCR", 2, 2, run_incr}, {"HGET", 3, 3, run_hget}, {"HSET", 4, 64, run_hset}, {"HGETALL", 2, 2, run_hgetall},
    {"SADD", 3, 3, run_sadd}, {"LPUSH", 3, 64, run_lpush}, {"RPUSH", 3, 64, run_rpush}, {"LRANGE", 4, 4, run_lrange},
    {"ZRANGE", 4, 4, run_zrange},
    /* reads */
    {"STRLEN", 2, 2, run_read}, {"GETRANGE", 4, 4, run_read}, {"GETBIT", 3, 3, read_getbit}, {"TTL", 2, 2, run_read},
    {"PTTL", 2, 2, run_read}, {"TYPE", 2, 2, run_read}, {"HMGET", 3, 64, read_hmget}, {"HEXISTS", 3, 3, run_read},
    {"HLEN", 2, 2, run_read}, {"LINDEX", 3, 3, read_lindex}, {"LLEN", 2, 2, run_read}, {"SISMEMBER", 3, 3, run_read},
    {"SMEMBERS", 2, 2, run_read}, {"SCARD", 2, 2, run_read}, {"SRANDMEMBER", 2, 3, run_read},
    {"SINTER", 2, 64, run_read_all}, {"ZSCORE", 3, 3, run_read}, {"ZRANK", 3, 3, read_zrank}, {"ZCARD", 2, 2, run_read},
    {"ZREVRANK", 3, 3, read_zrevrank}, {"ZCOUNT", 4, 4, read_zcount}, {"ZREVRANGE", 4, 5, read_zrevrange},
    {"ZRANGEBYSCORE", 4, 8, read_zrangebyscore}, {"ZREVRANGEBYSCORE", 4, 8, read_zrevrangebyscore}, {"XRANGE", 4, 6, run_read},
    {"XLEN", 2, 2, run_read}, {"GEOSEARCH", 7, 20, run_read}, {"PFCOUNT", 2, 2, run_read},
    /* writes */
    {"SETBIT", 4, 4, write_setbit}, {"PFADD", 3, 64, write_pfadd}, {"INCRBY", 3, 3, run_write}, {"DECR", 2, 2, run_write},
    {"APPEND", 3, 3, run_write}, {"EXPIRE", 3, 3, run_write}, {"HDEL", 3, 64, run_write}, {"HINCRBY", 4, 4, run_write},
    {"LPOP", 2, 2, run_write}, {"RPOP", 2, 2, run_write}, {"LSET", 4, 4, write_lset}, {"SREM", 3, 64, run_write},
    {"SPOP", 2, 2, run_write}, {"ZADD", 4, 64, run_write}, {"ZINCRBY", 4, 4, run_write}, {"ZREM", 3, 64, run_write},
    {"XADD", 5, 64, run_write}, {"SET", 4, 7, run_write}, {"SETEX", 4, 4, run_write}, {"SETNX", 3, 3, run_write},
    {"PEXPIRE", 3, 3, run_write}, {"LTRIM", 4, 4, run_write}, {"ZPOPMIN", 2, 3, run_write},
    {"DEL", 2, 64, run_write_all},
};
#define KINDS ((int)(sizeof COMMANDS / sizeof *COMMANDS))
_Static_assert(KINDS <= KINDS_MAX, "the calls of each have a place");

/* Of each letter the first kind that begins with it, and of each kind the next one, counted from 1; 0: none. */
static unsigned char FIRST[32], NEXT[KINDS];

static void index_names(void) {
    memset(FIRST, 0, sizeof FIRST);
    for (int kind = KINDS - 1; kind >= 0; kind--) {
        unsigned char *first = &FIRST[COMMANDS[kind].name[0] & 31];
        NEXT[kind] = *first, *first = (unsigned char)(kind + 1);
    }
}

/* A byte and its capital are the same without bit 5, and no other byte is: the name is all letters. */
static int kind_of(Slice name, Py_ssize_t count) {
    for (int kind = name.size ? FIRST[name.at[0] & 31] - 1 : -1; kind >= 0; kind = NEXT[kind] - 1) {
        const char *known = COMMANDS[kind].name;
        Py_ssize_t i = 0;
        while (i < name.size && (name.at[i] & ~32) == known[i] && known[i]) i++;
        if (i == name.size && !known[i] && count >= COMMANDS[kind].least && count <= COMMANDS[kind].most) return kind;
    }
    return -1;
}

/* The client may run it on all of its keys. */
static int permitted(Run *run, Request *request) {
    int (*does)(Run *, Request *) = COMMANDS[request->kind].run;
    int all = does == run_mget || does == run_exists || does == run_read_all || does == run_write_all;
    if (!run->allowed[request->kind]) return 0;
    for (int i = 1; i < (all ? request->count : 2); i++) {
        Slice key = request->argument[i];
        Py_ssize_t j = 0;
        for (; j < PyTuple_GET_SIZE(run->prefixes); j++) {
            PyObject *prefix = PyTuple_GET_ITEM(run->prefixes, j);
            Py_ssize_t size = PyBytes_GET_SIZE(prefix);
            if (size <= key.size && !memcmp(key.at, PyBytes_AS_STRING(prefix), (size_t)size)) break;
        }
        if (j == PyTuple_GET_SIZE(run->prefixes)) return 0;
    }
    return 1;
}

/* Run commands from `start` on; returns where the first stands that was not run. last: the kind and the place of the
   one before it. */
static const char *run_all(
    Run *run, const char *data, Py_ssize_t start, Py_ssize_t size, Py_ssize_t limit, Py_ssize_t room, Py_ssize_t *last
) {
    Buffer *reply = &run->self->reply;
    const char *at = data + start, *end = data + size;
    Request request;
    while (run->count < limit && read_request(&request, at, end)) {
        Py_ssize_t before = reply->size, written = run->written, hits = run->hits, misses = run->misses;
        run->wants = 0, run->last_ns = 0;
        if (run->allowed != NULL && !permitted(run, &request)) break;
        int done = COMMANDS[request.kind].run(run, &request);
        if (done && run->written == written) {
            done = may_join(run) && (reply->size <= before || !are_apart(run) || hand_over(run, before));
            if (done && !run->count) run->waits = run->wants;
        }
        if (!done) {
            PyErr_Clear(); /* the ordinary way meets it again, and answers */
            if (reply->size > before) reply->size = before;
            run->hits = hits, run->misses = misses;
            break;
        }
        last[0] = request.kind, last[1] = at - data;
        run->calls[request.kind]++;
        run->count++;
        at = request.end;
        if (reply->size >= REPLIES_MAX || run->reply_bytes >= REPLIES_MAX || run->event_bytes >= room) break;
        if (run->last_ns >= SLOW_NS) break;
    }
    return at;
}

/* Write down what was run; 0 with an exception when there is no memory. */
static int fill_tally(Run *run, PyObject *tally, Py_ssize_t *last) {
    Py_ssize_t facts[] = {
        run->count, run->hits, run->misses, run->reply_bytes, run->written, run->event_bytes, run->waits, last[0],
        last[1], (Py_ssize_t)(run->last_ns / 1000),
    };
    int all = run->count > 0 && run->calls[last[0]] == run->count; /* of one kind: the calls of no other are read */
    for (Py_ssize_t i = all ? last[0] : 0; i < KINDS + FACTS; i = all && i < KINDS ? KINDS : i + 1) {
        PyObject *item = PyLong_FromSsize_t(i < KINDS ? run->calls[i] : facts[i - KINDS]);
        if (item == NULL || PyList_SetItem(tally, i, item) < 0) return 0;
    }
    return 1;
}

enum {
    DATA, START, LIMIT, VALUES, EXPIRES, NOW_MS, DIRTY, NOTHING, APART, REPLIES, TALLY, ORIGIN, CHANGED, CHUNKS, ROOM,
    ORDERED, LIMITS, CLIENT, RIGHTS, HANDLING, PARAMETERS,
};

static int are_sets(PyObject *list) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++)
        if (!PySet_CheckExact(PyList_GET_ITEM(list, i))) return 0;
    return 1;
}

static int are_rights(PyObject *rights) {
    if (!PyTuple_CheckExact(rights) || PyTuple_GET_SIZE(rights) != 2) return 0;
    PyObject *allowed = PyTuple_GET_ITEM(rights, 0), *prefixes = PyTuple_GET_ITEM(rights, 1);
    if (!PyBytes_CheckExact(allowed) || PyBytes_GET_SIZE(allowed) != KINDS || !PyTuple_CheckExact(prefixes)) return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(prefixes); i++)
        if (!PyBytes_CheckExact(PyTuple_GET_ITEM(prefixes, i))) return 0;
    return 1;
}

static int fit(PyObject *const *p, Py_ssize_t count) {
    if (count != PARAMETERS || !PyBytes_CheckExact(p[DATA]) || !PyDict_CheckExact(p[VALUES])) return 0;
    if (!PyDict_CheckExact(p[EXPIRES]) || !PyBytes_CheckExact(p[NOTHING]) || !PyList_CheckExact(p[REPLIES])) return 0;
    if (!PyList_CheckExact(p[TALLY]) || PyList_GET_SIZE(p[TALLY]) != KINDS + FACTS) return 0;
    if (p[DIRTY] != Py_None && !(PyList_CheckExact(p[DIRTY]) && are_sets(p[DIRTY]))) return 0;
    if (p[ORIGIN] != Py_None && !PyBytes_CheckExact(p[ORIGIN])) return 0;
    if (p[RIGHTS] != Py_None && !are_rights(p[RIGHTS])) return 0;
    if (!PyTuple_CheckExact(p[HANDLING]) || PyTuple_GET_SIZE(p[HANDLING]) != 5) return 0;
    PyObject *handlers = PyTuple_GET_ITEM(p[HANDLING], 0), *judged = PyTuple_GET_ITEM(p[HANDLING], 1);
    if (!PyList_CheckExact(handlers) || PyList_GET_SIZE(handlers) != KINDS) return 0;
    if (!PyBytes_CheckExact(judged) || PyBytes_GET_SIZE(judged) != KINDS) return 0;
    return PySet_CheckExact(p[CHANGED]) && PyList_CheckExact(p[CHUNKS]);
}

static PyObject *runner_run(Runner *self, PyObject *const *p, Py_ssize_t count) {
    if (!fit(p, count)) {
        PyErr_SetString(PyExc_TypeError, "see plain_run.pyi");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(p[START]), limit = PyLong_AsSsize_t(p[LIMIT]), room = PyLong_AsSsize_t(p[ROOM]);
    Run run = {.self = self, .values = p[VALUES], .expires = p[EXPIRES], .dirty = p[DIRTY], .null = p[NOTHING],
               .replies = p[REPLIES], .changed = p[CHANGED], .chunks = p[CHUNKS], .head = p[ORIGIN],
               .now_ms = PyLong_AsLongLong(p[NOW_MS]), .apart = p[APART] == Py_True, .ordered = p[ORDERED] == Py_True,
               .limits = p[LIMITS], .client = p[CLIENT], .handlers = PyTuple_GET_ITEM(p[HANDLING], 0),
               .judged = PyTuple_GET_ITEM(p[HANDLING], 1), .fits = PyTuple_GET_ITEM(p[HANDLING], 2),
               .failed = PyTuple_GET_ITEM(p[HANDLING], 3), .settle = PyTuple_GET_ITEM(p[HANDLING], 4)};
    if (PyErr_Occurred()) return NULL;
    if (p[RIGHTS] != Py_None) {
        run.allowed = PyBytes_AS_STRING(PyTuple_GET_ITEM(p[RIGHTS], 0));
        run.prefixes = PyTuple_GET_ITEM(p[RIGHTS], 1);
    }
    const char *data = PyBytes_AS_STRING(p[DATA]);
    Py_ssize_t size = PyBytes_GET_SIZE(p[DATA]);
    if (start < 0 || start > size) {
        PyErr_SetString(PyExc_ValueError, "start outside of the data");
        return NULL;
    }
    Py_ssize_t last[2] = {0, 0};
    const char *end = run_all(&run, data, start, size, limit, room, last);
    int done = 1;
    if (self->reply.size) done = hand_over(&run, 0);
    if (done) done = fill_tally(&run, p[TALLY], last);
    PyObject *reached = done ? PyLong_FromSsize_t(end - data) : NULL;
    if (run.written && reached == NULL) Py_FatalError(NOT_LOGGED);
    keep_log(&run);
    self->reply.size = self->log.size = 0;
    return reached;
}

/* -- the module */

static void runner_dealloc(Runner *self) {
    for (int i = 0; i < TYPES; i++) Py_XDECREF(self->type[i]);
    for (int i = 0; i < ATTRIBUTES; i++) Py_XDECREF(self->name[i]);
    Py_XDECREF(self->ok);
    PyMem_Free(self->reply.at);
    PyMem_Free(self->log.at);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *runner_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(names)) {
    PyObject *of[TYPES], *is = (PyObject *)&PyType_Type;
    if (!PyArg_ParseTuple(args, "O!O!O!O!", is, &of[HASH], is, &of[LIST], is, &of[SET], is, &of[ZSET])) return NULL;
    Runner *self = (Runner *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    for (int i = 0; i < TYPES; i++) self->type[i] = Py_NewRef(of[i]);
    for (int i = 0; i < ATTRIBUTES; i++) self->name[i] = PyUnicode_InternFromString(ATTRIBUTE[i]);
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
    index_names();
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &RunnerType) < 0) Py_CLEAR(made);
    return made;
}
