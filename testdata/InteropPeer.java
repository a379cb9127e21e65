import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client, as a peer of the Go tests.
 *
 * <p>write SERVERS: writes the batches on stdin, one JSON value each, in order. read SERVERS
 * TOPIC...: prints what is committed in the topics, one JSON value each.
 */
public class InteropPeer {
  record Header(String key, byte[] value) {}

  record Message(
      String topic, int partition, long offset, byte[] key, byte[] value, List<Header> headers, String time) {}

  /** transaction is "commit", "abort", or empty for none. */
  record Batch(String topic, String compression, String transaction, List<Message> messages) {}

  // Go's encoding/json writes a kafka.Message with capital names.
  static final ObjectMapper JSON =
      JsonMapper.builder()
          .enable(MapperFeature.ACCEPT_CASE_INSENSITIVE_PROPERTIES)
          .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
          .build();

  public static void main(String[] args) throws Exception {
    switch (args[0]) {
      case "write" -> write(args[1]);
      case "read" -> read(args[1], Arrays.copyOfRange(args, 2, args.length));
      default -> throw new IllegalArgumentException(args[0]);
    }
  }

  static void write(String servers) throws Exception {
    Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    var batches = JSON.readerFor(Batch.class).<Batch>readValues(System.in);
    while (batches.hasNext()) {
      Batch batch = batches.next();
      boolean transactional = !batch.transaction().isEmpty();
      var producer =
          producers.computeIfAbsent(
              batch.topic() + transactional, id -> producer(servers, batch, transactional ? id : null));
      if (transactional) {
        producer.beginTransaction();
      }
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (Message m : batch.messages()) {
        sent.add(producer.send(record(batch.topic(), m)));
      }
      for (var outcome : sent) {
        outcome.get();
      }
      switch (batch.transaction()) {
        case "commit" -> producer.commitTransaction();
        case "abort" -> producer.abortTransaction();
        default -> {}
      }
    }
    producers.values().forEach(KafkaProducer::close);
  }

  static KafkaProducer<byte[], byte[]> producer(String servers, Batch batch, String transactionalId) {
    Map<String, Object> config = new HashMap<>();
    config.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
    config.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, batch.compression());
    if (transactionalId != null) {
      config.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, transactionalId);
    }
    var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    if (transactionalId != null) {
      producer.initTransactions();
    }
    return producer;
  }

  static ProducerRecord<byte[], byte[]> record(String topic, Message m) {
    Long time = Instant.parse(m.time()).toEpochMilli();
    var record = new ProducerRecord<>(topic, null, time > 0 ? time : null, m.key(), m.value());
    if (m.headers() != null) {
      m.headers().forEach(h -> record.headers().add(new RecordHeader(h.key(), h.value())));
    }
    return record;
  }

  static void read(String servers, String[] topics) throws Exception {
    Map<String, Object> config =
        Map.of(
            ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, servers,
            ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
    try (var consumer =
        new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> partitions = new ArrayList<>();
      for (String topic : topics) {
        consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
      }
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      var ends = consumer.endOffsets(partitions);
      while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
        for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
          List<Header> headers = new ArrayList<>();
          r.headers().forEach(h -> headers.add(new Header(h.key(), h.value())));
          String time = Instant.ofEpochMilli(r.timestamp()).toString();
          System.out.println(
              JSON.writeValueAsString(
                  new Message(r.topic(), r.partition(), r.offset(), r.key(), r.value(), headers, time)));
        }
      }
    }
  }
}
