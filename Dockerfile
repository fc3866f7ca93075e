# One image for all processes; the command says which one it is:
#   python -m gateway.main | services.tokenizer.main | services.scheduler.main | worker.main | cache_service.main
# The default model is inside, so that containers start without a network.

ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

# Dependencies alone: a change of our code does not install torch again.
FROM ${PYTHON_IMAGE} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PATH=/opt/tokenmill/bin:$PATH
RUN python -m venv /opt/tokenmill
# The CPU build of torch, from its own index; --build-arg TORCH_INDEX=https://pypi.org/simple takes the
# CUDA build. Alone and without dependencies, so that nothing else comes from that index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-deps --index-url "$TORCH_INDEX" torch==2.13.0
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
      > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt

# The model alone: only what prepares it makes this stage run again.
FROM dependencies AS model
COPY worker/__init__.py worker/
COPY worker/models worker/models
RUN python -m worker.models.prepare --cache-dir /tmp/models > /tmp/model.json \
    && mv "$(python -c 'import json; print(json.load(open("/tmp/model.json"))["dir"])')" /opt/model \
    && chmod -R a+rX /opt/model

# The kernels alone: a compiler has no place in the image that runs.
FROM dependencies AS kernels
RUN apt-get update && apt-get install -y --no-install-recommends g++
COPY worker/__init__.py worker/
COPY worker/models worker/models
COPY worker/kernels worker/kernels
RUN python -m worker.kernels.build --out /opt/kernels

FROM dependencies AS package
COPY setup.py README.md ./
COPY protos protos
COPY services services
COPY gateway gateway
COPY worker worker
COPY cache_service cache_service
RUN pip install --no-deps .

FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --gid 10001 tokenmill \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent tokenmill \
    && install -d -o 10001 -g 10001 /var/lib/tokenmill
COPY --from=model /opt/model /opt/model
COPY --from=kernels /opt/kernels /opt/kernels
COPY --from=package /opt/tokenmill /opt/tokenmill
# HF_HUB_OFFLINE: a model that is not here must be an error at once, not a wait for a network.
# No secrets here: the rule takes the name of the project for one.
# hadolint ignore=DL3064
ENV PATH=/opt/tokenmill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    TOKENMILL_HOST=0.0.0.0 \
    TOKENMILL_KERNELS_DIR=/opt/kernels \
    TOKENMILL_MODEL_DIR=/opt/model
WORKDIR /tmp
USER 10001:10001
CMD ["tokenmill", "--help"]
