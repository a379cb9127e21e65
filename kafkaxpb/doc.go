// Package kafkaxpb is the configuration of kafkax as protobuf messages,
// generated from kafkax.proto. The kafkax package takes them with SetupProducer
// and SetupConsumer, or as options.
package kafkaxpb

//go:generate go -C ../internal/protogen run . ../.. kafkaxpb/kafkax.proto
