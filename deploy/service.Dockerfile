# medreward without a model: requests, cache, recipes. It asks judges and embedders in other processes.
#
#   docker build -f deploy/service.Dockerfile -t medreward .
#
# Pin the base by its digest for production: --build-arg BASE=python:3.11-slim-bookworm@sha256:…
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# What it needs, at exact versions and checked by their hashes, before the code, which changes more often.
COPY deploy/requirements/service.txt requirements.txt
RUN python3 -m venv /opt/medreward \
    && /opt/medreward/bin/python -m pip install --no-cache-dir --require-hashes --requirement requirements.txt
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY service/medreward service/medreward
# pip has done its part; numpy's tests are a third of it.
RUN /opt/medreward/bin/python -m pip install --no-cache-dir --no-deps . \
    && /opt/medreward/bin/python -m pip uninstall --yes setuptools \
    && find /opt/medreward/lib -type d -path '*/numpy/*' -name tests -prune -exec rm -rf {} + \
    && rm -rf /opt/medreward/lib/python3*/site-packages/pip

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="medreward" \
      org.opencontainers.image.description="Turns free-form medical answers into training rewards and grades, over HTTP." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 medreward \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/medreward --shell /usr/sbin/nologin medreward
COPY --from=build /opt/medreward /opt/medreward
ENV PATH=/opt/medreward/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MEDREWARD_ROLE=api \
    MEDREWARD_HOST=0.0.0.0 \
    MEDREWARD_ADMIN_PORT=9464
USER 10001:10001
WORKDIR /home/medreward
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 9464, timeout=4); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["medreward"]
CMD ["serve"]
