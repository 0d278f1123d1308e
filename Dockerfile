# The exporter alone, on an empty base: no shell, no package manager, no root.
#
#   docker build --build-arg REVISION="$(git rev-parse --short=12 HEAD)" -t pgrunway .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 9187:9187 \
#     -e DATA_SOURCE_NAME=postgresql://pgrunway@db.internal/postgres pgrunway
#
# Podman and Buildah keep the HEALTHCHECK only with `--format docker`.
# `demo` is not for this image: it needs PostgreSQL's server programs.

# By digest, since a tag may come to mean another image. A newer one of the tag:
#   docker buildx imagetools inspect rust:1.95-bookworm
FROM rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY . .
ARG REVISION=""
RUN PGRUNWAY_REVISION="$REVISION" cargo build --locked --release --bin pgrunway
# What the binary needs at run time, and nothing else: its shared libraries with their loader, time
# zones (partition keys in local time), and the system's root certificates (sslrootcert=system).
RUN mkdir -p /image/etc/ssl/certs /image/usr/share && \
    cp target/release/pgrunway /image/ && \
    ldd /image/pgrunway | grep -oE '/[^ ]+' | sort -u | \
      while read -r library; do cp --parents --dereference "$library" /image/; done && \
    cp -r /usr/share/zoneinfo /image/usr/share/ && \
    rm -rf /image/usr/share/zoneinfo/posix /image/usr/share/zoneinfo/right && \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ && \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf && \
    echo 'pgrunway:x:65532:65532::/:/nonexistent' > /image/etc/passwd

FROM scratch
ARG REVISION=""
LABEL org.opencontainers.image.title="pgrunway" \
      org.opencontainers.image.description="Prometheus exporter for PostgreSQL: latency percentiles, partition runway, index and cache health" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /image/ /
# By number, so that runAsNonRoot can be checked without reading /etc/passwd.
USER 65532:65532
EXPOSE 9187
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=5s --retries=3 CMD ["/pgrunway", "healthcheck"]
ENTRYPOINT ["/pgrunway"]
