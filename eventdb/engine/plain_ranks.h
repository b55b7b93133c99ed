/* Sorted sets by rank and score, for plain_run.c: what keyspace/types/ranking.py does, on its arrays.

     last score and member of each block     1.5   4.0   9.0        searched first
     scores of a block (array of doubles)    [0.5 1.0 1.5]  [2.0 4.0]  [8.0 9.0]
     members of a block                      [c   a   b  ]  [f   d  ]  [e   g  ]

   In Python each comparison of a bisect makes a float object. Here the doubles are read where they lie.

   A command returns 1, or 0 when it is for its handler: a set without a ranking yet, one whose groups of blocks are not
   counted, a score that is written in another way than most. It has then changed nothing but `reply`. */

#define GROUP 32 /* blocks whose sizes are added up in one number, as in ranking.py */
#define SCORE_MAX 40

/* An open array of doubles. */
typedef struct {
    Py_buffer view;
    const double *at;
    Py_ssize_t size;
    int is_open;
} Doubles;

/* A sorted set and its order; what it points to is held until close_ranks. */
typedef struct {
    PyObject *zset, *by_member, *ranking, *members, *scores, *last_members, *groups;
    Doubles lasts;
    Py_ssize_t size, blocks;
} Ranks;

static int open_doubles(PyObject *array, Doubles *doubles) {
    if (PyObject_GetBuffer(array, &doubles->view, PyBUF_SIMPLE) < 0) return 0;
    doubles->is_open = 1;
    doubles->at = doubles->view.buf;
    doubles->size = doubles->view.len / (Py_ssize_t)sizeof(double);
    return doubles->view.itemsize == sizeof(double);
}

static void close_doubles(Doubles *doubles) {
    if (doubles->is_open) PyBuffer_Release(&doubles->view);
    doubles->is_open = 0;
}

static int get_list(Run *run, PyObject *of, int attribute, PyObject **list) {
    *list = PyObject_GetAttr(of, run->self->name[attribute]);
    return *list != NULL && PyList_CheckExact(*list);
}

/* The ranks of what the key holds; nothing (zset is NULL, the size 0) where it holds nothing. */
static int open_ranks(Run *run, Slice key, Ranks *ranks) {
    memset(ranks, 0, sizeof *ranks);
    PyObject *zset;
    if (!look_up_typed(run, key, run->self->type[ZSET], &zset)) return 0; /* then it is not held */
    ranks->zset = zset;
    if (zset == NULL) return 1;
    ranks->by_member = PyObject_GetAttr(ranks->zset, run->self->name[SCORES]);
    ranks->ranking = PyObject_GetAttr(ranks->zset, run->self->name[RANKING]);
    if (ranks->by_member == NULL || !PyDict_CheckExact(ranks->by_member)) return 0;
    if (ranks->ranking == NULL || ranks->ranking == Py_None) return 0;
    if (!get_list(run, ranks->ranking, MEMBERS, &ranks->members)) return 0;
    if (!get_list(run, ranks->ranking, GROUPS, &ranks->groups)) return 0;
    ranks->size = PyDict_GET_SIZE(ranks->by_member);
    ranks->blocks = PyList_GET_SIZE(ranks->members);
    return 1;
}

/* What is searched, too. */
static int open_scores(Run *run, Ranks *ranks) {
    if (ranks->zset == NULL) return 1;
    if (!get_list(run, ranks->ranking, SCORES, &ranks->scores)) return 0;
    if (!get_list(run, ranks->ranking, LAST_MEMBERS, &ranks->last_members)) return 0;
    PyObject *lasts = PyObject_GetAttr(ranks->ranking, run->self->name[LAST_SCORES]);
    int done = lasts != NULL && open_doubles(lasts, &ranks->lasts); /* the view holds it */
    Py_XDECREF(lasts);
    return done && ranks->lasts.size == ranks->blocks && PyList_GET_SIZE(ranks->scores) == ranks->blocks &&
           PyList_GET_SIZE(ranks->last_members) == ranks->blocks;
}

static int close_ranks(Ranks *ranks, int done) {
    close_doubles(&ranks->lasts);
    PyObject *held[] = {ranks->by_member, ranks->ranking, ranks->members, ranks->scores, ranks->last_members,
                        ranks->groups, ranks->zset};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) Py_XDECREF(held[i]);
    return done;
}

/* The first place in [low, size) with a score that is not below (past: that is above) this one. */
static Py_ssize_t bisect_scores(const Doubles *scores, double score, int past, Py_ssize_t low) {
    Py_ssize_t high = scores->size;
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        double found = scores->at[middle];
        if (past ? found <= score : found < score) low = middle + 1;
        else high = middle;
    }
    return low;
}

static int is_below(PyObject *member, Slice other) {
    Py_ssize_t size = PyBytes_GET_SIZE(member);
    int order = memcmp(PyBytes_AS_STRING(member), other.at, (size_t)(size < other.size ? size : other.size));
    return order ? order < 0 : size < other.size;
}

/* The first place that is not below (score, member); -1: what lies there is not as it should be. */
static Py_ssize_t place_of(const Doubles *scores, PyObject *members, double score, Slice member) {
    Py_ssize_t low = bisect_scores(scores, score, 0, 0);
    if (low == scores->size || scores->at[low] != score) return low;
    Py_ssize_t high = bisect_scores(scores, score, 1, low);
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        PyObject *found = PyList_GET_ITEM(members, middle);
        if (!PyBytes_CheckExact(found)) return -1;
        if (is_below(found, member)) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* How many entries the blocks before this one have; -1: nobody has counted yet. */
static Py_ssize_t before_block(const Ranks *ranks, Py_ssize_t block) {
    Py_ssize_t group = block / GROUP, before = 0;
    if (group > PyList_GET_SIZE(ranks->groups)) return -1;
    for (Py_ssize_t i = 0; i < group; i++) {
        Py_ssize_t count = PyLong_AsSsize_t(PyList_GET_ITEM(ranks->groups, i));
        if (count < 0) return -1;
        before += count;
    }
    for (Py_ssize_t i = group * GROUP; i < block; i++) {
        PyObject *members = PyList_GET_ITEM(ranks->members, i);
        if (!PyList_CheckExact(members)) return -1;
        before += PyList_GET_SIZE(members);
    }
    return before;
}

/* The place within a block of (score, member), or of a score alone; -1: not as it should be. */
static Py_ssize_t place_in(const Ranks *ranks, Py_ssize_t block, double score, const Slice *member, int past) {
    Doubles scores = {.is_open = 0};
    PyObject *members = PyList_GET_ITEM(ranks->members, block);
    Py_ssize_t place = -1;
    if (PyList_CheckExact(members) && open_doubles(PyList_GET_ITEM(ranks->scores, block), &scores) &&
        PyList_GET_SIZE(members) == scores.size)
        place = member != NULL ? place_of(&scores, members, score, *member) : bisect_scores(&scores, score, past, 0);
    close_doubles(&scores);
    return place;
}

/* Ranking.rank, or without a member Ranking.count_below; -1: for the handler. */
static Py_ssize_t rank_of(const Ranks *ranks, double score, const Slice *member, int past) {
    Py_ssize_t block = member != NULL ? place_of(&ranks->lasts, ranks->last_members, score, *member)
                                      : bisect_scores(&ranks->lasts, score, past, 0);
    if (block < 0) return -1;
    if (block == ranks->blocks) return member != NULL ? -1 : ranks->size;
    Py_ssize_t before = before_block(ranks, block), place = place_in(ranks, block, score, member, past);
    return before < 0 || place < 0 ? -1 : before + place;
}

static int put_number(Run *run, Py_ssize_t number) {
    if (!reserve(&run->self->reply, HEAD_MAX)) return 0;
    put_head(&run->self->reply, ':', number);
    return 1;
}

static int put_rank(Run *run, Request *request, int turned) {
    Ranks ranks;
    int done = open_ranks(run, request->argument[1], &ranks);
    PyObject *member = done && ranks.zset != NULL ? bytes_of(request->argument[2]) : NULL;
    PyObject *score = member != NULL ? PyDict_GetItemWithError(ranks.by_member, member) : NULL;
    if (PyErr_Occurred()) done = 0;
    if (done && score != NULL) {
        done = PyFloat_CheckExact(score) && open_scores(run, &ranks);
        Py_ssize_t rank = done ? rank_of(&ranks, PyFloat_AS_DOUBLE(score), &request->argument[2], 0) : -1;
        done = rank >= 0 && put_number(run, turned ? ranks.size - 1 - rank : rank);
    } else if (done)
        done = put_null(run);
    if (done) count_look_ups(run, ranks.zset != NULL, 1);
    Py_XDECREF(member);
    return close_ranks(&ranks, done);
}

static int zrank(Run *run, Request *request) { return put_rank(run, request, 0); }
static int zrevrank(Run *run, Request *request) { return put_rank(run, request, 1); }

/* -- ranges */

/* A bound as most write it: `1.5`, `(2`, `-inf`. */
static int read_bound(Slice text, double *score, int *is_open) {
    char digits[SCORE_MAX + 1];
    *is_open = text.size > 0 && text.at[0] == '(';
    text.at += *is_open, text.size -= *is_open;
    if (text.size < 1 || text.size > SCORE_MAX) return 0;
    memcpy(digits, text.at, (size_t)text.size);
    digits[text.size] = '\0';
    char *end, *first = digits + (digits[0] == '+' || digits[0] == '-');
    if (strcmp(first, "inf") && strspn(first, "0123456789.eE+-") != strlen(first)) return 0;
    if (memchr(digits, '\0', (size_t)text.size) != NULL) return 0;
    *score = PyOS_string_to_double(digits, &end, NULL);
    if (!PyErr_Occurred() && *end == '\0') return 1;
    PyErr_Clear();
    return 0;
}

/* The ranks between two bounds, `stop` exclusive: Scores.window. */
static int read_window(Run *run, Ranks *ranks, Slice low, Slice high, Py_ssize_t *start, Py_ssize_t *stop) {
    double least, most;
    int past, before;
    if (!read_bound(low, &least, &past) || !read_bound(high, &most, &before) || !open_scores(run, ranks)) return 0;
    *start = *stop = 0;
    if (ranks->zset == NULL) return 1;
    *start = rank_of(ranks, least, NULL, past);
    *stop = rank_of(ranks, most, NULL, !before);
    if (*start < 0 || *stop < 0) return 0;
    if (*stop < *start) *stop = *start;
    return 1;
}

static int zcount(Run *run, Request *request) {
    Ranks ranks;
    Py_ssize_t start, stop;
    int done = open_ranks(run, request->argument[1], &ranks) &&
               read_window(run, &ranks, request->argument[2], request->argument[3], &start, &stop) &&
               put_number(run, stop - start);
    if (done) count_look_ups(run, ranks.zset != NULL, 1);
    return close_ranks(&ranks, done);
}

/* The members of the ranks [start, stop), both within 0 and the size, the last one first if `turned`. */
static int put_window(Run *run, Ranks *ranks, Py_ssize_t start, Py_ssize_t stop, int turned) {
    Buffer *reply = &run->self->reply;
    Py_ssize_t before = reply->size, first = 0, block = 0, place = turned ? stop - 1 : start;
    if (stop - start > ELEMENTS_MAX || !reserve(reply, HEAD_MAX)) return 0;
    put_head(reply, '*', stop - start);
    for (Py_ssize_t i = 0; start < stop && i < PyList_GET_SIZE(ranks->groups); i++) {
        Py_ssize_t count = PyLong_AsSsize_t(PyList_GET_ITEM(ranks->groups, i));
        if (count < 0) return 0;
        if (place < first + count) break;
        first += count, block += GROUP;
    }
    for (Py_ssize_t left = stop - start; left > 0;) {
        if (block >= ranks->blocks || first > place) return 0;
        if (block >= GROUP && !PyList_GET_SIZE(ranks->groups)) return 0;
        PyObject *members = PyList_GET_ITEM(ranks->members, block);
        if (!PyList_CheckExact(members)) return 0;
        Py_ssize_t size = PyList_GET_SIZE(members), end = first + size;
        while (left > 0 && place >= first && place < end) {
            if (!put_element(reply, before, PyList_GET_ITEM(members, place - first))) return 0;
            place += turned ? -1 : 1, left--;
        }
        if (left == 0) break;
        if (place >= end) first = end, block++;
        else if (block > 0 && PyList_CheckExact(PyList_GET_ITEM(ranks->members, block - 1)))
            first -= PyList_GET_SIZE(PyList_GET_ITEM(ranks->members, --block));
        else return 0;
    }
    return 1;
}

/* Z[REV]RANGE key start stop */
static int by_rank(Run *run, Request *request, int turned) {
    Ranks ranks;
    Py_ssize_t start, stop;
    if (request->count != 4) return 0;
    int done = open_ranks(run, request->argument[1], &ranks) && read_range(request, ranks.size, &start, &stop);
    if (done && turned) done = put_window(run, &ranks, ranks.size - stop, ranks.size - start, 1);
    else if (done) done = put_window(run, &ranks, start, stop, 0);
    if (done) count_look_ups(run, ranks.zset != NULL, 1);
    return close_ranks(&ranks, done);
}

static int run_zrange(Run *run, Request *request) { return by_rank(run, request, 0); }
static int zrevrange(Run *run, Request *request) { return by_rank(run, request, 1); }

/* Z[REV]RANGEBYSCORE key min max, or max min, and maybe LIMIT offset count */
static int by_score(Run *run, Request *request, int turned) {
    Ranks ranks;
    Py_ssize_t start, stop;
    long long offset = 0, count = -1;
    if (request->count != 4 && request->count != 7) return 0;
    if (request->count == 7) {
        Slice word = request->argument[4];
        for (int i = 0; i < 5; i++)
            if (word.size != 5 || (word.at[i] & ~32) != "LIMIT"[i]) return 0;
        if (!read_integer(request->argument[5], &offset) || !read_integer(request->argument[6], &count)) return 0;
        if (offset < 0) return 0;
    }
    int done = open_ranks(run, request->argument[1], &ranks) &&
               read_window(run, &ranks, request->argument[2 + turned], request->argument[3 - turned], &start, &stop);
    if (done) {
        if (offset > stop - start) offset = stop - start;
        if (count < 0 || count > stop - start - offset) count = stop - start - offset;
        if (turned) stop -= (Py_ssize_t)offset, start = stop - (Py_ssize_t)count;
        else start += (Py_ssize_t)offset, stop = start + (Py_ssize_t)count;
        done = put_window(run, &ranks, start, stop, turned);
    }
    if (done) count_look_ups(run, ranks.zset != NULL, 1);
    return close_ranks(&ranks, done);
}

static int zrangebyscore(Run *run, Request *request) { return by_score(run, request, 0); }
static int zrevrangebyscore(Run *run, Request *request) { return by_score(run, request, 1); }
