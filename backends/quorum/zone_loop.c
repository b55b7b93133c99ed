/* The steady state of a zone's thread without the interpreter: wait for frames, write them, look at the promise, vote.

   Optional, and Linux only. zone.py holds the same loop in Python (`Zone._serve`), which runs wherever this module was
   not built and whenever a zone's file operations are not the real ones. Its words mean here what they mean there:

     a frame is counted in a zone when its O_DSYNC write has returned and, after that, a stat of the promise file
     still finds the inode and the change time of the file that the writer made;
     what a majority of the zones has counted is durable, if it reaches past the claim record and nobody fenced us.

   Whatever else a zone can meet (an error, a lost promise, a full segment, nothing to do for long) ends `serve` with a
   reason, and zone.py deals with it. The hint (hint.py) is written here, because it is due some hundred times a second.

   Locks: `mutex` guards everything in Lanes. It is taken with and without the GIL; who holds it never asks for the GIL
   and never enters the file system, so neither the loop nor another zone waits for a slow one. The loop learns of
   progress through an eventfd. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ZONES_MAX 16

/* Why `serve` returned; zone.py knows the same numbers. */
enum { CALLED, FAILED, LOST, BEHIND, FULL, DRY, IDLE };

typedef struct {
    pthread_cond_t wake;
    int waiting;       /* for a frame, in `serve` */
    int called;        /* `serve` is to return */
    int eager;         /* writes at once; the others let several frames come together */
    double busy_since; /* monotonic seconds when the write under way began; 0: none */
    double wrote_at;
    long long writes;  /* that were durable, for those who watch */
    double write_s;    /* spent in them, syncing included */
    long long synced;  /* exclusive end of what it has counted */
    char *buffer;
    size_t room;
} Lane;

typedef struct {
    PyObject_HEAD
    pthread_mutex_t mutex;
    int zones, majority, news_fd, news, fenced;
    long long claim_end, durable_end, syncs;
    long long first;   /* position of frames[head] */
    PyObject **frames; /* a ring of bytes objects; only the loop changes it */
    size_t head, count, capacity;
    Lane lane[ZONES_MAX];
} Lanes;

/* What one call of `serve` works on. */
typedef struct {
    int zone, fd, next_fd, hint_fd, error;
    const char *promise;
    unsigned long long inode;
    long long changed_ns, epoch, segment_first, full_at, dry_at;
    long long next_base;                                /* byte of `fd` from which on `next_fd` holds the same; unless that is -1 */
    long long byte, position, mark_byte, mark_position; /* of the next write and of the latest */
    long long hint_end, hint_sum;                       /* what the hint states */
    double hint_at, hint_s, idle_s, linger_s;
    size_t size_max;
} Job;

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Sleep until woken or until the time `at`; ETIMEDOUT then. */
static int sleep_until(Lanes *self, Lane *lane, double at) {
    struct timespec when = {(time_t)at, (long)((at - (double)(time_t)at) * 1e9)};
    return pthread_cond_timedwait(&lane->wake, &self->mutex, &when);
}

static long long sum_of_votes(const Lanes *self) {
    long long sum = 0;
    for (int i = 0; i < self->zones; i++) sum += self->lane[i].synced;
    return sum;
}

/* The end that at least a majority of the zones has counted. */
static long long majority_end(const Lanes *self) {
    long long best = 0;
    for (int i = 0; i < self->zones; i++) {
        int have = 0;
        for (int j = 0; j < self->zones; j++) have += self->lane[j].synced >= self->lane[i].synced;
        if (have >= self->majority && self->lane[i].synced > best) best = self->lane[i].synced;
    }
    return best;
}

/* window.Quorum.mark: count this zone up to `end`; true when that completes a majority. The mutex is held. */
static int vote(Lanes *self, int zone, long long end) {
    self->syncs++;
    self->lane[zone].synced = end;
    if (end <= self->durable_end || self->fenced) return 0;
    long long reached = majority_end(self);
    if (reached <= self->durable_end || reached < self->claim_end) return 0;
    self->durable_end = reached;
    if (!self->lane[zone].eager) { /* needed although it lingers: it changes places with the eager zone furthest behind */
        int late = -1;
        for (int i = 0; i < self->zones; i++)
            if (self->lane[i].eager && (late < 0 || self->lane[i].synced < self->lane[late].synced)) late = i;
        if (late >= 0) self->lane[late].eager = 0;
        self->lane[zone].eager = 1;
    }
    return 1;
}

/* Wake the loop, unless it has been woken and did not come yet. The mutex is held, but not while the loop wakes. */
static void tell(Lanes *self) {
    uint64_t one = 1;
    if (self->news) return;
    self->news = 1;
    pthread_mutex_unlock(&self->mutex);
    if (write(self->news_fd, &one, sizeof one) < 0) abort(); /* cannot fail: the counter is 0 */
    pthread_mutex_lock(&self->mutex);
}

static uint32_t crc_table[256]; /* CRC32C, reflected polynomial 0x82F63B78 */

static void fill_crc_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
        crc_table[i] = crc;
    }
}

static unsigned char *put(unsigned char *to, unsigned long long value, int bytes) {
    for (int i = 0; i < bytes; i++) *to++ = (unsigned char)(value >> 8 * i);
    return to;
}

static int hint_is_stale(const Lanes *self, const Job *job) {
    return job->hint_end != self->durable_end || job->hint_sum != sum_of_votes(self);
}

static int write_whole(int fd, const char *data, size_t size, long long at) {
    while (size > 0) {
        ssize_t done = pwrite(fd, data, size, at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return done < 0 ? errno : EIO;
        data += done, at += done, size -= (size_t)done;
    }
    return 0;
}

/* hint.encode, written without a sync. An error only leaves an old hint. The mutex is held, but for the write. */
static void publish(Lanes *self, Job *job) {
    unsigned char raw[8 + 8 * (7 + ZONES_MAX)], *end = raw + 8;
    long long facts[] = {job->epoch, self->durable_end, job->segment_first, job->epoch, job->mark_byte,
                         job->mark_position, self->zones};
    job->hint_at = now_s();
    job->hint_end = self->durable_end, job->hint_sum = sum_of_votes(self);
    if (job->hint_fd < 0 || self->durable_end == 0) return;
    for (int i = 0; i < 7; i++) end = put(end, (unsigned long long)facts[i], 8);
    for (int i = 0; i < self->zones; i++) end = put(end, (unsigned long long)self->lane[i].synced, 8);
    uint32_t crc = 0xFFFFFFFFu;
    for (unsigned char *at = raw + 8; at < end; at++) crc = crc_table[(crc ^ *at) & 255] ^ crc >> 8;
    memcpy(raw, "evDH", 4);
    put(raw + 4, crc ^ 0xFFFFFFFFu, 4);
    pthread_mutex_unlock(&self->mutex);
    if (write_whole(job->hint_fd, (const char *)raw, (size_t)(end - raw), 0)) job->hint_at = now_s();
    pthread_mutex_lock(&self->mutex);
}

/* Promise.holds: 1 while the file is the one we made, 0 when it is gone or another, -1 with Job.error set. */
static int promise_holds(Job *job) {
    struct stat found;
    if (stat(job->promise, &found) < 0) {
        if (errno == ENOENT || errno == ENOTDIR) return 0;
        job->error = errno;
        return -1;
    }
    return (unsigned long long)found.st_ino == job->inode &&
           (long long)found.st_ctim.tv_sec * 1000000000LL + found.st_ctim.tv_nsec == job->changed_ns;
}

/* Copy the frames from `position` on, one at least and about size_max bytes, into the lane's buffer; returns how many,
   0 without memory. The mutex is held: the loop may drop a frame as soon as it is free. */
static size_t gather(Lanes *self, Lane *lane, const Job *job, size_t *size) {
    size_t at = (size_t)(job->position - self->first), taken = 0;
    *size = 0;
    while (at + taken < self->count) {
        PyObject *frame = self->frames[(self->head + at + taken) % self->capacity];
        size_t more = (size_t)PyBytes_GET_SIZE(frame);
        if (taken > 0 && *size + more > job->size_max) break;
        if (*size + more > lane->room) {
            size_t room = (*size + more) * 2;
            char *grown = realloc(lane->buffer, room);
            if (grown == NULL) break;
            lane->buffer = grown, lane->room = room;
        }
        memcpy(lane->buffer + *size, PyBytes_AS_STRING(frame), more);
        *size += more, taken++;
    }
    return taken;
}

/* Write what is there and vote for it. Returns a reason to leave, or -1 to go on. The mutex is held, but for the I/O. */
static int write_and_vote(Lanes *self, Lane *lane, Job *job) {
    size_t size, taken = gather(self, lane, job, &size);
    if (taken == 0) {
        job->error = ENOMEM;
        return FAILED;
    }
    lane->busy_since = now_s();
    pthread_mutex_unlock(&self->mutex);
    int holds = -1;
    job->error = 0;
    if (job->next_fd >= 0) /* first: the file to come never holds less (successor.py) */
        job->error = write_whole(job->next_fd, lane->buffer, size, job->byte - job->next_base);
    if (job->error == 0) job->error = write_whole(job->fd, lane->buffer, size, job->byte);
    if (job->error == 0) holds = promise_holds(job); /* after O_DSYNC, so it is on stable storage: see promise.py */
    pthread_mutex_lock(&self->mutex);
    double took = now_s() - lane->busy_since;
    lane->busy_since = 0;
    if (holds != 1) return holds == 0 ? LOST : FAILED;
    job->mark_byte = job->byte, job->mark_position = job->position;
    job->byte += (long long)size, job->position += (long long)taken;
    lane->writes++, lane->write_s += took;
    int advanced = vote(self, job->zone, job->position);
    if (advanced) tell(self);
    if (job->byte >= job->full_at) return FULL;
    if (job->byte >= job->dry_at && job->position >= self->first + (long long)self->count) return DRY;
    if (advanced && now_s() - job->hint_at > job->hint_s) publish(self, job);
    return -1;
}

static int run(Lanes *self, Lane *lane, Job *job) {
    for (;;) {
        if (lane->called || self->fenced) {
            lane->called = 0;
            return CALLED;
        }
        if (job->position < self->first) return BEHIND;
        if (job->position >= self->first + (long long)self->count) {
            int stale = hint_is_stale(self, job);
            lane->waiting = 1;
            int late = sleep_until(self, lane, now_s() + (stale ? job->hint_s : job->idle_s)) == ETIMEDOUT;
            lane->waiting = 0;
            if (!late || lane->called || job->position < self->first + (long long)self->count) continue;
            if (!stale) return IDLE;
            publish(self, job);
            continue;
        }
        if (!lane->eager) {
            double now = now_s(), due = lane->wrote_at + job->linger_s;
            if (now < due) {
                sleep_until(self, lane, due);
                continue;
            }
            lane->wrote_at = now;
        }
        int reason = write_and_vote(self, lane, job);
        if (reason >= 0) return reason;
    }
}

static PyObject *lanes_serve(Lanes *self, PyObject *args) {
    Job job = {0};
    PyObject *promise;
    Py_ssize_t size_max;
    if (!PyArg_ParseTuple(args, "i(SKL)(iLLLL)(iL)(LL)(LL)(iLLd)dddn", &job.zone, &promise, &job.inode, &job.changed_ns,
                          &job.fd, &job.epoch, &job.segment_first, &job.full_at, &job.dry_at, &job.next_fd,
                          &job.next_base, &job.byte, &job.position, &job.mark_byte, &job.mark_position, &job.hint_fd, &job.hint_end, &job.hint_sum, &job.hint_at,
                          &job.hint_s, &job.idle_s, &job.linger_s, &size_max))
        return NULL;
    if (job.zone < 0 || job.zone >= self->zones) return PyErr_Format(PyExc_IndexError, "no zone %d", job.zone);
    job.promise = PyBytes_AS_STRING(promise);
    job.size_max = (size_t)size_max;
    int reason;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&self->mutex);
    reason = run(self, &self->lane[job.zone], &job);
    pthread_mutex_unlock(&self->mutex);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("ii(LL)(LL)(LL)d", reason, job.error, job.byte, job.position, job.mark_byte, job.mark_position,
                         job.hint_end, job.hint_sum, job.hint_at);
}

/* The rest is called with the GIL, by the loop or by a zone's thread that is not in `serve`. */

static PyObject *lanes_add(Lanes *self, PyObject *frame) {
    if (!PyBytes_Check(frame)) return PyErr_Format(PyExc_TypeError, "a frame is bytes");
    pthread_mutex_lock(&self->mutex);
    if (self->count == self->capacity) {
        size_t capacity = self->capacity * 2;
        PyObject **frames = malloc(capacity * sizeof *frames);
        if (frames == NULL) {
            pthread_mutex_unlock(&self->mutex);
            return PyErr_NoMemory();
        }
        for (size_t i = 0; i < self->count; i++) frames[i] = self->frames[(self->head + i) % self->capacity];
        free(self->frames);
        self->frames = frames, self->capacity = capacity, self->head = 0;
    }
    self->frames[(self->head + self->count++) % self->capacity] = Py_NewRef(frame);
    int wake[ZONES_MAX];
    for (int i = 0; i < self->zones; i++) {
        wake[i] = self->lane[i].waiting;
        self->lane[i].waiting = 0;
    }
    pthread_mutex_unlock(&self->mutex);
    for (int i = 0; i < self->zones; i++)
        if (wake[i]) pthread_cond_signal(&self->lane[i].wake);
    Py_RETURN_NONE;
}

static PyObject *lanes_cut(Lanes *self, PyObject *args) {
    long long first;
    if (!PyArg_ParseTuple(args, "L", &first)) return NULL;
    pthread_mutex_lock(&self->mutex);
    while (self->count > 0 && self->first < first) {
        Py_DECREF(self->frames[self->head]); /* bytes: freeing them runs no code of anybody */
        self->head = (self->head + 1) % self->capacity;
        self->count--, self->first++;
    }
    pthread_mutex_unlock(&self->mutex);
    Py_RETURN_NONE;
}

static PyObject *lanes_mark(Lanes *self, PyObject *args) {
    int zone;
    long long end;
    if (!PyArg_ParseTuple(args, "iL", &zone, &end)) return NULL;
    if (zone < 0 || zone >= self->zones) return PyErr_Format(PyExc_IndexError, "no zone %d", zone);
    pthread_mutex_lock(&self->mutex);
    int advanced = vote(self, zone, end);
    if (advanced) tell(self);
    pthread_mutex_unlock(&self->mutex);
    return PyBool_FromLong(advanced);
}

static PyObject *lanes_unmark(Lanes *self, PyObject *args) {
    int zone;
    if (!PyArg_ParseTuple(args, "i", &zone)) return NULL;
    if (zone < 0 || zone >= self->zones) return PyErr_Format(PyExc_IndexError, "no zone %d", zone);
    pthread_mutex_lock(&self->mutex);
    self->lane[zone].synced = 0;
    pthread_mutex_unlock(&self->mutex);
    Py_RETURN_NONE;
}

static void call_one(Lanes *self, int zone) {
    self->lane[zone].called = 1;
    self->lane[zone].waiting = 0;
    pthread_cond_signal(&self->lane[zone].wake);
}

static PyObject *lanes_call(Lanes *self, PyObject *args) {
    int zone;
    if (!PyArg_ParseTuple(args, "i", &zone)) return NULL;
    if (zone < 0 || zone >= self->zones) return PyErr_Format(PyExc_IndexError, "no zone %d", zone);
    pthread_mutex_lock(&self->mutex);
    call_one(self, zone);
    pthread_mutex_unlock(&self->mutex);
    Py_RETURN_NONE;
}

static PyObject *lanes_fence(Lanes *self, PyObject *Py_UNUSED(nothing)) {
    pthread_mutex_lock(&self->mutex);
    self->fenced = 1;
    for (int i = 0; i < self->zones; i++) call_one(self, i);
    pthread_mutex_unlock(&self->mutex);
    Py_RETURN_NONE;
}

static PyObject *lanes_busy_since(Lanes *self, PyObject *args) {
    int zone;
    if (!PyArg_ParseTuple(args, "i", &zone)) return NULL;
    if (zone < 0 || zone >= self->zones) return PyErr_Format(PyExc_IndexError, "no zone %d", zone);
    pthread_mutex_lock(&self->mutex);
    double since = self->lane[zone].busy_since;
    pthread_mutex_unlock(&self->mutex);
    return PyFloat_FromDouble(since);
}

/* (durable end, syncs so far, what each zone has counted), read at one moment. */
static PyObject *lanes_state(Lanes *self, PyObject *Py_UNUSED(nothing)) {
    long long synced[ZONES_MAX];
    pthread_mutex_lock(&self->mutex);
    for (int i = 0; i < self->zones; i++) synced[i] = self->lane[i].synced;
    long long end = self->durable_end, syncs = self->syncs;
    pthread_mutex_unlock(&self->mutex);
    PyObject *list = PyList_New(self->zones);
    for (int i = 0; list != NULL && i < self->zones; i++) {
        PyObject *item = PyLong_FromLongLong(synced[i]);
        if (item == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, i, item);
    }
    return list == NULL ? NULL : Py_BuildValue("LLN", end, syncs, list);
}

/* (durable writes so far, seconds spent in them) of each zone. */
static PyObject *lanes_times(Lanes *self, PyObject *Py_UNUSED(nothing)) {
    long long writes[ZONES_MAX];
    double seconds[ZONES_MAX];
    pthread_mutex_lock(&self->mutex);
    for (int i = 0; i < self->zones; i++) writes[i] = self->lane[i].writes, seconds[i] = self->lane[i].write_s;
    pthread_mutex_unlock(&self->mutex);
    PyObject *list = PyList_New(self->zones);
    for (int i = 0; list != NULL && i < self->zones; i++) {
        PyObject *item = Py_BuildValue("Ld", writes[i], seconds[i]);
        if (item == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static PyObject *lanes_hear(Lanes *self, PyObject *Py_UNUSED(nothing)) {
    uint64_t times;
    pthread_mutex_lock(&self->mutex);
    if (self->news && read(self->news_fd, &times, sizeof times) > 0) self->news = 0;
    pthread_mutex_unlock(&self->mutex);
    Py_RETURN_NONE;
}

static PyObject *lanes_fileno(Lanes *self, PyObject *Py_UNUSED(nothing)) { return PyLong_FromLong(self->news_fd); }

static PyObject *lanes_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(names)) {
    int zones, majority;
    long long claim_end;
    if (!PyArg_ParseTuple(args, "iiL", &zones, &majority, &claim_end)) return NULL;
    if (zones < 1 || zones > ZONES_MAX) return PyErr_Format(PyExc_ValueError, "1 to %d zones", ZONES_MAX);
    Lanes *self = (Lanes *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->zones = zones, self->majority = majority, self->claim_end = claim_end, self->first = claim_end - 1;
    self->capacity = 64;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&self->mutex, NULL);
    for (int i = 0; i < zones; i++) {
        pthread_cond_init(&self->lane[i].wake, &monotonic);
        self->lane[i].eager = i < majority;
    }
    pthread_condattr_destroy(&monotonic);
    self->frames = malloc(self->capacity * sizeof *self->frames);
    self->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->frames == NULL || self->news_fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* No thread is in `serve` any more: each holds a reference while it is. */
static void lanes_dealloc(Lanes *self) {
    for (size_t i = 0; i < self->count; i++) Py_DECREF(self->frames[(self->head + i) % self->capacity]);
    free(self->frames);
    for (int i = 0; i < self->zones; i++) {
        pthread_cond_destroy(&self->lane[i].wake);
        free(self->lane[i].buffer);
    }
    pthread_mutex_destroy(&self->mutex);
    if (self->news_fd >= 0) close(self->news_fd);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef methods[] = {
    {"add", (PyCFunction)lanes_add, METH_O, NULL},
    {"cut", (PyCFunction)lanes_cut, METH_VARARGS, NULL},
    {"mark", (PyCFunction)lanes_mark, METH_VARARGS, NULL},
    {"unmark", (PyCFunction)lanes_unmark, METH_VARARGS, NULL},
    {"call", (PyCFunction)lanes_call, METH_VARARGS, NULL},
    {"fence", (PyCFunction)lanes_fence, METH_NOARGS, NULL},
    {"busy_since", (PyCFunction)lanes_busy_since, METH_VARARGS, NULL},
    {"state", (PyCFunction)lanes_state, METH_NOARGS, NULL},
    {"times", (PyCFunction)lanes_times, METH_NOARGS, NULL},
    {"hear", (PyCFunction)lanes_hear, METH_NOARGS, NULL},
    {"fileno", (PyCFunction)lanes_fileno, METH_NOARGS, NULL},
    {"serve", (PyCFunction)lanes_serve, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject LanesType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "eventdb.backends.quorum.zone_loop.Lanes",
    .tp_basicsize = sizeof(Lanes),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = lanes_new,
    .tp_dealloc = (destructor)lanes_dealloc,
    .tp_methods = methods,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "lanes", .m_size = -1};

PyMODINIT_FUNC PyInit_zone_loop(void) {
    fill_crc_table();
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &LanesType) < 0) Py_CLEAR(made);
    return made;
}
