# The embedder on a GPU. With MEDREWARD_ROLE=all and MEDREWARD_JUDGE=causal_lm also everything else.
#
#   docker build -f deploy/embed.Dockerfile -t medreward-embed .
#
# torch brings the libraries of CUDA 13; the machine needs driver 580 or later, a GPU of Turing or later,
# and NVIDIA's container toolkit. For older GPUs: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG TORCH=2.13.0
WORKDIR /src
RUN python3 -m venv /opt/medreward \
    && /opt/medreward/bin/python -m pip install --no-cache-dir ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "torch==${TORCH}"
COPY deploy/requirements/embedded.txt requirements.txt
RUN /opt/medreward/bin/python -m pip install --no-cache-dir --requirement requirements.txt
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY service service
RUN /opt/medreward/bin/python -m pip install --no-cache-dir --no-deps ./service/verifier .

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="medreward-embed" \
      org.opencontainers.image.description="medreward's embedder on a GPU." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 medreward \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/medreward --shell /usr/sbin/nologin medreward \
    && install --directory --owner 10001 --group 10001 /cache
COPY --from=build /opt/medreward /opt/medreward
ENV PATH=/opt/medreward/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MEDREWARD_ROLE=embed \
    MEDREWARD_PROFILE=gpu \
    MEDREWARD_HOST=0.0.0.0 \
    MEDREWARD_ADMIN_PORT=9464
USER 10001:10001
WORKDIR /home/medreward
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=600s --retries=4 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 9464, timeout=4); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["medreward"]
CMD ["serve"]
