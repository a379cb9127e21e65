package demo

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bi-common/kafkax"
)

// Topic is one that an example needs.
type Topic struct {
	Name string
	Fill []kafka.Message // written when the topic is made
}

// Broker sees to it that there is a cluster with the topics, and says which. It
// is the one that conn names or, if conn names none, a broker in this process,
// whose address conn then has. The function stops that.
func Broker(ctx context.Context, out *log.Logger, conn *kafkax.ConnectionConfig, topics ...Topic) (stop func(), err error) {
	if len(conn.Brokers) > 0 {
		out.Printf("broker: %s", strings.Join(conn.Brokers, ", "))
		return func() {}, makeTopics(ctx, conn, topics)
	}
	cluster, err := start(conn)
	if err != nil {
		return nil, err
	}
	out.Print("broker: in this process; KAFKAX_BROKERS names another")
	if err := makeTopics(ctx, conn, topics); err != nil {
		cluster.Close()
		return nil, err
	}
	return cluster.Close, nil
}

func start(conn *kafkax.ConnectionConfig, opts ...kfake.Opt) (*kfake.Cluster, error) {
	opts = append(opts,
		kfake.NumBrokers(1),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}), // nobody else will join
	)
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start a broker in this process: %w", err)
	}
	conn.Brokers = cluster.ListenAddrs()
	return cluster, nil
}

// makeTopics makes and fills the topics that are not there. Kafkax itself never
// creates a topic: partitions and replicas are a decision.
func makeTopics(ctx context.Context, conn *kafkax.ConnectionConfig, topics []Topic) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cfg, err := kafkax.LoadProducerFromEnv()
	if err != nil {
		return err
	}
	cfg.Brokers, cfg.TLS, cfg.SASL = conn.Brokers, conn.TLS, conn.SASL
	cfg.Async = false // what is filled must be there before the example begins
	producer, err := kafkax.NewProducer(kafkax.WithProducerConfig(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()

	if err := producer.Ping(ctx); err != nil {
		return err
	}
	for _, t := range topics {
		if err := makeTopic(ctx, producer, t); err != nil {
			return fmt.Errorf("make topic %s: %w", t.Name, err)
		}
	}
	return nil
}

func makeTopic(ctx context.Context, producer *kafkax.Producer, t Topic) error {
	w := producer.Writer() // connects as the producer does, TLS and SASL included
	client := &kafka.Client{Addr: w.Addr, Transport: w.Transport}
	res, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic:             t.Name,
		NumPartitions:     3,
		ReplicationFactor: -1, // as many as the cluster likes
		ConfigEntries: []kafka.ConfigEntry{
			// Events of 2018 would be deleted at once.
			{ConfigName: "retention.ms", ConfigValue: "-1"},
		},
	}}})
	if err == nil {
		err = res.Errors[t.Name]
	}
	switch {
	case errors.Is(err, kafka.TopicAlreadyExists):
		return nil
	case err != nil || len(t.Fill) == 0:
		return err
	}
	msgs := make([]kafka.Message, len(t.Fill))
	for i, m := range t.Fill {
		m.Topic = t.Name
		msgs[i] = m
	}
	return producer.WriteMessages(ctx, msgs...)
}
