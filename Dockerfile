# The program on the CPU: docker compose up --build. For NVIDIA GPUs: docker build --build-arg GPU=1 .
# What may be written is in two volumes, the rest can be read-only; docs/deploy.md says how to run it.
FROM python:3.11-slim

ARG GPU=0

RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin cxr \
    && install -d -o cxr -g cxr /var/lib/cxrmodels /var/lib/cxrmodels/runs /var/cache/cxrmodels

WORKDIR /app

# First, so that a change of the program alone does not install everything again.
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir -r requirements.txt "streamlit[auth]~=1.67" \
    && if [ "$GPU" = 1 ]; then python -m pip install --no-cache-dir "tensorflow[and-cuda]~=2.21"; fi

COPY app.py README.md CHANGELOG.md ./
COPY .streamlit/config.toml .streamlit/config.toml
COPY pages pages
COPY cxrmodels cxrmodels
COPY weights weights
# As root, so that the program finds them compiled: as the user it may write nothing here.
RUN python -m compileall -q app.py pages cxrmodels

ENV CXRMODELS_RUNS=/var/lib/cxrmodels/runs \
    CXRMODELS_CACHE=/var/cache/cxrmodels/networks \
    KERAS_HOME=/var/cache/cxrmodels/keras \
    MPLCONFIGDIR=/var/cache/cxrmodels/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2

USER 10001
VOLUME ["/var/lib/cxrmodels/runs", "/var/cache/cxrmodels"]
EXPOSE 8501

HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "cxrmodels.health"]

CMD ["python", "-m", "streamlit", "run", "app.py", "--server.address=0.0.0.0", "--server.headless=true", "--server.fileWatcherType=none"]
