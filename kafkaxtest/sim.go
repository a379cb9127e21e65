package kafkaxtest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest/history"
	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// Sim is a Kafka cluster inside the test, with all that a test may do to it.
// Its methods are safe for concurrent use, and end the test when they fail, so
// they belong on the goroutines of the test and not in handlers.
type Sim struct {
	// T is the test that the cluster belongs to. Inside [Run] it is the one to
	// use: the context of a test outside of the simulation never ends there.
	T testing.TB

	options  options
	virtual  bool
	network  *network.Network
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	feedDial func(ctx context.Context, network, address string) (net.Conn, error) // no fault is for it
	backend  backend
	proxied  []string
	feed     *kgo.Client // writes and asks on behalf of the test
	began    time.Time

	mu      sync.Mutex
	counter int
	lines   []line
	changed chan struct{} // closed when something has happened
	handled []Handled
	done    map[place]bool                    // what was handled without an error
	joins   map[string]*kmsg.JoinGroupRequest // the last of each group
	closers []func()

	events   *history.History
	assigned map[memberOf][]assigned // what members have
	attempts map[callOf]int          // of messages that are not handled
	made     map[string]int          // how often a topic was made again
	deleted  map[string]bool
	ids      map[topicID]history.TopicPartition // the first partitions of the topics that they are of

	altering  chan struct{}                               // held while records are deleted
	ended     map[string][]history.Log                    // of topics that were deleted
	went      map[history.TopicPartition]map[int64]stored // what was there when some were
	compacted map[string]bool
}

// Run is a test inside a simulation: f and all that it starts run in a bubble of
// [testing/synctest], on a virtual clock, against a cluster in memory. The clock
// stands still while anything runs, and jumps to the next timer when everything
// waits: an outage of an hour takes milliseconds. Clients are made with
// [Sim.Consumer] and [Sim.Producer], or with the options of
// [Sim.ConsumerOptions] and [Sim.ProducerOptions], and must be closed before f
// returns if it made them itself; what waits for something outside, such as a
// real connection or a signal, stops the clock.
//
// Run returns when all has ended. A goroutine that is then still blocked fails
// the test: it is a leak.
func Run(t *testing.T, f func(s *Sim), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, true, opts)
		defer s.close()
		s.start()
		f(s)
	})
}

// Start makes the same cluster on loopback and the wall clock, for code that
// cannot run inside [Run]: it dials by itself, uses other clients, or cgo. It is
// closed with the test.
func Start(t testing.TB, opts ...Option) *Sim {
	t.Helper()
	s := newSim(t, false, opts)
	t.Cleanup(s.close)
	s.start()
	return s
}

// Option changes the cluster that [Run] and [Start] make.
type Option func(*options)

type options struct {
	nodes  int
	seed   uint64
	topics map[string]int

	brokers []string
	through []string
	members string // what the names of members begin with

	identify func(kafkax.Message) string
	spare    []kmsg.Key
}

// Nodes is how many brokers the cluster has. Default 1.
func Nodes(n int) Option { return func(o *options) { o.nodes = n } }

// Topic makes a topic before anything else. Default: none. See also
// [Sim.CreateTopic].
func Topic(name string, partitions int) Option {
	return func(o *options) { o.topics[name] = partitions }
}

// Seed decides how long each request and each answer is on its way in a [Run],
// between 20 and 500 microseconds: no two that set out at once arrive at once, and
// so in which order they arrive is the seed's. It decides which node leads each
// partition of a new topic too. The same seed is the same run as far as the program
// itself is deterministic, which leaves the cases of a select that are ready at
// once, the order of maps, timers of the same instant, and what the program draws
// by chance, such as the jitter of retries. Default 1. [Start] adds nothing to the
// way.
func Seed(seed uint64) Option { return func(o *options) { o.seed = seed } }

// SpareJoins makes [Sim.Cut] and [Sim.Down] spare connections on which a member
// waits to be let into its group. A join that is cut leaves a member behind that
// nobody has, and that the group waits for until its session has timed out:
// kafka-go's group joins so. Where a test is not about that, it need not meet it.
func SpareJoins() Option {
	return func(o *options) { o.spare = []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup} }
}

func newSim(t testing.TB, virtual bool, opts []Option) *Sim {
	t.Helper()
	o := options{nodes: 1, seed: 1, topics: map[string]int{}, members: "member"}
	for _, opt := range opts {
		opt(&o)
	}
	s := &Sim{
		T: t, options: o, virtual: virtual, network: network.New(), began: time.Now(),
		changed: make(chan struct{}), joins: map[string]*kmsg.JoinGroupRequest{}, done: map[place]bool{},
		events: new(history.History), assigned: map[memberOf][]assigned{}, attempts: map[callOf]int{},
		made: map[string]int{}, deleted: map[string]bool{}, ids: map[topicID]history.TopicPartition{},
		altering: make(chan struct{}, 1), ended: map[string][]history.Log{}, went: map[history.TopicPartition]map[int64]stored{}, compacted: map[string]bool{},
	}
	s.network.Observe = s.observe
	s.network.Spare = o.spare
	s.dial = new(net.Dialer).DialContext
	s.feedDial = s.dial
	return s
}

// start may fail the test: close ends what there is then.
func (s *Sim) start() {
	s.T.Helper()
	if len(s.options.brokers) > 0 {
		s.attach()
	} else {
		s.boot()
	}
}

// boot makes the cluster in memory.
func (s *Sim) boot() {
	s.T.Helper()
	listen := net.Listen
	s.network.Exempt = feedID
	if s.virtual {
		var n kfake.VirtualNetwork
		listen, s.dial, s.feedDial = n.Listen, s.network.Dial(n.DialContext, firstPort), n.DialContext
		s.network.Latency = s.latency()
	}
	settings := []kfake.Opt{
		kfake.NumBrokers(s.options.nodes),
		kfake.ListenFn(s.network.Listen(listen)),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}
	if s.virtual {
		ports := make([]int, s.options.nodes)
		for i := range ports {
			ports[i] = firstPort + i
		}
		settings = append(settings, kfake.Ports(ports...))
	}
	for topic, partitions := range s.options.topics {
		settings = append(settings, kfake.SeedTopics(int32(partitions), topic))
	}
	cluster, err := kfake.NewCluster(settings...)
	if err != nil {
		s.T.Fatalf("kafkaxtest: the cluster does not start: %v", err)
	}
	m := memory{cluster, s.options.nodes, s.options.seed}
	s.backend = m
	for topic, partitions := range s.options.topics {
		if err := m.spread(topic, partitions); err != nil {
			s.T.Fatalf("kafkaxtest: %v", err)
		}
	}
	s.connect(cluster.ListenAddrs())
}

// connect makes the test's own client.
func (s *Sim) connect(brokers []string) {
	s.T.Helper()
	var err error
	if s.feed, err = kgo.NewClient(s.own(brokers)...); err != nil {
		s.T.Fatalf("kafkaxtest: the test's own client: %v", err)
	}
}

// own is of a client of the test's.
func (s *Sim) own(brokers []string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.Dialer(s.feedDial), kgo.ClientID(feedID),
		kgo.MetadataMinAge(adminPause), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.WithDecompressor(decompressor{}),
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(partitioner)),
	}
}

// firstPort is the first broker's in a simulation.
const firstPort = 9092

// feedID is the client id of the test's own client, which no fault is for.
const feedID = "kafkaxtest"

// partitioner puts a message with a key where kafkax does by default, and one
// without where it says.
func partitioner(string) func(*kgo.Record, int) int {
	return func(r *kgo.Record, n int) int {
		if r.Key == nil {
			return int(r.Partition)
		}
		partitions := make([]int, n)
		for i := range partitions {
			partitions[i] = i
		}
		return kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: r.Key}, partitions...)
	}
}

// close ends what the simulation made, the last first.
func (s *Sim) close() {
	s.mu.Lock()
	closers := s.closers
	s.closers = nil
	s.mu.Unlock()
	for _, f := range slices.Backward(closers) {
		f()
	}
	if s.feed != nil {
		s.feed.Close()
	}
	if s.backend != nil {
		s.backend.close()
	}
	s.network.Shut()
}

// Brokers are the addresses of the cluster, in the order of its nodes. In a
// [Run] only [Sim.Dial] reaches them.
func (s *Sim) Brokers() []string { return s.backend.brokers() }

// Dial is for [kafkax.WithConsumerDial] and [kafkax.WithProducerDial], or for
// any other client that takes one.
func (s *Sim) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return s.dial(ctx, network, address)
}

// ConsumerOptions are what a consumer needs to reach this cluster and nothing
// else: brokers and dial, without the environment. Options of your own follow
// them.
func (s *Sim) ConsumerOptions() []kafkax.ConsumerOption {
	return []kafkax.ConsumerOption{
		kafkax.WithConsumerNoEnv(),
		kafkax.WithConsumerBrokers(s.Brokers()...),
		kafkax.WithConsumerDial(s.Dial),
		kafkax.WithConsumerErrorLogger(s.logger()),
	}
}

// ProducerOptions are for a producer what ConsumerOptions are for a consumer.
func (s *Sim) ProducerOptions() []kafkax.ProducerOption {
	return []kafkax.ProducerOption{
		kafkax.WithProducerNoEnv(),
		kafkax.WithProducerBrokers(s.Brokers()...),
		kafkax.WithProducerDial(s.Dial),
		kafkax.WithProducerErrorLogger(s.logger()),
	}
}

func (s *Sim) logger() logger { return logger{sim: s} }
