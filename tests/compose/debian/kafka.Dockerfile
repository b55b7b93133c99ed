# Stands in for apache/kafka where no image registry can be reached: the same user, folders, volumes and start (the
# environment becomes server.properties by Kafka's own KafkaDockerWrapper), with the jars from Maven and Debian's JRE.
FROM eventdb-test/debian
RUN apt-get -q update \
    && apt-get -q install -y --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home appuser \
    && install -d -o appuser /opt/kafka/config /opt/kafka/logs /etc/kafka/docker /etc/kafka/secrets \
        /mnt/shared/config /var/lib/kafka/data \
    && touch /etc/kafka/docker/server.properties /etc/kafka/docker/log4j2.yaml /etc/kafka/docker/tools-log4j2.yaml
COPY jars/ /opt/kafka/libs/
COPY kafka-run.sh /etc/kafka/docker/run
USER appuser
EXPOSE 9092
VOLUME ["/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"]
CMD ["/etc/kafka/docker/run"]
