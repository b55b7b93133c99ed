"""Django's session store and cache on eventdb: who has logged in is still logged in after a kill -9 of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.conftest import Server, StartServer


def visit(request: HttpRequest) -> HttpResponse:
    """Count this user's visits in the session, as a shop counts what is in a basket."""
    if not request.user.is_authenticated:
        return HttpResponse("please log in", status=401)
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"{request.user.get_username()} {request.session['visits']}")


def enter(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth import authenticate, login

    user = authenticate(request, username=request.POST["name"], password=request.POST["password"])
    if user is None:
        return HttpResponse("wrong password", status=403)
    login(request, user)
    return HttpResponse("welcome")


def leave(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth import logout

    logout(request)
    return HttpResponse("bye")


urlpatterns = [path("visit", visit), path("enter", enter), path("leave", leave)]


@pytest.fixture
def server(eventdb_server: StartServer) -> Server:
    return eventdb_server()


@pytest.fixture
def site(server: Server, tmp_path: Path) -> Iterator[None]:
    """A Django site with its users in SQLite and its sessions in eventdb."""
    caches = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": address(server)}}
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            CACHES=caches,
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "users.sqlite")}},
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
            MIDDLEWARE=[
                "django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
            ],
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
            ROOT_URLCONF=__name__,
            SECRET_KEY="only for this test",
            SESSION_ENGINE="django.contrib.sessions.backends.cache",
            USE_TZ=True,
        )
        django.setup()
    from django.core.cache import caches as opened
    from django.core.management import call_command
    from django.db import connections
    from django.test.utils import override_settings

    connections["default"].settings_dict["NAME"] = str(tmp_path / "users.sqlite")
    with override_settings(CACHES=caches):
        call_command("migrate", verbosity=0)
        yield
        for pool in opened["default"]._cache._pools.values():
            pool.disconnect()
    connections.close_all()


def address(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}"


@pytest.mark.usefixtures("site")
def test_a_login_survives_kill_9_and_a_logout_too(server: Server) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    for name in ("ada", "bob"):
        User.objects.create_user(name, password="secret")
    ada, bob, guest = Client(), Client(), Client()
    for client, name in ((ada, "ada"), (bob, "bob")):
        assert client.post("/enter", {"name": name, "password": "wrong"}).status_code == 403
        assert client.post("/enter", {"name": name, "password": "secret"}).content == b"welcome"
    assert [ada.get("/visit").content for _ in range(3)] == [b"ada 1", b"ada 2", b"ada 3"]
    assert bob.get("/visit").content == b"bob 1"
    server.kill()
    server.restart()
    assert ada.get("/visit").content == b"ada 4"
    assert bob.get("/leave").content == b"bye"
    server.kill()
    server.restart()
    assert ada.get("/visit").content == b"ada 5"
    assert bob.get("/visit").status_code == 401
    assert guest.get("/visit").status_code == 401


@pytest.mark.usefixtures("site")
def test_the_cache_keeps_values_and_their_ends_of_life_over_kill_9(server: Server) -> None:
    from django.core.cache import cache

    cache.set("forever", {"a": [1, 2]}, timeout=None)
    cache.set("hour", "x", timeout=3600)
    assert cache.add("hour", "y") is False and cache.add("once", 1) is True
    cache.set_many({"n": 1, "m": 2}, timeout=60)
    assert cache.incr("n", 4) == 5
    assert cache.touch("m", 7200) is True and cache.delete("once") is True
    server.kill()
    server.restart()
    wanted: dict[str, Any] = {"forever": {"a": [1, 2]}, "hour": "x", "n": 5, "m": 2}
    assert cache.get_many([*wanted, "once"]) == wanted
    raw = cache._cache.get_client()  # type: ignore[attr-defined]
    assert raw.ttl(":1:forever") == -1
    assert 3500 < raw.ttl(":1:hour") <= 3600 < raw.ttl(":1:m") <= 7200
    cache.clear()
    assert raw.dbsize() == 0
