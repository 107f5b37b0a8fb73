# One node. Build: docker build -t flask-track .     Three nodes: docker compose up
FROM swift:6.3-bookworm AS build
# The executable looks for libduckdb.so where it was built, so both stages use the same folder.
WORKDIR /opt/flask-track
COPY scripts scripts
RUN scripts/setup.sh
COPY Package.swift ./
COPY Sources Sources
COPY Tests Tests
COPY Benchmarks Benchmarks
RUN swift build -c release --static-swift-stdlib --product ftnode \
 && install -D "$(swift build -c release --static-swift-stdlib --show-bin-path)/ftnode" /out/ftnode

FROM debian:12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends librocksdb7.8 libjemalloc2 libssl3 libnghttp2-14 libedit2 liblz4-1 libzstd1 libpython3.11 curl ca-certificates tzdata \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --no-create-home ftnode \
 && install -d -o ftnode -g ftnode /var/lib/ftnode /etc/ftnode /etc/ftnode/pki
COPY --from=build /opt/flask-track/.duckdb/lib/libduckdb.so /opt/flask-track/.duckdb/lib/libduckdb.so
COPY --from=build /out/ftnode /usr/local/bin/ftnode
USER ftnode
VOLUME /var/lib/ftnode
# API, peers
EXPOSE 8443 8543
# The process lives; whether it is ready to serve says /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD curl --silent --fail --output /dev/null --insecure https://127.0.0.1:8443/healthz || exit 1
ENTRYPOINT ["ftnode"]
CMD ["serve", "--config", "/etc/ftnode/ftnode.yaml"]
