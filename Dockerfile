# Read by any BuildKit and by the classic builder: no syntax extension is used.
#
# Two stages. `build` compiles eventdb's hot modules (mypyc, a C compiler); the image itself holds Python, the locked
# dependencies, the wheel and an init. It runs as a plain user and writes nowhere but to the mounts of the zones, so
# the root file system may be read-only.
#
#   docker build -t eventdb .
#   docker run --rm --read-only -v zones:/zones -p 127.0.0.1:6379:6379 eventdb
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN apt-get -q update \
    && apt-get -q install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/eventdb
# Wheels of exactly the locked files, and the same as the builder's environment: mypyc is among them.
COPY requirements/run.txt requirements/run.txt
RUN /build/bin/pip wheel -q --require-hashes --wheel-dir /wheels -r requirements/run.txt \
    && /build/bin/pip install -q --no-index --no-deps /wheels/*.whl
COPY . .
# EVENTDB_COMPILE=1: an image without the compiled modules is an error, not a slower image.
RUN EVENTDB_COMPILE=1 /build/bin/pip wheel -q --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/pip --python /opt/eventdb/bin/python install -q --no-index --find-links /wheels 'eventdb[all]' \
    && /opt/eventdb/bin/eventdb --version | grep -q '(compiled,'

FROM ${BASE}
RUN apt-get -q update \
    && apt-get -q install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin eventdb \
    && install -d -o eventdb -g eventdb -m 0750 /zones /zones/a /zones/b /zones/c /snapshots
COPY --from=build /opt/eventdb /opt/eventdb
ENV PATH=/opt/eventdb/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    EVENTDB_LOG=quorum:/zones/a,/zones/b,/zones/c
USER eventdb
EXPOSE 6379
STOPSIGNAL SIGTERM
# Healthy: it answers. A server that still replays its log answers -LOADING and is not healthy yet; one that wants a
# password first is. Bash alone, because a Python started every few seconds costs more than many a server does.
HEALTHCHECK --interval=5s --timeout=3s --start-period=5m --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6379 && printf 'PING\\r\\n' >&3 && read -r -t 2 reply <&3 && [[ $reply == +PONG* || $reply == -NOAUTH* ]]"]
ENTRYPOINT ["tini", "--", "eventdb"]
CMD ["serve", "--host", "0.0.0.0"]
