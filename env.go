package kafkax

// LoadProducerFromEnv resolves the defaults, the file that KAFKAX_CONFIG_FILE
// names and the environment, for a program that wants to see or change the
// result before it gives it to [WithProducerConfig]. [NewProducer] does the same
// by itself.
//
// Brokers may still be missing: [NewProducer] asks for them. Any other problem
// is in the one error, which matches [ErrInvalidConfig].
func LoadProducerFromEnv() (ProducerConfig, error) {
	return resolve(osSurroundings, []ProducerOption(nil), false)
}

// LoadConsumerFromEnv resolves the defaults, the file that KAFKAX_CONFIG_FILE
// names and the environment, for a program that wants to see or change the
// result before it gives it to [WithConsumerConfig]. [NewConsumer] does the same
// by itself.
//
// Brokers, the topic, and both the group and the partition may still be missing:
// [NewConsumer] asks for them. Any other problem is in the one error, which
// matches [ErrInvalidConfig].
func LoadConsumerFromEnv() (ConsumerConfig, error) {
	return resolve(osSurroundings, []ConsumerOption(nil), false)
}
