# The program and nothing else, for x86-64 and Arm:
#
#   docker build -t bise .
#   docker run --rm -it -v "$PWD:/models:ro" bise -m /models/mistral-7b.Q4_K_M.gguf
#
# A server, with a health check:
#
#   docker build --target server -t bise-server .
#   docker run --rm -p 8080:8080 -v "$PWD:/models:ro" bise-server -m /models/mistral-7b.Q4_K_M.gguf
#
# Without a model it runs the small one inside. Give the container its CPUs and memory (--cpus, --memory): threads and `--max-memory auto`
# go by them. BISE_FEATURES chooses what is built.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache ca-certificates musl-dev
WORKDIR /bise
COPY . .
ARG BISE_FEATURES=default
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/bise/target \
    cargo build --release --locked --package bise --no-default-features --features "$BISE_FEATURES" \
    && mkdir -p /root-folder/bin /root-folder/etc/ssl/certs /root-folder/home /root-folder/tmp \
    && cp target/release/bise /root-folder/bin/ \
    && cp /etc/ssl/certs/ca-certificates.crt /root-folder/etc/ssl/certs/ \
    && cp LICENSE-APACHE LICENSE-MIT /root-folder/

FROM scratch AS program
COPY --from=build /root-folder /
# What a user without rights may write: histories, caches.
COPY --from=build --chown=65532:65532 /root-folder/home /home
COPY --from=build --chown=65532:65532 /root-folder/tmp /tmp
USER 65532:65532
ENV HOME=/home PATH=/bin
WORKDIR /home
ENTRYPOINT ["bise"]

FROM program AS server
EXPOSE 8080
# It fails while the server is not there or is ending. Give keys by LLAMA_API_KEY, which it knows, too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["bise", "ps"]
ENTRYPOINT ["bise", "serve", "--host", "0.0.0.0"]

FROM program
