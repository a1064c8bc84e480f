# The command `couplet` in a small image, as a user without rights:
#
#   docker build -t couplet .
#   docker run --rm -v "$PWD:/work" couplet train mine.toml
#
# /work must be writable for the user 1000, or run with `--user "$(id -u):$(id -g)"`. Data is loaded by threads, so
# no `--shm-size` is needed.
#
# With CUDA, whose NVRTC and headers the CUDA image has (not tried):
#
#   docker build -t couplet:cuda --build-arg FEATURES=cuda,object-store \
#       --build-arg BASE=nvidia/cuda:12.8.1-devel-ubuntu24.04 .
#   docker run --rm --gpus all -v "$PWD:/work" couplet:cuda train mine.toml --set device=cuda:0
ARG BASE=debian:bookworm-slim

FROM rust:1.95-slim-bookworm AS build
# gcc is there; cmake and make build the TLS library of `object-store`, NASM the JPEG decoder's vector instructions.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake make nasm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG FEATURES=object-store
RUN cargo build --release --locked --package couplet --features "$FEATURES" \
    && strip target/release/couplet

FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && (id -u 1000 >/dev/null 2>&1 || useradd --uid 1000 --create-home couplet) \
    && install --directory --owner=1000 --group=1000 /work
COPY --from=build /src/target/release/couplet /usr/local/bin/couplet
COPY LICENSE-MIT LICENSE-APACHE /usr/local/share/doc/couplet/
USER 1000
WORKDIR /work
ENTRYPOINT ["couplet"]
CMD ["--help"]
