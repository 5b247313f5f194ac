# One image per process: docker build --build-arg BIN=api|worker|scheduler .
FROM rust:1.95-slim-bookworm AS build
ARG BIN
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev make cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches keep dependencies between builds; the binary leaves the cache with `cp`.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,id=target-${BIN} \
    cargo build --release --locked --package "$BIN" && cp "target/release/$BIN" /process

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home live
COPY --from=build /process /usr/local/bin/process
USER 10001
STOPSIGNAL SIGTERM
# The port is set by API_ADDR, WORKER_HEALTH_ADDR or SCHEDULER_HEALTH_ADDR; all listen on 8080 in a container.
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD curl -fsS http://127.0.0.1:8080/livez || exit 1
ENTRYPOINT ["/usr/local/bin/process"]
