"""Django's own cache, django-redis and sessions: the same lines on every server. Usage: django_caches.py PORT."""

import sys

import django
from django.conf import settings

URL = f"redis://127.0.0.1:{sys.argv[1]}"
settings.configure(
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"{URL}/1"},
        "other": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{URL}/2"},
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    INSTALLED_APPS=["django.contrib.sessions"],
    SECRET_KEY="x",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import caches  # noqa: E402

for name in ("default", "other"):
    cache = caches[name]
    cache.clear()
    print(name, "set", cache.get("a"), cache.set("a", {"b": [1, 2]}, 60), cache.get("a"))
    print(name, "add", cache.add("a", 1), cache.add("n", 1), cache.get("n"))
    print(name, "count", cache.incr("n"), cache.incr("n", 10), cache.decr("n", 3))
    cache.set_many({f"k{i}": i for i in range(5)}, timeout=60)
    print(name, "many", sorted(cache.get_many([f"k{i}" for i in range(7)]).items()))
    print(name, "touch", cache.touch("a", 100), cache.touch("none", 100))
    print(name, "versions", cache.set("v", 2, version=2), cache.get("v"), cache.get("v", version=2))
    print(name, "made once", cache.get_or_set("made", lambda: "new"), cache.get_or_set("made", lambda: "again"))
    print(name, "delete", cache.delete("a"), cache.delete("a"), cache.has_key("k1"), "k9" in cache)
    cache.delete_many(["k0", "k1"])
    print(name, "left", sorted(cache.get_many([f"k{i}" for i in range(5)])))
    cache.set("gone", 1, timeout=0)
    print(name, "no time", cache.get("gone"))

other = caches["other"]
print("patterns", sorted(other.keys("k*")), other.delete_pattern("k*"), other.keys("k*"))
print(
    "deadlines",
    other.set("t", 1, timeout=None),
    other.ttl("t"),
    other.expire("t", timeout=50),
    0 < other.ttl("t") <= 50,
)
with other.lock("door", timeout=10):
    print("lock", other.lock("door", timeout=10).acquire(blocking=False))
print("nx", other.set("x", 1, nx=True), other.set("x", 2, nx=True), other.get("x"))

session = SessionStore()
session["user"] = 7
session.save()
key = session.session_key
found = SessionStore(session_key=key)
print("session", found["user"], found.exists(key))
found.cycle_key()
print("cycled", found.session_key != key, SessionStore(session_key=key).get("user"), found["user"])
found.flush()
print("flushed", found.session_key)
for name in ("default", "other"):
    caches[name].clear()
