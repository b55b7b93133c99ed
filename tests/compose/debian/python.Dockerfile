# Stands in for python:slim where no image registry can be reached: Debian's Python and the headers that the real image
# has as well, and no compiler.
FROM eventdb-test/debian
RUN apt-get -q update \
    && apt-get -q install -y --no-install-recommends python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY etc/ /etc/
