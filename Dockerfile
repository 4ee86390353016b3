# One image for every role; the first argument says which: docker run relay client --upstream hello
#
# Needs BuildKit, for the cache mounts: what is compiled once is not compiled again by the next build.

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin relay && \
    install -D target/release/relay /out/relay

FROM debian:bookworm-slim
# To call origins over HTTPS.
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /out/relay /usr/local/bin/relay
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
# Inside the container only; publish it on purpose, with RELAY_ADMIN=0.0.0.0:9180.
ENV RELAY_ADMIN=127.0.0.1:9180
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["relay", "health", "http://127.0.0.1:9180"]
ENTRYPOINT ["relay"]
CMD ["--help"]
