#!/usr/bin/env bash
# The environment becomes /opt/kafka/config/server.properties, the storage is formatted once, the broker starts.
set -euo pipefail
said=$(java -Xshare:auto -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' kafka.docker.KafkaDockerWrapper setup \
    --default-configs-dir /etc/kafka/docker --mounted-configs-dir /mnt/shared/config \
    --final-configs-dir /opt/kafka/config 2>&1) || [[ $said == *"already formatted"* ]] || { echo "$said"; exit 1; }
options="-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server=info"
# shellcheck disable=SC2086 # options, split on purpose
exec java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC $options -cp '/opt/kafka/libs/*' kafka.Kafka /opt/kafka/config/server.properties
