# The judge: vLLM in medreward's own process, on GPUs. With MEDREWARD_ROLE=all also everything else.
#
#   docker build -f deploy/judge.Dockerfile -t medreward-judge .
#
# vLLM, torch and CUDA 13 are those of the base; nothing of them is installed anew. The machine needs
# driver 580 or later, and a GPU of Turing or later.
ARG BASE=vllm/vllm-openai:v0.32.0

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="medreward-judge" \
      org.opencontainers.image.description="medreward's judge: vLLM on GPUs." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY service service
# What is there already stays as it is: vLLM's pins win.
RUN python3 -m pip freeze --exclude-editable > /tmp/there.txt \
    && python3 -m pip install --no-cache-dir --constraint /tmp/there.txt ./service/verifier '.[embedded]' \
    && rm -rf /src /tmp/there.txt \
    && groupadd --gid 10001 medreward \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/medreward --shell /usr/sbin/nologin medreward \
    && install --directory --owner 10001 --group 10001 /cache
ENV PYTHONUNBUFFERED=1 \
    VLLM_NO_USAGE_STATS=1 \
    MEDREWARD_ROLE=judge \
    MEDREWARD_PROFILE=gpu \
    MEDREWARD_HOST=0.0.0.0 \
    MEDREWARD_ADMIN_PORT=9464
USER 10001:10001
WORKDIR /home/medreward
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=1800s --retries=4 \
    CMD ["python3", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 9464, timeout=4); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["medreward"]
CMD ["serve"]
